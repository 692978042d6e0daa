"""Writes the archive: the raw bytes of every message, good or bad, before its row."""

import functools
import gzip
import itertools
from collections.abc import Collection, Sequence
from datetime import datetime

from functions.archive import layout
from functions.archive.envelope import Envelope, encode_lines
from functions.archive.summary import Summary
from functions.archive.upload import upload
from functions.core.dead_letters import DeadLetter
from functions.core.rows import Row
from functions.ingest.http_client import Api


class Archive:
    """The bucket of the raw events.

    It has one object for each flush, with the `Summary` of its events in the object's metadata.

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
        """Random name of this process; drawn at the first use, since the server forks its workers."""
        return self._api.system.token()[:12]

    def name(self, now: datetime) -> str:
        """Return the name of a new object; no other instance and no other call gets the same."""
        return layout.object_name(now, self._instance, next(self._sequence))

    def uri(self, name: str) -> str:
        """Return the `gs://` address of an object."""
        return layout.address(self._bucket, name)

    def write(self, name: str, outcomes: Sequence[Row | DeadLetter], timeout: float) -> int:
        """Write the messages of a flush as one object; blocks. It may be repeated.

        Args:
            name: From `name`.
            outcomes: Rows and dead letters of the messages.
            timeout: Maximum seconds, retries included.

        Returns:
            The object's size in bytes.

        Raises:
            ApiError: Cloud Storage rejected the request.
            urllib3.exceptions.HTTPError: Cloud Storage did not answer in time, or the connection failed.
            msgspec.DecodeError: The answer is no object, so it is not from Cloud Storage.
        """
        envelopes = [Envelope.from_message(outcome.message, outcome.event_type) for outcome in outcomes]
        data = gzip.compress(encode_lines(envelopes), compresslevel=1)
        metadata = Summary.of(envelopes, self._event_types).metadata()
        upload(self._api, self._bucket, name, data, metadata, timeout)
        return len(data)
