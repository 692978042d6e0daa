"""The ledger: what was replayed, when, by whom, and how it ended."""

import dataclasses
import enum
import itertools
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Self

from google.cloud import bigquery

from functions.core.dead_letters import DeadLetter
from functions.names import REPLAYS
from functions.settings import Settings
from functions.sql import query_config, render
from functions.tables import Tables
from sluice.backfill.builder import BackfillBuilder
from sluice.backfill.load_jobs import LoadJobs
from sluice.backfill.run import Fate, Settled

TABLE = REPLAYS


class ReplaySource(enum.StrEnum):
    """The source from which events are replayed."""

    DEAD_LETTER = "dead_letter"
    ARCHIVE = "archive"
    UNDELIVERABLE = "undeliverable"


class Cause(NamedTuple):
    """The cause of a dead letter: what those of one fingerprint have in common.

    Attributes:
        fingerprint: The same for the same cause; of older code as `sluice dead-letters list` groups them.
        stage: The stage that rejected it.
        event_type: The type that the payload says.
        place: Generalized path of the first error.
        rule: The rule that it broke.
    """

    fingerprint: str
    stage: str
    event_type: str | None
    place: str | None
    rule: str | None


class Origin(NamedTuple):
    """A dead letter that a line is of.

    Attributes:
        cause: Its cause.
        fingerprint: Its own fingerprint.
        transform: Name and digest of the file that changed its payload; None where nothing did.
    """

    cause: Cause
    fingerprint: str
    transform: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Ledger:
    """Writes down what a run does; a listener of the backfill.

    It is written after the events are in their tables. A run that is killed in between leaves events out of it; the
    next run finds them in their tables, and writes them down.

    Attributes:
        client: Client of the datasets' project.
        jobs: Load jobs of its tables.
        settings: Dataset, and version of the code.
        source: The source of the events.
        replayed_at: The time at which the run began; that of its dead letters too.
        replayed_by: The address of the user who runs it.
        replay_id: The run.
    """

    client: bigquery.Client
    jobs: LoadJobs
    settings: Settings
    source: ReplaySource
    replayed_at: datetime
    replayed_by: str
    replay_id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    _numbers: "itertools.count[int]" = dataclasses.field(default_factory=itertools.count)

    @classmethod
    def of_backfill(cls, backfill: BackfillBuilder, source: ReplaySource) -> Self:
        """Return the ledger of a backfill, which the current user runs.

        Raises:
            ValueError: It is a dry run, of which nothing is recorded.
        """
        if backfill.jobs is None or backfill.archive is None:
            raise ValueError("a dry run replays nothing, so it has no ledger")
        user = current_user(backfill.client)
        return cls(backfill.client, backfill.jobs, backfill.settings, source, backfill.now, user)

    def __call__(self, settled: Sequence[Settled]) -> None:
        """Write events down, and wait until that is durable.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery rejected a request, or did not answer.
            Stopped: While it waited.
        """
        records = [self._record(result) for result in self._worth_it(settled)]
        if records:
            job_id = f"sluice_replay_{self.replay_id}_{next(self._numbers)}"
            self.jobs.load(job_id, Tables(self.settings).replays, records)

    def _worth_it(self, settled: Sequence[Settled]) -> list[Settled]:
        """Return what changes something: what is new in a table, and what closes an open dead letter.

        A dead letter is closed by its own message, whatever other messages have the event's id.
        """
        new = [result for result in settled if result.fate in {Fate.LOADED, Fate.PRESENT}]
        if self.source is ReplaySource.UNDELIVERABLE:
            return new
        repeated = [result for result in settled if result.fate is Fate.REPEATED]
        if self.source is ReplaySource.DEAD_LETTER:
            return new + repeated
        there = [result for result in [*new, *repeated] if result.fate is not Fate.LOADED]
        rows = [result for result in there if not isinstance(result.event.outcome, DeadLetter)]
        still_open = self._open([result.event.identity.event_id for result in rows]) if rows else set()
        return [result for result in new if result.fate is Fate.LOADED] + [
            result for result in rows if _message(result) in still_open
        ]

    def _open(self, event_ids: Sequence[str]) -> set[tuple[str, str]]:
        """Return event id and message id of the open dead letters of these events."""
        query = render(_OPEN, tables=Tables(self.settings))
        open_letters: set[tuple[str, str]] = set()
        for batch in itertools.batched(event_ids, _IDS, strict=False):
            rows = self.client.query_and_wait(query, job_config=query_config(ids=("ARRAY<STRING>", batch)))
            open_letters |= {(row.event_id, row.message_id) for row in rows}
        return open_letters

    def _record(self, settled: Settled) -> dict[str, Any]:
        event = settled.event
        origin = event.line.origin if isinstance(event.line.origin, Origin) else None
        dead_letter = event.outcome if isinstance(event.outcome, DeadLetter) else None
        return {
            "replay_id": self.replay_id,
            "event_id": event.identity.event_id,
            "message_id": event.outcome.message.message_id,
            "source": self.source,
            "fingerprint": origin and origin.fingerprint,
            "replayed_at": self.replayed_at.isoformat(),
            "replayed_by": self.replayed_by,
            "outcome": "dead_letter" if dead_letter else "row",
            "new_fingerprint": dead_letter and dead_letter.fingerprint,
            "transform": origin and origin.transform,
            "table_name": event.table,
            "archive_uri": settled.archive_uri,
            "code_version": self.settings.code_version,
        }


_IDS = 40_000
"""Maximum ids of a query. They have at most 128 characters each: together they fit into a request of 10 MB."""

_OPEN = (
    "SELECT DISTINCT event_id, message_id FROM `{{ tables.dead_letter_status }}`"
    " WHERE is_open AND event_id IN UNNEST(@ids)"
)


def _message(settled: Settled) -> tuple[str, str]:
    return settled.event.identity.event_id, settled.event.outcome.message.message_id


def current_user(client: bigquery.Client) -> str:
    """Return the address of the person or the service account that runs this, as BigQuery knows it."""
    [row] = client.query_and_wait("SELECT SESSION_USER() AS name")
    return str(row.name)
