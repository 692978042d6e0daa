"""The clients from which the pages of the console get their data."""

import dataclasses
import functools
import os

from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from functions.archive.envelope import Envelope
from functions.archive.reader import object_at
from functions.clients import bigquery_client, storage_client
from functions.settings import Settings
from sluice.local.data_folder import DataFolder, RunningStack
from sluice.queries import short_retry
from sluice.stored_events import StoredEvents

_CACHED_OBJECTS = 256
"""Maximum number of archive objects that are kept. An object never changes."""


@dataclasses.dataclass(frozen=True, slots=True)
class LocalStack:
    """The local stack that the console shows, and may change.

    Attributes:
        data: Its data folder.
        topic: Full name of the topic that is delivered to `ingest`.
    """

    data: DataFolder
    topic: str

    @property
    def running(self) -> RunningStack | None:
        """The stack as it runs now; None if it does not."""
        return self.data.running()

    @property
    def pubsub(self) -> str:
        """HOST:PORT of its Pub/Sub emulator."""
        return os.environ["PUBSUB_EMULATOR_HOST"]


class Sources:
    """The clients of a deployment.

    Args:
        settings: Settings of the deployment.
        local: The local stack, if it is one. Without it the console only reads.

    Attributes:
        settings: Settings of the deployment.
        local: The local stack, if it is one.
        bigquery: Client of the datasets' project.
        storage: Client of the archive's project.
        events: Reads the rows and dead letters.
    """

    def __init__(self, settings: Settings, local: LocalStack | None) -> None:
        self.settings = settings
        self.local = local
        self.bigquery: bigquery.Client = bigquery_client(settings)
        self.storage: StorageClient = storage_client(settings)
        self.events = StoredEvents(self.bigquery, settings, short_retry())
        self._envelopes = functools.lru_cache(_CACHED_OBJECTS)(self._read)

    @property
    def stack(self) -> LocalStack:
        """The local stack, for pages and actions that exist on one only."""
        assert self.local, "the page exists on the local stack only"  # noqa: S101
        return self.local

    def envelope(self, archive_uri: str, message_id: str) -> Envelope | None:
        """Return the message of an event as it is in the archive; None if the object does not have it.

        Raises:
            ObjectNotFound, UnreadableObject: The object cannot be read.
        """
        return self._envelopes(archive_uri).get(message_id)

    def days(self, given: int | None) -> int:
        """Return how many days before today an event's own date may be: as given, or all that cost nothing to read.

        In the cloud that is one, as each day is a partition that is billed.
        """
        if given is not None:
            return given
        return self.settings.retention_days if self.local else 1

    def forget(self) -> None:
        """Forget the archive objects that were read: they are deleted."""
        self._envelopes.cache_clear()

    def _read(self, archive_uri: str) -> dict[str, Envelope]:
        return {envelope.message_id: envelope for envelope in object_at(archive_uri, self.storage).envelopes()}
