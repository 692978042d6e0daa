"""A producer that publishes while a subscription changes hands, and what the views show of its events."""

import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

from google.cloud import bigquery

from sluice.local.process import Child
from sluice.publish import Publication, publish
from sluice.shop.generator import Generated, generate
from tests.support.waiting import PATIENCE

RATE = 40
AGAIN = 20
"""Messages that the producer publishes again, so that both receivers get them."""


class Producer:
    """Publishes a shop's events until it is stopped."""

    def __init__(self, topic: str) -> None:
        self.sent: list[Generated] = []
        self._topic = topic
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=publish, args=(self._publications(), topic), kwargs={"rate": RATE})
        self._thread.start()

    def _publications(self) -> Iterator[Publication]:
        for event in generate(seed=17, start=datetime.now(UTC), bad_share=0.05, duplicate_share=0.05):
            if self._stopped.is_set():
                return
            self.sent.append(event)
            yield Publication(event.data, event.attributes)

    def publish_again(self) -> None:
        """Publish the first messages again, as a producer does that has seen no answer."""
        publish((Publication(message.data, message.attributes) for message in self.sent[:AGAIN]), self._topic)

    def stop(self) -> None:
        """Publish no more; returns when Pub/Sub has accepted everything."""
        self._stopped.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def ids(self, *kinds: str) -> set[str]:
        """Ids of the events of some kinds."""
        return {message.attributes["event_id"] for message in self.sent if message.kind in kinds}


def end(child: Child) -> None:
    """Let a process finish what it has begun."""
    child.signal(signal.SIGTERM)
    assert child.process.wait(PATIENCE) == 0, child.tail()


def shown(client: bigquery.Client, dataset: str, view: str) -> list[str]:
    """Event ids of a view, sorted."""
    rows = client.query_and_wait(f"SELECT ingest.event_id AS id FROM `{dataset}.{view}` ORDER BY id")
    return [row.id for row in rows]
