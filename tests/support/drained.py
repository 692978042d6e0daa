"""Datasets and a subscription of a test's own, for batch mode."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from functions.drain.drain import Drain, DrainReport
from functions.settings import Settings
from functions.system import System
from sluice.local.names import PROJECT, topic_name
from sluice.local.stack import Emulators, create_resources
from sluice.publish import Publication, publish
from sluice.shop.generator import Generated, generate
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.waiting import wait_until

TABLES = ("orders", "inventory", "user_activity", "dead_letters")


@dataclasses.dataclass(frozen=True)
class Drained:
    """A topic with a subscription, and the datasets into which it is drained."""

    datasets: Datasets
    settings: Settings
    topic: str

    def publish(self, count: int, seed: int = 1) -> list[Generated]:
        """Publish events of a shop, some of them bad, and return them."""
        start = datetime.now(UTC)
        events = list(itertools.islice(generate(seed=seed, start=start, bad_share=0.05), count))
        publish((Publication(event.data, event.attributes) for event in events), self.topic)
        return events

    def new(self, ahead: timedelta = timedelta()) -> Drain:
        """Return another instance, with clients of its own and a clock that is ahead."""
        return Drain.build(self.settings, System(now=lambda: datetime.now(UTC) + ahead))

    def drain(self) -> DrainReport:
        """Run another instance once."""
        return self.new()()

    def settle(self, ahead: timedelta = timedelta()) -> None:
        """Run until nothing is left to load."""

        def is_settled() -> bool:
            report = self.new(ahead)()
            return not report.errors and report.loads is not None and report.loads.pending_files == 0

        wait_until(is_settled, "everything is loaded", pause=0.1)

    def publish_data(self, data: bytes, event_id: str) -> None:
        """Publish a payload."""
        publish([Publication(data, {"event_id": event_id})], self.topic)

    def ids(self) -> dict[str, list[str]]:
        """Event ids by table, sorted, with duplicates."""
        events = {table: self.datasets.ids(f"live.{table}") for table in TABLES[:-1]}
        return events | {"dead_letters": sorted(row["event_id"] for row in self.datasets.rows("live.dead_letters"))}

    def load_objects(self) -> list[str]:
        """Names of all objects of the load jobs."""
        return [blob.name for blob in self.datasets.storage.list_blobs(self.settings.archive_bucket, prefix="load/")]


@contextlib.contextmanager
def drained(on: Emulators) -> Iterator[Drained]:
    """A topic, a subscription and datasets, while the context lasts."""
    with fresh_datasets(on) as datasets:
        name = datasets.settings.dataset.replace("_", "-")
        create_resources(on, name)
        settings = msgspec.structs.replace(
            datasets.settings, subscription=f"projects/{PROJECT}/subscriptions/{name}-ingest"
        )
        yield Drained(datasets, settings, topic_name(name))
