"""Pub/Sub's push delivery for the local stack: pulls from a subscription and posts each message to an endpoint.

Production's push has many requests in flight; the emulator's own never more than two. The relay posts the same body
as Pub/Sub's wrapped push, up to `concurrency` at once, and leaves what is rejected to the subscription's own retry and
dead-letter policy.

    python -m sluice.local.push_relay --emulator 127.0.0.1:8085 --subscription projects/p/subscriptions/s \
        --endpoint http://127.0.0.1:8080/ --concurrency 80 --ack-deadline 60
"""

import argparse
import asyncio
import contextlib
import logging
import pathlib
import signal
import ssl
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC

import httpx
import msgspec
from google.api_core import exceptions
from google.pubsub_v1 import SubscriberAsyncClient, types

from sluice.local import pubsub
from sluice.local.data_folder import DataFolder
from sluice.local.deliveries import DeliveryLog
from sluice.local.faults import Faults, read_faults

ACKNOWLEDGING = frozenset({102, 200, 201, 202, 204})
SEND_EVERY = 0.005  # seconds that answers are gathered for one call
PULL_TIMEOUT = 1.3  # seconds; an emulator answers an empty pull one second before it
CALL_TIMEOUT = 10.0
RETRY_PAUSE = 0.2  # seconds between tries while the emulator is away
LOOK_SECONDS = 0.5  # seconds between two reads of the faults, and two writes of the counts

_UNREACHABLE = (exceptions.ServiceUnavailable, exceptions.DeadlineExceeded)
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class RelayCounts:
    """The deliveries of a relay so far.

    Attributes:
        pulled: Taken from the subscription.
        acknowledged: Acknowledged to the subscription, and taken by it.
        rejected: Rejected by the endpoint with a status that does not acknowledge, by status code.
        unanswered: Not answered by the endpoint: no connection, or not within the ack deadline.
        in_flight: Open now.
    """

    pulled: int = 0
    acknowledged: int = 0
    rejected: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    in_flight: int = 0


def push_body(received: types.ReceivedMessage, subscription: str) -> bytes:
    """Return the JSON of Pub/Sub's wrapped push; `deliveryAttempt` only where a dead-letter policy counts them."""
    raw = types.ReceivedMessage.pb(received)
    publish_time = raw.message.publish_time.ToJsonString()
    message = {
        "data": raw.message.data,
        "messageId": raw.message.message_id,
        "message_id": raw.message.message_id,
        "publishTime": publish_time,
        "publish_time": publish_time,
        "attributes": dict(raw.message.attributes),
    }
    if raw.message.ordering_key:
        message["orderingKey"] = raw.message.ordering_key
    body = {"message": message, "subscription": subscription}
    if raw.delivery_attempt:
        body["deliveryAttempt"] = raw.delivery_attempt
    return msgspec.json.encode(body)  # bytes become base64


