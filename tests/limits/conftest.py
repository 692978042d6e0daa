"""A served function on the stand-in for the cloud, and what the kernel says of it."""

import contextlib
import dataclasses
import json
import pathlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from fake_google import scripted
from fake_google.scripted import Cloud
from sluice.local.functions import Function, serving
from tests.support import samples
from tests.support.ingest_worker import Worker

collect_ignore = [] if sys.platform == "linux" else ["test_memory.py", "test_soak.py"]
"""They read /proc."""


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """The ingest function, served as in production.

    Attributes:
        function: Its process.
        worker: Gunicorn's worker.
        cloud: What it writes to.
    """

    function: Function
    worker: Worker
    cloud: Cloud

    def errors(self) -> list[str]:
        """Lines of its log that say that something went wrong, but for flushes."""
        lines = self.function.child.log.read_text().splitlines()
        return [line for line in lines if not line.startswith('{"severity":') or '"message":"flush"' not in line]


@contextlib.contextmanager
def served(folder: pathlib.Path, **settings: str) -> Iterator[Served]:
    """Serve the ingest function while the context lasts, with settings as environment variables."""
    with scripted.running() as cloud:
        environment = {
            "BIGQUERY_EMULATOR_HOST": cloud.url,
            "STORAGE_EMULATOR_HOST": cloud.url,
            "GOOGLE_CLOUD_PROJECT": "project",
            "ARCHIVE_BUCKET": "archive",
            **settings,
        }
        cloud.remembers = False
        with serving("ingest", folder, environment, "ingest") as function:
            yield Served(function, Worker.of(function), cloud)


def payload(event_type: str, **changes: Any) -> bytes:
    """A valid event of now, as compact as can be."""
    time_field = "order_date" if event_type == "order" else "timestamp"
    event = samples.event(event_type, **{time_field: datetime.now(UTC).isoformat(), **changes})
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


PAYLOADS = [payload(event_type) for event_type in samples.EVENTS]
