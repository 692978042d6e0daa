"""The records of a history, and the file in which they stand: a line of JSON each, with the seconds since its begin."""

import pathlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import msgspec

ACKNOWLEDGING = frozenset({102, 200, 201, 202, 204})
"""Status codes of a push that acknowledge its message (https://cloud.google.com/pubsub/docs/push#receive_push)."""

STORING = frozenset({200, 412})
"""Status codes of an upload after which the object is there: it was written, now or by an earlier attempt."""


class _Record(msgspec.Struct, tag_field="what", tag=str.lower, kw_only=True):
    """A line of a history.

    Attributes:
        at: Seconds since the begin of the history.
    """

    at: float = 0.0

    @property
    def names(self) -> Iterable[str]:
        """The events and objects that it is about; none if it is about all."""
        return ()


class Note(_Record):
    """Something that happened to a process.

    Attributes:
        text: A sentence about it.
    """

    text: str

    def describe(self, name: str) -> str:
        return self.text


class _OfEvent(_Record):
    """A line about an event."""

    event_id: str

    @property
    def names(self) -> Iterable[str]:
        return (self.event_id,)


class Published(_OfEvent):
    """A message that was published; several may have the same event.

    Attributes:
        payload: Digest of its payload.
        tables: The tables of which at least one must have the event, and no other one may.
    """

    payload: str
    tables: Sequence[str]

    def describe(self, name: str) -> str:
        return f"{name} is published, and belongs into {' or '.join(self.tables)}"


class Fault(_Record):
    """A fault of a request.

    Attributes:
        service: The service.
        fault: The name of the fault.
        request: Method and path.
        events: The events of the request, as far as the proxy knows them.
    """

    service: str
    fault: str
    request: str
    events: Sequence[str] = ()

    @property
    def names(self) -> Iterable[str]:
        return self.events

    def describe(self, name: str) -> str:
        return f"{self.service}: {self.fault}: {self.request}"


class Upload(_Record):
    """An upload that has reached Cloud Storage.

    Attributes:
        uri: Address of the object.
        events: The events that it has; of a load file with the archive object that each names, otherwise empty.
        status: Status code of the answer; 0 if there was none.
    """

    uri: str
    events: dict[str, str]
    status: int

    @property
    def names(self) -> Iterable[str]:
        return (self.uri, *self.events)

    def describe(self, name: str) -> str:
        return f"{self.uri} is uploaded{f' with {name}' * (name != self.uri)}: {self.status or 'no answer'}"


class Insert(_Record):
    """A request of `insertAll` that has reached BigQuery.

    Attributes:
        table: Name of the table.
        inserted: Event id and archive object of the rows that BigQuery has taken.
        rejected: Reasons of the others, by event id.
        status: Status code of the answer; 0 if there was none.
    """

    table: str
    inserted: Sequence[tuple[str, str]]
    rejected: dict[str, str]
    status: int

    @property
    def names(self) -> Iterable[str]:
        return (*(event_id for event_id, _ in self.inserted), *self.rejected)

    def describe(self, name: str) -> str:
        uris = [uri for event_id, uri in self.inserted if event_id == name]
        result = f"inserted, with {uris[0]}" if uris else f"not inserted: {self.rejected[name]}"
        return f"{self.table}: a row of {name} is {result}"


class Loaded(_Record):
    """A load job that has loaded its files, at the moment at which BigQuery has said it.

    Attributes:
        job: Its id.
        files: Addresses of the load files.
    """

    job: str
    files: Sequence[str]

    @property
    def names(self) -> Iterable[str]:
        return self.files

    def describe(self, name: str) -> str:
        return f"{name} is loaded by job {self.job}"


class Answer(_OfEvent):
    """The answer of an instance to a push, which may be lost on its way.

    Attributes:
        status: Its status code; 0 if there was none.
    """

    status: int

    def describe(self, name: str) -> str:
        verb = "acknowledged" if self.status in ACKNOWLEDGING else "rejected"
        return f"{name} is {verb}: {self.status}" if self.status else f"{name} has no answer"


class Acknowledgement(_Record):
    """A request that acknowledges messages."""

    events: Sequence[str]

    @property
    def names(self) -> Iterable[str]:
        return self.events

    def describe(self, name: str) -> str:
        return f"{name} is acknowledged"


class Archived(_Record):
    """An object of the archive, as it is in the end.

    Attributes:
        uri: Its address.
        lines: Event id and digest of the payload of each line.
    """

    uri: str
    lines: Sequence[tuple[str, str]]

    @property
    def names(self) -> Iterable[str]:
        return (self.uri, *(event_id for event_id, _ in self.lines))

    def describe(self, name: str) -> str:
        count = len([event_id for event_id, _ in self.lines if name in {event_id, self.uri}])
        return f"in the end {self.uri} has lines{f' of {name}' * (name != self.uri)}: {count}"


class StoredRow(_OfEvent):
    """Rows of a table, or dead letters, that are equal, as they are in the end.

    Attributes:
        table: Name of the table.
        archive_uri: The archive object that they name.
        content_digest: Digest of their content.
        count: Their number.
    """

    table: str
    archive_uri: str
    content_digest: str | None
    count: int = 1

    def describe(self, name: str) -> str:
        return f"in the end {self.table} has rows of {name} with {self.archive_uri}: {self.count}"


class Shown(_OfEvent):
    """Rows of a deduplicated view, as they are in the end.

    Attributes:
        table: Name of the view's table.
        count: Their number.
    """

    table: str
    count: int

    def describe(self, name: str) -> str:
        return f"in the end the deduplicated view of {self.table} has rows of {name}: {self.count}"


class Pending(_Record):
    """A load file that is left in the end.

    Attributes:
        uri: Its address.
    """

    uri: str

    @property
    def names(self) -> Iterable[str]:
        return (self.uri,)

    def describe(self, name: str) -> str:
        return f"in the end {name} is left"


class End(_Record):
    """The end of the history: all that is stored has been recorded."""

    def describe(self, name: str) -> str:
        return "the history ends"


type Record = (
    Note
    | Published
    | Fault
    | Upload
    | Insert
    | Loaded
    | Answer
    | Acknowledgement
    | Archived
    | StoredRow
    | Shown
    | Pending
    | End
)


class Recorder:
    """Appends records to a file, from any thread.

    Args:
        file: The file, which must not exist.
        title: The first line: what is recorded.
    """

    def __init__(self, file: pathlib.Path, title: str) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._encode = msgspec.json.Encoder().encode
        self._begin = time.monotonic()
        # Without a buffer: a process that is killed leaves all that it has recorded.
        self._stream = file.open("xb", buffering=0)
        self.add(Note(title))

    def add(self, *records: Record) -> None:
        """Append records, which happen now."""
        with self._lock:
            now = round(time.monotonic() - self._begin, 4)
            for record in records:
                record.at = now
            self._stream.write(b"".join(self._encode(record) + b"\n" for record in records))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_records(file: pathlib.Path) -> Iterator[Record]:
    """Yield the records of a file, without the last line where a kill has cut it off."""
    decode = msgspec.json.Decoder(Record).decode
    with file.open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                yield decode(line)
