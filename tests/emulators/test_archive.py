"""The archive: what lists and reads its objects, also by the query of its page, and what rewrites them."""

import gzip
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from google.api_core.exceptions import PreconditionFailed
from google.cloud.storage import Blob

from functions.archive import layout
from functions.archive.compaction import HourCompaction
from functions.archive.envelope import Envelope, encode_lines
from functions.archive.reader import ArchivedObject, ArchiveReader, ObjectNotFound, UnreadableObject, object_at
from functions.archive.rewriter import KeepsChanging, rewrite
from functions.archive.summary import Summary
from functions.core.message import Message
from functions.events import event_types
from sluice.local.stack import Emulators
from tests.support import samples
from tests.support.datasets import Datasets, fresh_datasets

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


@pytest.fixture
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators) as fresh:
        yield fresh


def test_documented_queries_read_all_that_is_archived(datasets: Datasets) -> None:
    def ask(title: str) -> list[tuple[Any, ...]]:
        query = samples.archive_snippets()[title]
        query = query.replace("PROJECT.DATASET", f"{datasets.client.project}.{datasets.settings.dataset}")
        return sorted(tuple(row) for row in datasets.client.query_and_wait(query))

    assert (ask("bigquery-query"), ask("bigquery-deliveries")) == ([], [])
    payload = json.dumps(samples.event("order")).encode()
    messages = [
        Message(payload, {"event_id": "a", "producer": "shop"}, "m-1", NOW, ordering_key="k"),
        Message(b"\xff{", {"event_id": "b"}, "m-2", NOW),
        Message(b"{", {}, "m-3", NOW),
    ]
    bucket = datasets.storage.bucket(datasets.settings.archive_bucket)

    def write() -> None:
        for number, message in enumerate(messages):
            lines = encode_lines([Envelope.from_message(message, "order")])
            bucket.blob(layout.object_name(NOW, "0", number)).upload_from_string(gzip.compress(lines))

    def compact() -> None:
        HourCompaction(datasets.storage, bucket.name, event_types())(NOW.replace(minute=0))

    for change in (write, compact, write):  # In the end both are there, as where a compaction was interrupted.
        change()
        assert ask("bigquery-query") == [
            ("a", NOW, "shop", payload, "o-1"),
            ("b", NOW, None, b"\xff{", None),
            ("m-3", NOW, None, b"{", None),
        ]
        assert ask("bigquery-deliveries") == [("09", "order", 3)]


def archive(datasets: Datasets, arrived: datetime, *event_ids: str) -> str:
    """Write an object of some events, and return its address."""
    writer = datasets.archive()
    messages = [samples.message(samples.event("order"), event_id=event_id) for event_id in event_ids]
    name = writer.name(arrived)
    writer.write(name, [samples.process(message, NOW) for message in messages], 60)
    return writer.uri(name)


def reader_of(datasets: Datasets) -> ArchiveReader:
    return ArchiveReader(datasets.storage, datasets.settings.archive_bucket)


def originals(datasets: Datasets) -> list[ArchivedObject]:
    return [original for archived in reader_of(datasets).objects() for original in archived.originals()]


def test_objects_are_listed_by_the_time_of_their_arrival(datasets: Datasets) -> None:
    times = [NOW, NOW + timedelta(microseconds=1), NOW + timedelta(hours=1), NOW + timedelta(days=1)]
    first, second, third, fourth = uris = [archive(datasets, time, "a") for time in times]
    bucket = datasets.storage.bucket(datasets.settings.archive_bucket)
    bucket.blob("exports/a").upload_from_string("")
    archived = reader_of(datasets)
    assert [listed.uri for listed in archived.objects()] == uris
    assert [listed.arrived for listed in archived.objects()] == times
    assert [listed.uri for listed in archived.objects(times[1], times[3])] == [second, third]
    assert [listed.uri for listed in archived.objects(end=times[1])] == [first]
    assert [listed.uri for listed in archived.of_day(date(2026, 11, 24))] == [fourth]
    low, high = archived.bounds(times[1], times[3])
    assert [uri for uri in uris if low <= uri < high] == [second, third]


