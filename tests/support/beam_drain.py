"""`python -m tests.support.beam_drain OPTIONS`: run the pipeline on a subscription until SIGTERM, then drain it.

Dataflow drains a job: it reads no more, and finishes what it has read. BundleBasedDirectRunner cannot, and acknowledges
messages before it processes them, so that to end it would lose those. Here its reads are counted, SIGTERM ends them,
and the process ends when as many events are durable.
"""

import logging
import os
import signal
import sys
import threading
import time
from typing import Any

import msgspec
from google.cloud.pubsub_v1 import SubscriberClient
from google.pubsub_v1.types import PullResponse

from dataflow.pipeline import build

_PAUSE = 0.05


class Source:
    """The subscriber client's `pull`, until it is drained.

    Attributes:
        pulled: Number of messages that the runner has read.
    """

    def __init__(self) -> None:
        self.pulled = 0
        self._pull = SubscriberClient.pull
        self._reading = threading.Lock()
        self._is_drained = False

    def pull(self, client: SubscriberClient, **request: Any) -> PullResponse:
        """Read messages; none once it is drained."""
        with self._reading:
            if not self._is_drained:
                response: PullResponse = self._pull(client, **request)
                self.pulled += len(response.received_messages)
                return response
        time.sleep(_PAUSE)
        return PullResponse()

    def drain(self) -> None:
        """Let the last read end; no other begins."""
        with self._reading:
            self._is_drained = True


class Durable(logging.Handler):
    """Counts the events that the log lines of flushes call durable.

    Attributes:
        events: Their number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count the events of a flush."""
        text, _, fields = record.getMessage().partition(" ")
        if text == "flush":
            flush = msgspec.json.decode(fields)
            self.events += sum(flush["rows"].values()) + sum(flush["dead_letters"].values())


def main() -> None:
    """Run until SIGTERM, drain, and end."""
    source, durable, stopped = Source(), Durable(), threading.Event()

    def pull(client: SubscriberClient, **request: Any) -> PullResponse:
        return source.pull(client, **request)

    SubscriberClient.pull = pull
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("dataflow.write").addHandler(durable)
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    build(sys.argv[1:]).run()
    stopped.wait()
    source.drain()
    while durable.events < source.pulled:
        time.sleep(_PAUSE)
    sys.stdout.write(f"drained: {source.pulled} messages were read, {durable.events} events are durable\n")
    sys.stdout.flush()
    os._exit(0)  # The runner's threads do not end.


if __name__ == "__main__":
    main()
