"""The newest rows and dead letters, as they come."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from google.api_core.retry import Retry
from google.cloud import bigquery

from functions.settings import Settings
from sluice.stored_events import EventFilter, StoredEvent, StoredEvents

_MAXIMUM = 100_000
"""Maximum number of events of one poll."""


class Tail:
    """Polls the live dataset for new events.

    Args:
        client: Client of the datasets' project.
        settings: Names of the datasets.
        chosen: Which events to return.
        retry: Retry of the requests.
    """

    def __init__(self, client: bigquery.Client, settings: Settings, chosen: EventFilter, retry: Retry) -> None:
        self._stored = StoredEvents(client, settings, retry)
        self._chosen = chosen
        # A row appears when its flush has ended, so an event may come after others that were processed later.
        self._overlap = timedelta(seconds=2 * settings.flush_timeout)
        self._floor = self._newest = datetime.now(UTC)
        self._seen: dict[tuple[str, ...], datetime] = {}

    @property
    def billed(self) -> int:
        """Bytes billed so far."""
        return self._stored.billed

    def last(self, number: int) -> list[StoredEvent]:
        """Return the last events, oldest first. The next call of `new` returns those after them."""
        started = datetime.now(UTC)
        if not number:
            self._floor = self._newest = started
            return []
        events = self._stored.last(self._chosen, number)[::-1]
        # Events before the first one that is returned are none of `new`.
        self._floor = self._newest = events[0].time if len(events) == number else self._chosen.first_day
        self._remember(events)
        return events

    def new(self) -> list[StoredEvent]:
        """Return the events that have appeared since the last call, oldest first."""
        since = max(self._floor, self._newest - self._overlap)
        stored = self._stored.last(self._chosen, _MAXIMUM, since=since)[::-1]
        events = [event for event in stored if _key(event) not in self._seen]
        self._remember(events)
        return events

    def _remember(self, events: Sequence[StoredEvent]) -> None:
        self._newest = max([self._newest, *(event.time for event in events)])
        self._seen |= {_key(event): event.time for event in events}
        oldest = self._newest - self._overlap
        self._seen = {key: time for key, time in self._seen.items() if time >= oldest}


def _key(event: StoredEvent) -> tuple[str, ...]:
    return event.verdict, event.event_id, event.message_id, event.time.isoformat()