class Relay:
    """Posts the messages of one subscription to one endpoint.

    A 2xx of Pub/Sub's list acknowledges; any other answer, no answer, or none within the ack deadline is a nack.
    Messages are pulled only for free places, so a slow endpoint leaves the backlog where it is.

    Args:
        emulator: `host:port` of a Pub/Sub emulator.
        subscription: Full name, `projects/{project}/subscriptions/{subscription}`.
        endpoint: URL to post to.
        concurrency: Requests in flight at most.
        ack_deadline: Seconds that a request may take; not more than the subscription's own ack deadline.
        grace: Seconds that open requests have to finish when `run` is cancelled.
        data: The data folder of the stack, for its faults and the counts of the deliveries; None for neither.

    Attributes:
        counts: The running counts.
        ready: Set once the subscription has been found.
    """

    def __init__(  # noqa: PLR0913 -- one keyword per setting
        self,
        emulator: str,
        subscription: str,
        endpoint: str,
        *,
        concurrency: int = 80,
        ack_deadline: float = 60.0,
        grace: float = 10.0,
        data: DataFolder | None = None,
    ) -> None:
        self.counts = RelayCounts()
        self.ready = asyncio.Event()
        self._emulator = emulator
        self._subscription = subscription
        self._endpoint = httpx.URL(endpoint)
        self._concurrency = concurrency
        self._ack_deadline = ack_deadline
        self._grace = grace
        self._data = data
        self._log = DeliveryLog(data) if data else None
        self._faults = Faults()
        self._places: list[httpx.AsyncClient] = []
        self._place_free = asyncio.Event()
        self._posts: set[asyncio.Task[None]] = set()
        self._emulator_failures = _Failures(f"emulator at {emulator} does not answer, trying on")
        self._endpoint_failures = _Failures(f"endpoint {endpoint} does not answer")

    async def run(self) -> None:
        """Relay until cancelled; then let open requests finish within the grace period, and send their answers.

        While the emulator is away it keeps trying. A second cancellation ends it at once; what is open then comes
        again after its ack deadline.

        Raises:
            google.api_core.exceptions.NotFound: The subscription does not exist.
            ValueError: `ack_deadline` is longer than the subscription's.
        """
        async with contextlib.AsyncExitStack() as stack:
            client = pubsub.subscriber_client(await stack.enter_async_context(pubsub.open_channel(self._emulator)))
            answers = _Answers(client, self._subscription, self.counts, self._log)
            # A client for each place: httpx's pool takes time linear in its connections, for every request.
            tls, limits = ssl.create_default_context(), httpx.Limits(keepalive_expiry=1.0)
            for _ in range(self._concurrency):
                place = httpx.AsyncClient(verify=tls, limits=limits, timeout=None, trust_env=False)  # noqa: S113 -- _post bounds it
                self._places.append(await stack.enter_async_context(place))
            self._place_free.set()
            await self._find_subscription(client)
            pulling = asyncio.create_task(self._pull(client, answers))
            following = asyncio.create_task(self._follow())
            try:
                while True:
                    await asyncio.shield(pulling)  # a cancelled pull could leave messages leased to nobody
                    await self._place_free.wait()
                    pulling = asyncio.create_task(self._pull(client, answers))
            finally:
                await self._drain(pulling)
                await answers.sent()
                following.cancel()
                self._look()

    async def _follow(self) -> None:
        while self._data:
            self._look()
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self) -> None:
        """Read the faults, and write the counts."""
        if self._data and self._log:
            self._faults = read_faults(self._data)
            self._log.write(self._faults.watched_since)

    async def _find_subscription(self, client: SubscriberAsyncClient) -> None:
        request = {"subscription": self._subscription}
        while not self.ready.is_set():
            try:
                subscription = await client.get_subscription(request, retry=None, timeout=CALL_TIMEOUT)
            except _UNREACHABLE as error:
                self._emulator_failures.add(error)
                await asyncio.sleep(RETRY_PAUSE)
            else:
                if subscription.ack_deadline_seconds < self._ack_deadline:
                    raise ValueError(
                        f"{self._subscription} has an ack deadline of {subscription.ack_deadline_seconds} s"
                    )
                self.ready.set()

    async def _pull(self, client: SubscriberAsyncClient, answers: "_Answers") -> None:
        """Take as many messages as there are free places, and start posting them."""
        request = {"subscription": self._subscription, "max_messages": len(self._places)}
        try:
            response = await client.pull(request, retry=None, timeout=PULL_TIMEOUT)
        except (*_UNREACHABLE, exceptions.NotFound) as error:
            self._emulator_failures.add(error)
            if not isinstance(error, exceptions.DeadlineExceeded):  # NotFound: a new one, not wired yet
                answers.forget_leases()
            await asyncio.sleep(RETRY_PAUSE)
            return
        expires = asyncio.get_running_loop().time() + self._ack_deadline
        for received in response.received_messages:
            post = asyncio.create_task(self._post(self._places.pop(), received, expires, answers))
            if self._log:
                message = types.ReceivedMessage.pb(received).message
                self._log.take(message.message_id, message.publish_time.ToDatetime(UTC))
            self._posts.add(post)
            post.add_done_callback(self._posts.discard)
            self.counts.pulled += 1
            self.counts.in_flight += 1
        if not self._places:
            self._place_free.clear()

    async def _post(
        self, place: httpx.AsyncClient, received: types.ReceivedMessage, expires: float, answers: "_Answers"
    ) -> None:
        life, acknowledged = answers.emulator_life, False
        try:
            body, headers = push_body(received, self._subscription), {"content-type": "application/json"}
            async with asyncio.timeout_at(expires):
                if self._faults.duplicates:
                    await place.post(self._endpoint, content=body, headers=headers)
                answer = await place.post(self._endpoint, content=body, headers=headers)
            acknowledged = answer.status_code in ACKNOWLEDGING
            if not acknowledged:
                self.counts.rejected[answer.status_code] += 1
        except (httpx.HTTPError, TimeoutError) as error:
            self._endpoint_failures.add(error)
            self.counts.unanswered += 1
        finally:
            answers.add(received, life, acknowledged=acknowledged)
            self.counts.in_flight -= 1
            self._places.append(place)
            self._place_free.set()

    async def _drain(self, pulling: asyncio.Task[None]) -> None:
        """Let the last pull and its requests finish; cancel, and so nack, what is open after the grace period."""
        try:
            await asyncio.wait({pulling})
            if self._posts:
                await asyncio.wait(self._posts, timeout=self._grace)
        finally:
            for post in self._posts:
                post.cancel()
        await asyncio.gather(*self._posts, return_exceptions=True)