def test_an_object_is_read_by_its_address(datasets: Datasets) -> None:
    uri = archive(datasets, NOW, "a", "b", "a")
    [listed] = originals(datasets)
    for archived in (listed, object_at(uri, datasets.storage)):
        assert [envelope.event_id for envelope in archived.envelopes()] == ["a", "b", "a"]
        assert [envelope.event_id for envelope in archived.envelopes_of("a")] == ["a", "a"]
        assert archived.envelopes_of("c") == []
        assert len(archived.open().read()) == archived.size == listed.size > 0
    assert listed.summary == Summary.of(listed.envelopes(), event_types())


def test_an_object_that_is_gone_or_damaged_has_an_error_of_its_own(datasets: Datasets) -> None:
    uri = archive(datasets, NOW, "a")
    archived = object_at(uri, datasets.storage)
    for damaged in (b"no gzip", gzip.compress(b'{"event_id": "a"}')):
        Blob.from_uri(uri, client=datasets.storage).upload_from_string(damaged)
        with pytest.raises(UnreadableObject):
            archived.envelopes()
    Blob.from_uri(uri, client=datasets.storage).delete()
    with pytest.raises(ObjectNotFound):
        archived.envelopes()
    with pytest.raises(ObjectNotFound):
        rewrite(archived, lambda *_: None, event_types())


def test_an_object_that_was_replaced_since_it_was_listed_is_read(datasets: Datasets) -> None:
    """A reconciliation that took it for deleted would miss its events."""
    archive(datasets, NOW, "a", "b")
    [before] = originals(datasets)
    [listed] = originals(datasets)
    rewrite(listed, lambda _, ndjson, __: ndjson.splitlines(keepends=True)[1:], event_types())
    assert [envelope.event_id for envelope in before.envelopes()] == ["b"]


def test_an_object_that_was_replaced_since_it_was_listed_is_rewritten(datasets: Datasets) -> None:
    """An erasure that took it for deleted would leave the person in it."""
    archive(datasets, NOW, "a", "b", "c")
    [before] = originals(datasets)
    [listed] = originals(datasets)
    for archived in (listed, before):
        rewrite(archived, lambda _, ndjson, __: ndjson.splitlines(keepends=True)[1:], event_types())
    [newest] = originals(datasets)
    assert [envelope.event_id for envelope in newest.envelopes()] == ["c"]


def test_a_rewritten_object_has_the_lines_that_stay_and_their_summary(datasets: Datasets) -> None:
    uri = archive(datasets, NOW, "a", "b")
    [listed] = originals(datasets)
    rewrite(listed, lambda _, ndjson, __: ndjson.splitlines(keepends=True)[1:], event_types())
    [rewritten] = originals(datasets)
    assert [envelope.event_id for envelope in rewritten.envelopes()] == ["b"]
    assert rewritten.summary == Summary.of(rewritten.envelopes(), event_types())
    rewrite(rewritten, lambda *_: None, event_types())
    assert [listed.uri for listed in reader_of(datasets).objects()] == [uri]
    rewrite(rewritten, lambda *_: [], event_types())
    assert list(reader_of(datasets).objects()) == []


def test_concurrently_written_version_is_rewritten_not_overwritten(datasets: Datasets) -> None:
    uri = archive(datasets, NOW, "a", "b")
    [listed] = originals(datasets)
    Blob.from_uri(uri, client=datasets.storage).upload_from_string(gzip.compress(listed.ndjson() * 2))
    rewrite(listed, lambda _, ndjson, __: ndjson.splitlines(keepends=True)[1:], event_types())
    assert [envelope.event_id for envelope in listed.envelopes()] == ["b", "a", "b"]


def test_an_object_that_changes_during_each_attempt_is_given_up(datasets: Datasets) -> None:
    archive(datasets, NOW, "a", "b")
    [listed] = originals(datasets)
    attempts = 0

    def edit(_: str, __: bytes, ___: int) -> Sequence[bytes]:
        nonlocal attempts
        attempts += 1
        raise PreconditionFailed("changed")  # type: ignore[no-untyped-call]

    with pytest.raises(KeepsChanging, match=f"{listed.uri}: others keep changing it"):
        rewrite(listed, edit, event_types())
    assert attempts == 5
