"""The archive: the raw bytes of every message, good or bad, as the write-ahead log of the tables."""

import base64
import collections
import functools
import gzip
import http
import itertools
import re
import urllib.parse
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import google_crc32c
import msgspec

from functions import delivery
from functions.dead_letter import DeadLetter
from functions.google_api import Api, ApiError
from functions.message import Message
from functions.names import UNKNOWN
from functions.row import Row


class Envelope(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """A line of an archive object: all that it takes to process a message again, exactly.

    docs/archive.md describes it for other readers and writers.

    Attributes:
        event_id: The event's identity.
        event_type: What the payload says of its type, known or not; None if it does not say.
        message_id: Pub/Sub's id of the message.
        publish_time: When Pub/Sub accepted the message.
        attributes: The message's attributes.
        ordering_key: The producer's ordering key; empty without one.
        payload: The payload as text; its UTF-8 is the original bytes.
        payload_base64: The payload instead, where it is not UTF-8.
    """

    event_id: str
    event_type: str | None = None
    message_id: str
    publish_time: datetime
    attributes: dict[str, str]
    ordering_key: str = ""
    payload: str | None = None
    payload_base64: bytes | None = None

    @classmethod
    def seal(cls, message: Message, event_type: str | None) -> "Envelope":
        """Put a message into its envelope."""
        try:
            payload, payload_base64 = message.data.decode(), None
        except UnicodeDecodeError:
            payload, payload_base64 = None, message.data
        return cls(
            event_id=message.event_id,
            event_type=event_type,
            message_id=message.message_id,
            publish_time=message.publish_time,
            attributes=message.attributes,
            ordering_key=message.ordering_key,
            payload=payload,
            payload_base64=payload_base64,
        )

    def message(self) -> Message:
        """The message again, as it was but for the number of its delivery.

        What others have written may have another `event_id` than its message would have: that becomes the attribute.
        """
        data = self.payload_base64 if self.payload is None else self.payload.encode()
        message = Message(
            data=data or b"",
            attributes=self.attributes,
            message_id=self.message_id,
            publish_time=self.publish_time,
            ordering_key=self.ordering_key,
        )
        if self.event_id and self.event_id != message.event_id:
            return msgspec.structs.replace(message, attributes={**self.attributes, "event_id": self.event_id})
        return message


_encode_lines = msgspec.json.Encoder().encode_lines
_decode_lines = msgspec.json.Decoder(Envelope).decode_lines


def read(ndjson: bytes) -> list[Envelope]:
    """The envelopes of an archive object's decompressed bytes.

    Raises:
        msgspec.DecodeError: A line is no envelope.
    """
    return _decode_lines(ndjson)


def folder(time: datetime) -> str:
    """What the names of all objects of an hour of arrival begin with."""
    return f"raw/dt={time.astimezone(UTC):%Y-%m-%d/hr=%H}/"


def earliest(time: datetime) -> str:
    """What sorts before the name of any object that arrived at a time or later, and after those of all others."""
    return f"{folder(time)}{time.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"


_NAME = re.compile(r"raw/dt=(\d{4}-\d\d-\d\d)/hr=(\d\d)/(?:(\d{8}T\d{6}\.\d{6}Z))?")


def arrived(name: str) -> datetime:
    """Return when the events of an object arrived, by its name; of a name without a time, the begin of its hour.

    Raises:
        ValueError: No object of the archive has such a name.
    """
    if found := _NAME.match(name):
        day, hour, time = found.groups()
        text, form = (time, "%Y%m%dT%H%M%S.%fZ") if time else (f"{day} {hour}", "%Y-%m-%d %H")
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    raise ValueError(f"{name} is no name of an object of the archive, which begins with raw/dt=YYYY-MM-DD/hr=HH/")


DIGEST = "deliveries-digest"
"""Key of an object's metadata; no event type has a hyphen in its name."""


class Summary(NamedTuple):
    """What an object's metadata says of its events.

    Attributes:
        counts: Events per type; what is of no known type counts as `unknown`.
        digest: Sum of the digests of their deliveries.
    """

    counts: Mapping[str, int]
    digest: int

    @classmethod
    def of(cls, envelopes: Iterable[Envelope], event_types: Collection[str]) -> "Summary":
        """Sum up the envelopes of an object.

        Args:
            envelopes: All of them.
            event_types: The types that are counted by name.
        """
        counts: collections.Counter[str] = collections.Counter()
        digest = 0
        for envelope in envelopes:
            name = envelope.event_type
            counts[name if name is not None and name in event_types else UNKNOWN] += 1
            digest += delivery.digest(envelope.event_id, envelope.message_id)
        return cls(counts, digest)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str] | None) -> "Summary | None":
        """Read an object's metadata; None where older code or another program has written it."""
        if not metadata or DIGEST not in metadata:
            return None
        try:
            numbers = {name: int(text) for name, text in metadata.items()}
        except ValueError:
            return None
        digest = numbers.pop(DIGEST)
        return cls(numbers, digest)

    def metadata(self) -> dict[str, str]:
        """Return it as an object's metadata, which has room for 8 KiB."""
        return {name: str(count) for name, count in self.counts.items()} | {DIGEST: str(self.digest)}


