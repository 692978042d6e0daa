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
from sluice.backfill.run import Backfill
from sluice.commands.error_messages import message
from sluice.console.page import FAILURES, NoParameters, WrongInput
from sluice.console.sources import Sources
from sluice.dead_letters.lookup import DeadLetterFilter
from sluice.replay.letters import Letters, Tally, letters_replay
from sluice.replay.transform import Transform

_AUTHOR = "console"
"""Name before the digest of an edited payload in the ledger and in the message."""

_WAIT_SECONDS = 2.0
"""Maximum seconds for which the answer to a button waits: most replays have ended by then."""


class ReplayParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Selection of open dead letters; an omitted condition selects all.

    Attributes:
        fingerprint: Fingerprints of the causes.
        event_id: Id of the event.
        message_id: Pub/Sub's id of the message.
        type: Event type that the payload states.
        stage: Stage that rejected the event.
        since: Earliest time of the rejection.
        all: Whether to select all open dead letters.
    """

    fingerprint: tuple[str, ...] = ()
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
        choice = DeadLetterFilter(
            self.fingerprint, self.type, self.stage, self.since, event_id=self.event_id, message_id=self.message_id
        )
        if choice == DeadLetterFilter() and not self.all:
            raise WrongInput("select dead letters by fingerprint, event_id, type, stage or since, or with all=true")
        return choice

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a form with the same selection."""
        return {name: msgspec.to_builtins(getattr(self, name)) for name in ReplayParameters.__struct_fields__}

    def command(self) -> str:
        """Return the command that replays the same dead letters."""
        options = {
            "--event": self.event_id,
            "--type": self.type,
            "--stage": self.stage,
            "--since": self.since and f"{self.since:%Y-%m-%dT%H:%M:%SZ}",
        }
        given = [text for fingerprint in self.fingerprint for text in ("--fingerprint", fingerprint)]
        given += [text for name, value in options.items() if value for text in (name, str(value))]
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


class ReplayRun(msgspec.Struct, frozen=True):
    """The last replay that a button has started.

    Attributes:
        started: Time of its start; None if no button has started one since the console runs.
        is_running: Whether it has not ended.
        parameters: The selection; None without a replay.
        total: Number of selected dead letters; None until they are known.
        read: Number of those that were processed.
        durable: Number of those that are in their tables.
        failures: Events that could not be read or loaded until now, and why.
        replayed: The result; None while it is running, or if an error has ended it.
        problem: The error that has ended it.
    """

    started: datetime | None = None
    is_running: bool = False
    parameters: ReplayParameters | None = None
    total: int | None = None
    read: int = 0
    durable: int = 0
    failures: Sequence[str] = ()
    replayed: Replayed | None = None
    problem: str | None = None


class _Running:
    """A replay in a thread of its own.

    Args:
        sources: The clients.
        parameters: The selection.
        transform: Repairs the payloads.
        dry_run: Whether nothing is written.
    """

    def __init__(
        self, sources: Sources, parameters: ReplayParameters, transform: Transform | None = None, *, dry_run: bool
    ) -> None:
        self._settings, self._parameters = sources.settings, parameters
        self._choice, self._transform, self._dry_run = parameters.choice(), transform, dry_run
        self._letters: Letters | None = None
        self._backfill: Backfill | None = None
        self._replayed: Replayed | None = None
        self._problem: str | None = None
        self._started = datetime.now(UTC)
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    def wait(self) -> None:
        """Wait a moment for its end."""
        self._thread.join(_WAIT_SECONDS)

    @property
    def is_running(self) -> bool:
        """Return whether it has not ended."""
        return self._thread.is_alive()

    def state(self) -> ReplayRun:
        """Return how far it is."""
        is_running = self.is_running
        tally = self._letters.tally if self._letters else Tally()
        return ReplayRun(
            started=self._started,
            is_running=is_running,
            parameters=self._parameters,
            total=self._letters.total if self._letters else None,
            read=tally.count("events"),
            durable=tally.count("passing") + tally.count("rejected"),
            failures=[str(failure) for failure in self._backfill.report.failures] if self._backfill else (),
            replayed=self._replayed,
            problem=self._problem,
        )

    def result(self) -> Replayed:
        """Replay.

        Raises:
            google.api_core.exceptions.GoogleAPIError: A service rejected a request or did not answer.
        """
        started = time.monotonic()
        builder = BackfillBuilder.connect(self._settings, self._started, dry_run=self._dry_run)
        letters, backfill = letters_replay(builder, self._choice, self._transform)
        self._letters, self._backfill = letters, backfill
        report = backfill(letters, lambda _: None)
        return Replayed(
            self._dry_run,
            self._parameters,
            self._parameters.command(),
            round(time.monotonic() - started, 3),
            [str(failure) for failure in report.failures],
            report.unfinished,
            letters.tally.as_json(),
        )

    def _run(self) -> None:
        try:
            self._replayed = self.result()
        except FAILURES as error:
            self._problem = message(error)
        except BaseException as error:
            self._problem = f"{type(error).__name__}: {error}"
            raise


_lock = threading.Lock()
_last: list[_Running] = []
"""The last replay; at most one runs at a time."""


def dry_run(sources: Sources, parameters: ReplayParameters) -> Replayed:
    """Return what a replay would do with the current code and contracts, and write nothing.

    Raises:
        WrongInput: Nothing is selected.
        google.api_core.exceptions.GoogleAPIError: A service rejected a request or did not answer.
    """
    return _Running(sources, parameters, dry_run=True).result()


def replay(sources: Sources, parameters: ReplayParameters) -> ReplayRun:
    """Start a replay of dead letters.

    Raises:
        WrongInput: Nothing is selected, or a replay is running.
    """
    return _start(_Running(sources, parameters, dry_run=False))


def repair(sources: Sources, parameters: RepairParameters) -> ReplayRun:
    """Start a replay of a dead letter with another payload.

    Raises:
        WrongInput: A replay is running.
    """
    # Browsers send the lines of a form with CR and LF.
    payload = parameters.payload.replace("\r\n", "\n").encode()
    return _start(_Running(sources, parameters, Transform.replacing(payload, _AUTHOR), dry_run=False))


def _start(running: _Running) -> ReplayRun:
    with _lock:
        if _last and _last[-1].is_running:
            raise WrongInput("a replay is running: wait until it has ended; /replay/run shows how far it is")
        _last[:] = [running]
        running.start()
    running.wait()
    return running.state()


def last_run(_: Sources, __: NoParameters) -> ReplayRun:
    """Return how far the last replay is, or its result."""
    return _last[-1].state() if _last else ReplayRun()
