"""Replays of dead letters: what one would do today and, on the local stack, the replay itself."""

import shlex
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from functions.core.dead_letters import Stage
from sluice.backfill.builder import BackfillBuilder
from sluice.console.page import WrongInput
from sluice.console.sources import Sources
from sluice.dead_letters.lookup import DeadLetterFilter
from sluice.replay.letters import letters_replay
from sluice.replay.transform import Transform

_AUTHOR = "console"
"""Name before the digest of an edited payload in the ledger and in the message."""

_running = threading.Lock()


class ReplayParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Selection of open dead letters; an omitted condition selects all.

    Attributes:
        fingerprint: Fingerprint of the cause.
        event_id: Id of the event.
        message_id: Pub/Sub's id of the message.
        type: Event type that the payload states.
        stage: Stage that rejected the event.
        since: Earliest time of the rejection.
        all: Whether to select all open dead letters.
    """

    fingerprint: str | None = None
    event_id: str | None = None
    message_id: str | None = None
    type: str | None = None
    stage: Stage | None = None
    since: datetime | None = None
    all: bool = False

    def choice(self) -> DeadLetterFilter:
        """Return the selection.

        Raises:
            WrongInput: It has no condition, and does not say that this means all.
        """
        fingerprints = (self.fingerprint,) if self.fingerprint else ()
        choice = DeadLetterFilter(
            fingerprints, self.type, self.stage, self.since, event_id=self.event_id, message_id=self.message_id
        )
        if choice == DeadLetterFilter() and not self.all:
            raise WrongInput("select dead letters by fingerprint, event_id, type, stage or since, or with all=true")
        return choice

    def command(self) -> str:
        """Return the command that replays the same dead letters."""
        options = {
            "--fingerprint": self.fingerprint,
            "--event": self.event_id,
            "--type": self.type,
            "--stage": self.stage,
            "--since": self.since and f"{self.since:%Y-%m-%dT%H:%M:%SZ}",
        }
        given = [text for name, value in options.items() if value for text in (name, str(value))]
        return shlex.join(["sluice", "dead-letters", "replay", *(given or ["--all"])])


class RepairParameters(ReplayParameters, frozen=True, kw_only=True):
    """An edited payload of a dead letter.

    Attributes:
        payload: The payload.
    """

    event_id: str
    message_id: str
    payload: str


class Replayed(msgspec.Struct, frozen=True):
    """Result of a replay, or of its dry run.

    Attributes:
        dry_run: Whether nothing was written.
        parameters: The selection.
        command: Command that replays the same dead letters.
        seconds: Duration.
        failures: Events that could not be read or loaded, and why.
        unfinished: Number of events that were not loaded.
        result: The results, as `sluice dead-letters replay --json` has them.
    """

    dry_run: bool
    parameters: ReplayParameters
    command: str
    seconds: float
    failures: Sequence[str]
    unfinished: int
    result: dict[str, Any]


def dry_run(sources: Sources, parameters: ReplayParameters) -> Replayed:
    """Return what a replay would do with the current code and contracts, and write nothing.

    Raises:
        WrongInput: Nothing is selected.
        google.api_core.exceptions.GoogleAPIError: A service rejected a request or did not answer.
    """
    return _replay(sources, parameters, dry_run=True)


def replay(sources: Sources, parameters: ReplayParameters) -> Replayed:
    """Replay dead letters.

    Raises:
        WrongInput: Nothing is selected, or a replay is running.
        google.api_core.exceptions.GoogleAPIError: A service rejected a request or did not answer.
    """
    return _replay(sources, parameters)


def repair(sources: Sources, parameters: RepairParameters) -> Replayed:
    """Replay a dead letter with another payload.

    Raises:
        WrongInput: A replay is running.
        google.api_core.exceptions.GoogleAPIError: A service rejected a request or did not answer.
    """
    # Browsers send the lines of a form with CR and LF.
    payload = parameters.payload.replace("\r\n", "\n").encode()
    return _replay(sources, parameters, Transform.replacing(payload, _AUTHOR))


def _replay(
    sources: Sources, parameters: ReplayParameters, transform: Transform | None = None, *, dry_run: bool = False
) -> Replayed:
    choice = parameters.choice()
    if not dry_run and not _running.acquire(blocking=False):
        raise WrongInput("a replay is running: wait until it has ended")
    try:
        started = time.monotonic()
        builder = BackfillBuilder.connect(sources.settings, datetime.now(UTC), dry_run=dry_run)
        letters, backfill = letters_replay(builder, choice, transform)
        report = backfill(letters, lambda _: None)
    finally:
        if not dry_run:
            _running.release()
    return Replayed(
        dry_run,
        parameters,
        parameters.command(),
        round(time.monotonic() - started, 3),
        [str(failure) for failure in report.failures],
        report.unfinished,
        letters.tally.as_json(),
    )
