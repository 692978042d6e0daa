"""The same events through push at 0 and 2 s, batch mode and Beam: equal rows, dead letters and archives.

One topic has a subscription for each way. Beam reads the messages as files, from the archive of batch mode.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from functions.archive.envelope import Envelope, encode_lines
from functions.core.pipeline import EventPipeline
from functions.drain.drain import Drain
from functions.settings import Settings
from sluice.demo.check import ArchiveFollower
from sluice.local.functions import serving
from sluice.local.names import PROJECT, topic_name
from sluice.local.stack import ACK_DEADLINE_SECONDS, Emulators, delivering
from sluice.publish import Publication, publish
from sluice.shop.generator import Generated
from tests.support.beam_process import ENVIRONMENT, HOW_TO_GET
from tests.support.command_line import sluice
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.fault_harness import scenario
from tests.support.requires import missing
from tests.support.waiting import wait_until

pytestmark = pytest.mark.check

EVENTS = int(os.environ.get("SLUICE_PARITY_EVENTS", "20000"))
CORRECTED = EVENTS // 50
TABLES = ("orders", "inventory", "user_activity")
WAYS = ("push", "push each 2 s", "batch", "beam")
NAME = "parity"

OF_THE_DELIVERY = {"message_id", "publish_time", "archive_uri"}
"""Columns that say when and where. An event that is published twice may keep the row of either message."""
_TIME_OF_A_RUN = re.compile(r"(?<=ahead of )[^\s\"]+")
TIMES = {"processed_timestamp", "failed_at", "delivery_attempt"}


def messages() -> list[Generated]:
    """Return good, bad and repeated events, late ones, and ones that are too old, in random order."""
    events = [
        *scenario(EVENTS * 8 // 10, 23, bad=0.05, duplicate=0.05),
        *scenario(EVENTS // 10, 24, bad=0.05, shift=timedelta(days=-40)),
        *scenario(EVENTS // 10, 25, bad=0, shift=timedelta(days=-400)),
    ]
    random.Random(23).shuffle(events)
    return events


def corrected(event: Generated) -> Generated:
    """Return an event with the same id and another content."""
    return dataclasses.replace(event, data=event.data[:-1] + b',"note":"corrected"}')


@dataclasses.dataclass(frozen=True)
class Way:
    """A way of the events, and what it has written."""

    datasets: Datasets
    settings: Settings

    def wait_for(self, events: int) -> None:
        """Wait until so many messages are archived, as long as it goes on."""
        follower, archived = ArchiveFollower(self.datasets.storage, self.settings.archive_bucket), 0
        while archived < events:
            before, archived = archived, archived + _wait_for_more(follower)
            assert archived > before

    def rows(self, table: str) -> set[str]:
        """Return the different rows or dead letters of a table, without what says when and where."""
        return {_text(row) for row in self.datasets.rows(f"live.{table}")}

    def shown(self, table: str) -> set[str]:
        """Return the rows of the view that shows each event once."""
        client, dataset = self.datasets.client, self.settings.dataset
        rows = client.query_and_wait(f"SELECT * FROM `{dataset}.{table}_deduplicated`")
        return {_text(dict(row)) for row in rows}

    def messages(self) -> set[bytes]:
        """Return the archived messages."""
        envelopes = itertools.chain.from_iterable(self.datasets.objects().values())
        return {msgspec.json.encode(envelope, order="deterministic") for envelope in envelopes}

    def replayed(self, now: datetime) -> set[tuple[str, str]]:
        """Return the rows and dead letters that the archive has at a time, by table."""
        process = EventPipeline.from_settings(self.settings)
        outcomes = (process(msgspec.json.decode(line, type=Envelope).message(), now) for line in self.messages())
        return {(outcome.table, bytes(outcome.encoded("")).decode()) for outcome in outcomes}


def _text(row: dict[str, Any]) -> str:
    """Return a row as text, without what says when and where."""
    kept = {name: value for name, value in row.items() if name not in OF_THE_DELIVERY | TIMES}
    if ingest := kept.get("ingest"):
        kept["ingest"] = {name: value for name, value in ingest.items() if name not in OF_THE_DELIVERY}
    return _TIME_OF_A_RUN.sub("...", json.dumps(kept, sort_keys=True, default=str))


@pytest.fixture(scope="module")
def ways(running_emulators: Emulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Way]]:
    """All ways, with all events brought in: first the events, then the corrections."""
    if not (ENVIRONMENT / "ready").exists():
        missing(HOW_TO_GET)
    folder = tmp_path_factory.mktemp("parity")
    topic, client = topic_name(NAME), SubscriberClient()
    PublisherClient().create_topic(name=topic)
    with contextlib.ExitStack() as stack:
        made = {name: stack.enter_context(fresh_datasets(running_emulators, views=True)) for name in WAYS}
        opened = {name: Way(datasets, datasets.settings) for name, datasets in made.items()}
        for number, name in enumerate(WAYS[:3]):
            subscription = f"{NAME}-{number}"
            client.create_subscription(
                name=f"projects/{PROJECT}/subscriptions/{subscription}",
                topic=topic,
                ack_deadline_seconds=ACK_DEADLINE_SECONDS,
            )
            if name == "batch":
                continue
            interval = {"FLUSH_INTERVAL": "2"} if "2" in name else {}
            environment = {
                **running_emulators.environment,
                **made[name].environment,
                **interval,
                "CODE_VERSION": "tests",
            }
            function = stack.enter_context(serving("ingest", folder, environment, f"ingest-{number}"))
            stack.enter_context(delivering(running_emulators, subscription, function.url, folder, f"relay-{number}"))
        batch = msgspec.structs.replace(
            made["batch"].settings, subscription=f"projects/{PROJECT}/subscriptions/{NAME}-2"
        )
        drain = Drain.build(batch)
        events = messages()
        good = [event for event in events if event.kind == "good"][:CORRECTED]
        expected = 0
        for part in (events, [corrected(event) for event in good]):
            publish((Publication(event.data, event.attributes) for event in part), topic)
            wait_until(lambda: _is_drained(drain), "batch mode has loaded all", pause=0.1)
            expected += len(part)
            for name in WAYS[:2]:
                opened[name].wait_for(expected)
            _through_beam(opened, folder / f"{expected}.ndjson", expected - len(part))
        yield opened


def _wait_for_more(follower: ArchiveFollower) -> int:
    """Return the number of messages that are archived since the last call, at least one."""
    arrived = 0

    def has_more() -> bool:
        nonlocal arrived
        arrived = sum(1 for _ in follower.new_envelopes())
        return arrived > 0

    wait_until(has_more, "more is archived", pause=2)
    return arrived


def _is_drained(drain: Drain) -> bool:
    report = drain()
    assert not report.errors
    return report.loads is not None and report.loads.pending_files == 0 and report.messages == 0


def _through_beam(ways: dict[str, Way], file: pathlib.Path, before: int) -> None:
    """Give Beam the messages that batch mode has archived since."""
    envelopes = list(itertools.chain.from_iterable(ways["batch"].datasets.objects().values()))
    file.write_bytes(encode_lines(envelopes[before:]))
    ended = sluice(["beam", str(file), "--json"], {**ways["beam"].datasets.environment, "CODE_VERSION": "tests"})
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("table", [*TABLES, "dead_letters"])
def test_rows_and_dead_letters_are_equal(ways: dict[str, Way], table: str) -> None:
    rows = {name: way.rows(table) for name, way in ways.items()}
    assert len(rows["push"]) > EVENTS / 100
    assert {name: rows["push"] ^ others for name, others in rows.items()} == {name: set() for name in WAYS}


@pytest.mark.parametrize("table", TABLES)
def test_views_show_the_same_rows_with_the_corrections(ways: dict[str, Way], table: str) -> None:
    shown = {name: way.shown(table) for name, way in ways.items()}
    assert {name: shown["push"] ^ others for name, others in shown.items()} == {name: set() for name in WAYS}


def test_archives_have_the_same_messages_and_replay_to_the_same(ways: dict[str, Way]) -> None:
    messages = {name: way.messages() for name, way in ways.items()}
    assert len(messages["push"]) >= EVENTS
    assert {name: messages["push"] ^ others for name, others in messages.items()} == {name: set() for name in WAYS}
    now = datetime.now(UTC)
    replayed = {name: way.replayed(now) for name, way in ways.items()}
    assert all(replay == replayed["push"] for replay in replayed.values())
