"""Erase persons from the undeliverable messages, the dead letters, the archive and the tables, in this order.

The archive shows whose the dead letters are that are too long for their table; and a reconciliation would restore rows
that are still in the archive. Each step finds by itself what it has to erase, so that the next run completes an
interrupted one.
"""

import dataclasses
import time
from collections.abc import Callable
from datetime import datetime

from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from functions.archive.envelope import decode_line
from functions.archive.pending import load_files
from functions.files.sources import Unreadable
from functions.settings import Settings
from functions.tables import Tables
from sluice.erase.archive import Advance, ArchiveErasure
from sluice.erase.checkpoint import Checkpoint
from sluice.erase.dead_letters import DeadLetters
from sluice.erase.deletions import Deletions, Patience
from sluice.erase.ownership import Persons
from sluice.erase.report import Erased
from sluice.erase.rows import Rows
from sluice.replay.undeliverable import Lease, Undeliverable


@dataclasses.dataclass(slots=True)
class Erasure:
    """A run of the erasure.

    Attributes:
        persons: Persons to erase.
        client: Client of the datasets' project.
        storage: Client of the archive's project.
        settings: Datasets and archive.
        dry_run: Report what would be erased; change nothing.
        patience: Limits of the wait for rows of the last 90 minutes.
        checkpoint: Hours of the archive that were read; None to read all, and to keep no record.
        erased: Counts of the data that was erased so far.
    """

    persons: Persons
    client: bigquery.Client
    storage: StorageClient
    settings: Settings
    dry_run: bool = False
    patience: Patience = dataclasses.field(default_factory=Patience)
    checkpoint: Checkpoint | None = None
    erased: Erased = dataclasses.field(default_factory=Erased)
    _waited: float = 0.0
    """Seconds of the wait for load files."""

    def __call__(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        undeliverable: Undeliverable | None = None,
        advance: Advance = lambda _text, _objects=(): None,
    ) -> Erased:
        """Erase the persons; `erased.is_complete` is whether no data remains.

        Args:
            start: Start of the arrival times to read from the archive; None for the beginning.
            end: End of the arrival times; None for the end.
            undeliverable: Messages of the dead-letter subscription; None to skip them.
            advance: Called with a description of the progress, and the objects that were read since the last call.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery or Cloud Storage rejected a request or did not answer.
        """
        self._wait_for_loads(advance)
        if undeliverable is not None:
            self._undeliverable(undeliverable)
        table = Tables(self.settings).dead_letters
        deletions = Deletions(self.client, self.erased, self.dry_run, self.patience)
        dead_letters = DeadLetters(self.persons, self.storage, table, deletions, self.erased)
        bucket, checkpoint = self.settings.archive_bucket, self.checkpoint
        archive = ArchiveErasure(
            self.persons, self.storage, bucket, dead_letters, self.erased, self.dry_run, checkpoint
        )
        was_erased = checkpoint.has_erased if checkpoint else lambda _: False
        dead_letters.erase()
        archive.erase(start, end, advance)
        # Events may have arrived since the dead letters were searched: they are gone from the archive before their rows
        # are there.
        self._wait_for_loads(advance)
        dead_letters.delete_late(archive.late)
        Rows(self.persons, self.client, self.settings, dead_letters, deletions, self.erased, was_erased).erase()
        deletions.wait(advance)
        archive.erase_needed(letters_deleted=not deletions.is_waiting(table))
        dead_letters.list_uncertain()
        return self.erased

    def _wait_for_loads(self, advance: Callable[[str], object]) -> None:
        """Wait until the load files of batch mode are loaded: their rows would come after those that are erased."""
        bucket = self.storage.bucket(self.settings.archive_bucket)
        waiting = {file.name for file in load_files(bucket)}
        while waiting and not self.dry_run:
            if self._waited + self.patience.pause > self.patience.seconds:
                self.erased.add_remaining(
                    f"{len(waiting)} load files: their rows are in no table yet;"
                    " run `sluice drain --loads-only`, and then the command again"
                )
                return
            advance(f"{len(waiting)} load files of batch mode are not loaded yet")
            time.sleep(self.patience.pause)
            self._waited += self.patience.pause
            waiting &= {file.name for file in load_files(bucket)}

    def _undeliverable(self, messages: Undeliverable) -> None:
        """Acknowledge the persons' messages, which deletes them. All others are returned."""
        self.erased.messages = 0
        try:
            for line in messages.lines():
                envelope = decode_line(line.data)
                verdict = self.persons.judge(envelope.message())
                if not verdict.belongs_to_person:
                    self.erased.add_verdict(verdict, f"event {envelope.event_id} in {line.source}")
                elif isinstance(line.origin, Lease):
                    self.erased.messages += 1
                    if not self.dry_run:
                        messages.acknowledge([line.origin.ack_id])
        except Unreadable as error:
            self.erased.remaining.append(f"undeliverable messages: {error}")