class _Object(msgspec.Struct, rename="camel"):
    """https://cloud.google.com/storage/docs/json_api/v1/objects#resource."""

    name: str
    metadata: dict[str, str]
    crc32c: str
    content_type: str = "application/gzip"


class _Written(msgspec.Struct):
    """What Cloud Storage answers: the object."""

    name: str


_encode_object = msgspec.json.Encoder().encode
_decode_written = msgspec.json.Decoder(_Written).decode


class Archive:
    """The bucket of the raw events.

    One object for each flush: `raw/dt=YYYY-MM-DD/hr=HH/<time>-<instance>-<seq>.ndjson.gz`, by UTC time of arrival,
    with the `Summary` of its events in the object's metadata.

    Args:
        api: Cloud Storage.
        bucket: Name of the bucket.
        event_types: The types that are counted by name; what is of none of them counts as `unknown`.
    """

    def __init__(self, api: Api, bucket: str, event_types: Collection[str]) -> None:
        self._api = api
        self._bucket = bucket
        self._event_types = event_types
        self._sequence = itertools.count(1)

    @functools.cached_property
    def _instance(self) -> str:
        """Drawn at the first use: the server forks its workers, and each is an instance of its own."""
        return uuid.uuid4().hex[:12]

    def name(self, now: datetime) -> str:
        """A new object's name; no other instance and no other call gets the same."""
        return f"{earliest(now)}-{self._instance}-{next(self._sequence):08d}.ndjson.gz"

    def uri(self, name: str) -> str:
        """The `gs://` address of an object."""
        return f"gs://{self._bucket}/{name}"

    def write(self, name: str, outcomes: Sequence[Row | DeadLetter], timeout: float) -> int:
        """Write the messages of a flush as one object; blocks. Repeats are harmless.

        Args:
            name: From `name`.
            outcomes: What became of the messages.
            timeout: Seconds that it may take at most, retries included.

        Returns:
            The object's size in bytes.

        Raises:
            ApiError: Cloud Storage refused.
            urllib3.exceptions.HTTPError: It did not answer in time, or the connection failed.
            msgspec.DecodeError: Whoever answered, it was not Cloud Storage: this is no object.
        """
        envelopes = [Envelope.seal(outcome.message, outcome.event_type) for outcome in outcomes]
        data = gzip.compress(_encode_lines(envelopes), compresslevel=1)
        checksum = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
        metadata = Summary.of(envelopes, self._event_types).metadata()
        content_type, body = _related(_encode_object(_Object(name, metadata, checksum)), data)
        try:
            _decode_written(self._api.post(self._path, content_type, body, timeout))
        except ApiError as error:
            # The name is ours alone: where it is taken, an earlier try did arrive, and its answer did not.
            if error.status != http.HTTPStatus.PRECONDITION_FAILED:
                raise
        return len(data)

    @property
    def _path(self) -> str:
        bucket = urllib.parse.quote(self._bucket, safe="")
        return f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart&ifGenerationMatch=0&prettyPrint=false"


def _related(resource: bytes, data: bytes) -> tuple[str, bytes]:
    """The content type and the body of https://cloud.google.com/storage/docs/uploading-objects#rest-upload-objects."""
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n".encode()
    middle = f"\r\n--{boundary}\r\ncontent-type: application/gzip\r\n\r\n".encode()
    body = b"".join((head, resource, middle, data, f"\r\n--{boundary}--\r\n".encode()))
    return f'multipart/related; boundary="{boundary}"', body
