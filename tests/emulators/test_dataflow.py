"""The pipeline on Apache Beam, against the emulators: the same rows, dead letters and archive as the function's."""

import itertools
import operator
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from functions.message import Message
from ops.generate import generate
from ops.stack.stack import Emulators
from tests.emulators.beam import beam
from tests.emulators.datasets import Datasets, fresh_datasets

TABLES = ("orders", "inventory", "user_activity", "dead_letters")
NOW = datetime.now(UTC)

pytestmark = pytest.mark.check


@pytest.fixture
def by_function(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators) as fresh:
        yield fresh


@pytest.fixture
def by_beam(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators) as fresh:
        yield fresh


def messages(number: int) -> list[Message]:
    generated = generate(seed=17, start=NOW, bad_share=0.05, duplicate_share=0.03)
    return [
        Message(one.data, one.attributes, str(position), NOW)
        for position, one in enumerate(itertools.islice(generated, number))
    ]


def stored(datasets: Datasets) -> dict[str, list[dict[str, Any]]]:
    """All rows, but for what tells of the way: times, and addresses in the archive."""
    return {table: sorted(map(_same, datasets.rows(f"live.{table}")), key=_identity) for table in TABLES}


def _same(row: dict[str, Any]) -> dict[str, Any]:
    row = dict(row)
    if "ingest" in row:
        row["ingest"] = {**row["ingest"], "archive_uri": ""}
    for name in ("processed_timestamp", "archive_uri", "failed_at"):
        row.pop(name, None)
    if row.get("stage") == "time_bounds":  # its message has the time
        row["errors"] = [{**error, "message": ""} for error in row["errors"]]
    return row


def _identity(row: dict[str, Any]) -> tuple[str, str]:
    lineage = row.get("ingest", row)
    return lineage["event_id"], lineage["message_id"]


@pytest.mark.parametrize("writer", ["insert_all", "storage_write"])
def test_files_become_what_the_function_has_made_of_them(by_function: Datasets, by_beam: Datasets, writer: str) -> None:
    sent = messages(200)
    by_function.stream(sent, NOW)
    source = f"gs://{by_function.settings.archive_bucket}/raw/**"
    options = ("--runner=FnApiRunner", f"--input_files={source}", f"--writer={writer}")
    beam("dataflow.main", options, {**by_beam.environment, "CODE_VERSION": "tests"})
    assert stored(by_beam) == stored(by_function)
    archived = itertools.chain.from_iterable(by_beam.objects().values())
    assert sorted((one.message() for one in archived), key=operator.attrgetter("message_id")) == sorted(
        sent, key=operator.attrgetter("message_id")
    )
