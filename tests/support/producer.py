"""A producer that publishes while a subscription changes hands, and what has to be there of its events."""

import itertools
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from google.cloud import bigquery

from functions.clients import storage_client
from functions.reconcile.reconciler import Reconciler
from sluice.local.process import Child
from sluice.publish import Publication, publish
from sluice.shop.generator import Generated, generate
from tests.support.deployed_stack import Warehouse
from tests.support.waiting import PATIENCE, wait_until

TABLES = ("orders", "inventory", "user_activity")
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


def wait_for_all(producer: Producer, warehouse: Warehouse) -> None:
    """Wait until each message is archived, the first ones three times, and each event is stored."""
    expected = len(producer.sent) + 2 * AGAIN
    wait_until(lambda: archived(warehouse) >= expected, "all that was published is archived", pause=0.5)
    warehouse.wait_for(len(producer.ids("good", "bad")))


def archived(warehouse: Warehouse) -> int:
    """Return the number of messages in the archive, each delivery counted."""
    return sum(map(len, warehouse.archived().values()))


def assert_nothing_lost(producer: Producer, warehouse: Warehouse) -> None:
    """Check that each event is archived, and is a row, which the views show once, or a dead letter."""
    good, bad = producer.ids("good"), producer.ids("bad")
    accounts = warehouse.accounts()
    assert (accounts.accepted, accounts.dead) == (good, bad)
    payloads = warehouse.archived()
    assert {message.attributes["event_id"] for message in producer.sent} == payloads.keys()
    assert all(len(payloads[again.attributes["event_id"]]) >= 3 for again in producer.sent[:AGAIN])
    for kind in ("deduplicated", "all"):
        ids = [shown(warehouse.client, warehouse.dataset, f"{table}_{kind}") for table in TABLES]
        assert sorted(itertools.chain(*ids)) == sorted(good), kind
    now, hour = datetime.now(UTC), timedelta(hours=1)
    reconciler = Reconciler(warehouse.client, storage_client(warehouse.settings), warehouse.settings)
    reconciliation = reconciler(now - hour, now + hour)
    assert reconciliation.is_complete
    assert reconciliation.total.archived == archived(warehouse)
