"""An hour of an archive that is written, compacted and erased, and what it has to have at any time."""

import contextlib
import dataclasses
import functools
import gzip
import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.cloud.storage import Client as StorageClient

from functions.archive import compacted_file, compaction, layout
from functions.archive.compaction import HourCompaction
from functions.archive.envelope import Envelope, encode_lines, read_envelopes
from functions.archive.reader import ArchiveReader, CompactedObject, ObjectNotFound, object_at
from functions.archive.rewriter import rewrite
from functions.archive.summary import Summary

HOUR = datetime(2026, 11, 23, 9, tzinfo=UTC)
TYPES = {"order", "inventory"}
PERSONS = ("ada", "bob")


class Killed(BaseException):
    """Ends a program at once."""


@contextlib.contextmanager
def small_objects() -> Iterator[None]:
    """Let a few events fill a block, a compacted object and a list, and let requests come in one order."""
    sizes = {"MAX_BYTES": 700, "_BLOCK_BYTES": 500, "_MAX_BLOCKS": 3}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in sizes.items():
            patch.setattr(compacted_file, name, value)
        patch.setattr(compaction, "MAX_LISTED", 5)
        patch.setattr(compaction, "_READ_OBJECTS", 2)
        patch.setattr(compaction, "THREADS", 1)
        yield


@contextlib.contextmanager
def interrupted(
    client: StorageClient, which: int | str, action: Callable[[], object], *, after: bool = False
) -> Iterator[list[str]]:
    """Do something before or after one of the requests that a client sends to Cloud Storage.

    The list has the method of the request, once it is sent.

    Args:
        client: The client.
        which: Number of the request, or the first one of a method.
        action: Called at the request.
        after: Whether it is called after the request, instead of before.
    """
    session, numbers, reached = client._http, itertools.count(1), list[str]()
    send = session.request

    def request(method: str, *args: Any, **options: Any) -> Any:
        is_it = which in {next(numbers), method} and not reached
        if is_it:
            reached.append(method)
        if is_it and not after:
            action()
        response = send(method, *args, **options)
        if is_it and after:
            action()
        return response

    session.request = request
    try:
        yield reached
    finally:
        session.request = send


@dataclasses.dataclass
class CompactedHour:
    """An hour of an archive.

    Attributes:
        client: Makes a client of its storage.
        bucket: Its bucket.
        hour: The hour.
        expected: Event ids by the name of the original object.
    """

    client: Callable[[], StorageClient]
    bucket: str
    hour: datetime = HOUR
    expected: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def storage(self) -> StorageClient:
        return self.client()

    @property
    def reader(self) -> ArchiveReader:
        return ArchiveReader(self.storage, self.bucket)

    def write(self, second: int, events: Sequence[str]) -> str:
        """Write an object of events, each `PERSON-...`, that arrived in a second of the hour; return its address."""
        name = layout.object_name(self.hour + timedelta(seconds=second), f"{len(self.expected):012x}", 1)
        envelopes = [self.envelope(event_id) for event_id in events]
        blob = self.storage.bucket(self.bucket).blob(name)
        blob.metadata = Summary.of(envelopes, TYPES).metadata()
        self.expected[name] = list(events)
        blob.upload_from_string(gzip.compress(encode_lines(envelopes)), content_type="application/gzip")
        return layout.address(self.bucket, name)

    def envelope(self, event_id: str) -> Envelope:
        return Envelope(
            event_id=event_id,
            event_type="order",
            message_id=f"m-{event_id}",
            publish_time=self.hour,
            attributes={"event_id": event_id},
            payload=f'{{"customer_id": "{event_id.partition("-")[0]}", "event": "{event_id}"}}',
        )

    def compact(self) -> None:
        """Compact the hour; whoever interferes, leaves it to the next run."""
        with contextlib.suppress(compaction.HourChanged):
            HourCompaction(self.storage, self.bucket, TYPES)(self.hour)

    def erase(self, person: str) -> None:
        """Erase a person as `sluice erase` does."""
        touched: set[str] = set()

        def edit(uri: str, ndjson: bytes, _: int) -> list[bytes] | None:
            lines = ndjson.splitlines(keepends=True)
            kept = [line for line in lines if f'"{person}-'.encode() not in line]
            if len(kept) == len(lines):
                return None
            touched.add(uri)
            return kept

        for archived in self.reader.stored(self.hour, self.hour + timedelta(hours=1)):
            try:
                rewrite(archived, edit, TYPES)
            except ObjectNotFound:
                touched.add(archived.uri)
        compacted = {archived.uri: archived for uri in touched for archived in self.reader.compacted_of(uri)}
        for archived in compacted.values():
            with contextlib.suppress(ObjectNotFound):
                rewrite(archived, edit, TYPES)
        for name, events in self.expected.items():
            self.expected[name] = [event_id for event_id in events if not event_id.startswith(person)]

    def empty(self) -> list[str]:
        """Delete all that is stored; return the ids of its events, counted or not, in order."""
        ids: list[str] = []
        for blob in self.storage.list_blobs(self.bucket, prefix=layout.hour_prefix(self.hour)):
            ids += (envelope.event_id for envelope in read_envelopes(gzip.decompress(blob.download_as_bytes())))
            self.storage.bucket(self.bucket).delete_blob(blob.name)
        return sorted(ids)

    @property
    def objects(self) -> tuple[int, int]:
        """Number of the original and of the compacted objects."""
        stored = list(self.reader.stored(self.hour, self.hour + timedelta(hours=1)))
        compacted = sum(isinstance(archived, CompactedObject) for archived in stored)
        return len(stored) - compacted, compacted

    def check(self) -> None:
        """Check that each event is read once, by listing and by address."""
        expected = {name: events for name, events in self.expected.items() if events}
        bounds = (None, self.hour + timedelta(minutes=20), self.hour + timedelta(minutes=40), None)
        for pieces in ([(None, None)], list(itertools.pairwise(bounds))):
            listed = [
                original
                for start, end in pieces
                for archived in self.reader.objects(start or self.hour, end or self.hour + timedelta(hours=1))
                for original in archived.originals()
            ]
            assert sorted(original.uri for original in listed) == sorted(
                layout.address(self.bucket, name) for name in expected
            )
            for original in listed:
                name = original.uri.removeprefix(f"gs://{self.bucket}/")
                assert original.envelopes() == [self.envelope(event_id) for event_id in expected[name]]
        for name, events in self.expected.items():
            archived = object_at(layout.address(self.bucket, name), self.storage)
            try:
                assert [envelope.event_id for envelope in archived.envelopes()] == events
            except ObjectNotFound:
                assert not events
        for whole in self.reader.objects(self.hour, self.hour + timedelta(hours=1)):
            if whole.summary:
                envelopes = [envelope for original in whole.originals() for envelope in original.envelopes()]
                assert whole.summary == Summary.of(envelopes, TYPES)
