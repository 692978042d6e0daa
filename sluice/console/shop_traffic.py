"""Events of the simulated shop that the console publishes, so that something can break."""

import itertools
import threading

from sluice.commands.error_messages import message
from sluice.publish import FAILURES, Publication, publish
from sluice.shop.generator import Scenario
from sluice.shop.timeline import live

_BAD_SHARE = 0.05


class ShopTraffic:
    """Publishes in a thread, one rate at a time.

    Attributes:
        rate: Events per second; 0 if it publishes none.
        problem: Reason why it ended, if it did by an error.
    """

    def __init__(self) -> None:
        self.rate = 0.0
        self.problem: str | None = None
        self._published: set[str] = set()
        self._ending = threading.Event()
        self._lock = threading.Lock()

    @property
    def published(self) -> frozenset[str]:
        """Ids of the events that Pub/Sub has accepted."""
        with self._lock:
            return frozenset(self._published)

    def forget(self) -> None:
        """Count from now on."""
        with self._lock:
            self._published.clear()

    def run(self, topic: str, rate: float) -> None:
        """Publish at a rate from now on.

        Args:
            topic: Full name of the topic.
            rate: Events per second; 0 to end.
        """
        with self._lock:
            self._ending.set()
            self._ending, self.rate, self.problem = threading.Event(), rate, None
            if rate:
                threading.Thread(target=self._publish, args=(topic, rate, self._ending), daemon=True).start()

    def _publish(self, topic: str, rate: float, ending: threading.Event) -> None:
        messages = itertools.takewhile(lambda _: not ending.is_set(), live(Scenario(1, _BAD_SHARE)))
        try:
            publish(
                (Publication(sent.data, sent.attributes) for sent in messages), topic, rate=rate, published=self._add
            )
        except FAILURES as error:
            self.problem = message(error)
            if self._ending is ending:
                self.rate = 0.0

    def _add(self, publication: Publication) -> None:
        with self._lock:
            self._published.add(publication.attributes["event_id"])
