"""Deliveries of the local stack's relay: how many messages it has taken and acknowledged, and which are waiting."""

import contextlib
import time
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from sluice.local.data_folder import DataFolder

COUNTS = "relay.json"
ACKNOWLEDGED = "relay-acknowledged.txt"


class Deliveries(msgspec.Struct, frozen=True):
    """The messages of the relay since the start of the stack.

    Attributes:
        at: Time of the last change.
        taken: Messages that the relay has taken from the subscription, each counted once.
        acknowledged: Those that the function has acknowledged.
        waiting: Those that it has not.
        oldest: Time at which Pub/Sub accepted the oldest of those that wait; None if none does.
    """

    at: datetime
    taken: int = 0
    acknowledged: int = 0
    waiting: int = 0
    oldest: datetime | None = None


def read_deliveries(data: DataFolder) -> Deliveries | None:
    """Return the deliveries of the stack; None before the relay has taken a message."""
    try:
        return msgspec.json.decode((data.path / COUNTS).read_bytes(), type=Deliveries)
    except FileNotFoundError:
        return None


def wait_for_list(data: DataFolder, since: datetime, seconds: float = 5.0) -> None:
    """Wait until the relay lists what is acknowledged since a time; at most so many seconds."""
    deadline = time.monotonic() + seconds
    while _list(data, since) is None and time.monotonic() < deadline:
        time.sleep(0.05)


def read_acknowledged(data: DataFolder, since: datetime) -> list[str]:
    """Return the ids of the messages that were acknowledged since a time, which the relay was told to list."""
    return _list(data, since) or []


def _list(data: DataFolder, since: datetime) -> list[str] | None:
    """Return the ids of the list of a time; None if the relay has not begun it."""
    with contextlib.suppress(FileNotFoundError):
        first, *ids = (data.path / ACKNOWLEDGED).read_text().split("\n")
        if first == since.isoformat():
            return ids[:-1]  # Behind the last newline a line may be incomplete.
    return None


class DeliveryLog:
    """Writes the deliveries of a relay.

    Args:
        data: The data folder.
    """

    def __init__(self, data: DataFolder) -> None:
        self._data = data
        self._waiting: dict[str, datetime] = {}
        self._taken = self._acknowledged = 0
        self._changed = False
        self._since: datetime | None = None
        self._listed: list[str] = []

    def take(self, message_id: str, publish_time: datetime) -> None:
        """Note that a message was taken; a second delivery of one that waits does not count."""
        if message_id not in self._waiting:
            self._waiting[message_id] = publish_time
            self._taken += 1
            self._changed = True

    def acknowledge(self, message_ids: Iterable[str]) -> None:
        """Note that messages are acknowledged."""
        for message_id in message_ids:
            if self._waiting.pop(message_id, None):
                self._acknowledged += 1
                self._changed = True
            if self._since:
                self._listed.append(message_id)

    def forget(self) -> None:
        """Note that the emulator has ended, and all messages that waited with it."""
        self._waiting.clear()
        self._changed = True

    def write(self, since: datetime | None) -> None:
        """Write what has changed.

        Args:
            since: Time since which the ids of acknowledged messages are listed; a new one begins a new list.
        """
        if since != self._since:
            self._since, self._listed = since, []
            if since:
                self._data.replace(ACKNOWLEDGED, f"{since.isoformat()}\n".encode())
        if self._listed:
            with (self._data.path / ACKNOWLEDGED).open("a") as file:
                file.write("".join(f"{message_id}\n" for message_id in self._listed))
            self._listed = []
        if self._changed:
            self._changed = False
            oldest = min(self._waiting.values(), default=None)
            counts = Deliveries(datetime.now(UTC), self._taken, self._acknowledged, len(self._waiting), oldest)
            self._data.replace(COUNTS, msgspec.json.encode(counts))