class _Answers:
    """Gathers the acknowledgements and nacks of a few milliseconds into one call each.

    What cannot be sent because the emulator went away is dropped: a new emulator may give the same ack id to another
    message, and acknowledging that one would lose it. Where an answer is dropped the message comes again.

    Attributes:
        emulator_life: Rises when the emulator went away; an ack id belongs to the life in which it was pulled.
    """

    def __init__(
        self, client: SubscriberAsyncClient, subscription: str, counts: RelayCounts, log: DeliveryLog | None
    ) -> None:
        self.emulator_life = 0
        self._client = client
        self._subscription = subscription
        self._counts = counts
        self._log = log
        self._acks: list[types.ReceivedMessage] = []
        self._nacks: list[str] = []
        self._sending: asyncio.Task[None] | None = None

    def add(self, received: types.ReceivedMessage, life: int, *, acknowledged: bool) -> None:
        if life != self.emulator_life:
            return
        if acknowledged:
            self._acks.append(received)
        else:
            self._nacks.append(received.ack_id)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all())

    def forget_leases(self) -> None:
        self.emulator_life += 1
        self._acks, self._nacks = [], []
        if self._log:
            self._log.forget()

    async def sent(self) -> None:
        if self._sending:
            await self._sending

    async def _send_all(self) -> None:
        while self._acks or self._nacks:
            await asyncio.sleep(SEND_EVERY)
            await self._send()

    async def _send(self) -> None:
        acks, nacks, self._acks, self._nacks = self._acks, self._nacks, [], []
        ack = {"subscription": self._subscription, "ack_ids": [received.ack_id for received in acks]}
        nack = {"subscription": self._subscription, "ack_ids": nacks, "ack_deadline_seconds": 0}
        try:
            if acks:
                await self._client.acknowledge(ack, retry=None, timeout=CALL_TIMEOUT)
                self._counts.acknowledged += len(acks)
                if self._log:
                    self._log.acknowledge(received.message.message_id for received in acks)
            if nacks:
                await self._client.modify_ack_deadline(nack, retry=None, timeout=CALL_TIMEOUT)
        except exceptions.GoogleAPICallError as error:
            _LOG.warning("of %d answers some were lost, those messages come again: %r", len(acks + nacks), error)


class _Failures:
    """Logs one kind of failure at most every five seconds: an outage has thousands."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._count = 0
        self._quiet_until = 0.0

    def add(self, error: Exception) -> None:
        self._count += 1
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + 5
            _LOG.warning("%s, %d times so far: %r", self._what, self._count, error)


async def relay_until_signal(relay: Relay) -> None:
    """Run a relay until SIGTERM or SIGINT, a second one ends it at once; a line on stdout says when it is ready."""
    running = asyncio.create_task(relay.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    ready = asyncio.create_task(relay.ready.wait())
    await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
    if ready.done():
        sys.stdout.write("Pub/Sub relay ready\n")
        sys.stdout.flush()
    ready.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def _data_folder(path: str) -> DataFolder:
    return DataFolder(pathlib.Path(path))


def main() -> None:
    """Run a relay from the command line."""
    parser = argparse.ArgumentParser(description="Push delivery for Pub/Sub emulators.")
    parser.add_argument("--emulator", required=True, metavar="HOST:PORT")
    parser.add_argument("--subscription", required=True, help="projects/{project}/subscriptions/{subscription}")
    parser.add_argument("--endpoint", required=True, metavar="URL")
    parser.add_argument("--concurrency", type=int, default=80, help="requests in flight at most")
    parser.add_argument("--ack-deadline", type=float, default=60.0, help="seconds that a request may take")
    parser.add_argument("--data-dir", dest="data", type=_data_folder, help="folder with faults and counts")
    settings = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(relay_until_signal(Relay(**settings)))


if __name__ == "__main__":
    main()
