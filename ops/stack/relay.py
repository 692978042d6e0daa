"""Pub/Sub's push delivery for the local stack: pulls from a subscription and posts each message to an endpoint.

Production's push has many requests in flight; the emulator's own never more than two. The relay posts the same body
as Pub/Sub's wrapped push, up to `concurrency` at once, and leaves what is refused to the subscription's own retry and
dead-letter policy.

    python -m ops.stack.relay --emulator 127.0.0.1:8085 --subscription projects/p/subscriptions/s \
        --endpoint http://127.0.0.1:8080/ --concurrency 80 --ack-deadline 60
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
from google.api_core import exceptions
from google.pubsub_v1 import SubscriberAsyncClient, types

from ops.stack import pubsub

ACKNOWLEDGING = frozenset({102, 200, 201, 202, 204})
FLUSH_EVERY = 0.005  # seconds that acknowledgements are gathered for one call
PULL_TIMEOUT = 1.5  # seconds; an emulator answers an empty pull one second before it
CALL_TIMEOUT = 10.0
RETRY_PAUSE = 0.2  # seconds between tries while the emulator is away
MAX_IDS = 1000  # ack ids in one call

_TRANSIENT = (exceptions.ServiceUnavailable, exceptions.DeadlineExceeded)
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class RelayCounts:
    """What a relay has done so far.

    Attributes:
        pulled: Deliveries taken from the subscription.
        acknowledged: Deliveries whose acknowledgement the subscription has taken.
        refused: Answers of the endpoint that do not acknowledge, by status code.
        unanswered: Requests without an answer: no connection, or not within the ack deadline.
        in_flight: Requests that are open now.
    """

    pulled: int = 0
    acknowledged: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    in_flight: int = 0


def push_body(received: Any, subscription: str) -> bytes:
    ...
