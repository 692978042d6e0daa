"""Push delivery through the real clients, on Google's Pub/Sub emulator and on the stand-in, to a real HTTP server."""

import asyncio
import base64
import pathlib
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import uvicorn
from google.api_core import exceptions
from google.cloud import pubsub_v1
from google.pubsub_v1 import types
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sluice.local import pubsub
from sluice.local.data_folder import DataFolder
from sluice.local.deliveries import ACKNOWLEDGED, read_acknowledged, read_deliveries
from sluice.local.faults import Faults, write_faults
from sluice.local.process import free_port
from sluice.local.push_relay import Relay
from tests.support.pubsub_wiring import HOW_TO_GET, Wiring, emulator_process
from tests.support.requires import missing
from tests.support.waiting import PATIENCE, until


@pytest.fixture(scope="module", params=[pytest.param("google", marks=pytest.mark.check), "stand-in"])
def emulator(request: pytest.FixtureRequest) -> Iterator[str]:
    """`host:port` of a running emulator."""
    if request.param == "google" and pubsub.google_emulator() is None:
        missing(HOW_TO_GET)
    port = free_port()
    with emulator_process(port, stand_in=request.param == "stand-in"):
        asyncio.run(pubsub.wait_until_ready(f"127.0.0.1:{port}", timeout=PATIENCE))
        yield f"127.0.0.1:{port}"


@pytest.fixture
async def wiring(emulator: str) -> Wiring:
    wiring = Wiring(emulator)
    await wiring.create()
    return wiring


class Endpoint:
    """An HTTP server in a thread that answers each push with what `answer(body)` says.

    Attributes:
        bodies: What was posted, in order of arrival.
        peak: Most requests that were in flight together.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], int] = lambda _: 204, takes: float = 0.0) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/push"
        self.bodies: list[dict[str, Any]] = []
        self.peak = 0
        self._in_flight = 0
        self._answer = answer
        self._takes = takes

    async def _push(self, request: Request) -> Response:
        self._in_flight += 1
        self.peak = max(self.peak, self._in_flight)
        body = await request.json()
        self.bodies.append(body)
        await asyncio.sleep(self._takes)
        self._in_flight -= 1
        return Response(status_code=self._answer(body))

    @contextmanager
    def up(self) -> Iterator["Endpoint"]:
        app = Starlette(routes=[Route("/push", self._push, methods=["POST"])])
        server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield self
        finally:
            server.should_exit = server.force_exit = True
            thread.join()

    @property
    def message_ids(self) -> list[str]:
        return [body["message"]["messageId"] for body in self.bodies]


@asynccontextmanager
async def relaying(wiring: Wiring, endpoint: Endpoint, **settings: Any) -> AsyncIterator[Relay]:
    relay = Relay(wiring.emulator, wiring.subscription, endpoint.url, **settings)
    running = asyncio.create_task(relay.run())
    await asyncio.wait_for(relay.ready.wait(), timeout=PATIENCE)
    try:
        yield relay
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


def numbered(number: int) -> types.PubsubMessage:
    return types.PubsubMessage(data=f"event {number}".encode(), attributes={"event_type": "order"})


async def test_concurrent_relay_delivers_and_acknowledges_each_message_once(wiring: Wiring) -> None:
    published = await wiring.publish(*map(numbered, range(300)))
    with Endpoint(takes=0.03).up() as endpoint:
        async with relaying(wiring, endpoint, concurrency=16) as relay:
            await until(lambda: relay.counts.acknowledged == 300)
        assert Counter(endpoint.message_ids) == Counter(published)
    assert 2 < endpoint.peak <= 16
    assert (relay.counts.pulled, relay.counts.in_flight, relay.counts.unanswered) == (300, 0, 0)
    assert not relay.counts.rejected
    assert await wiring.pull(wiring.subscription) == []


async def test_relay_delivers_twice_and_lists_what_is_acknowledged(wiring: Wiring, tmp_path: pathlib.Path) -> None:
    data = DataFolder(tmp_path)
    faults = Faults(duplicates=True, watched_since=datetime.now(UTC))
    assert faults.watched_since
    write_faults(data, faults)
    with Endpoint().up() as endpoint:
        async with relaying(wiring, endpoint, data=data) as relay:
            await until((data.path / ACKNOWLEDGED).exists)
            published = await wiring.publish(*map(numbered, range(3)))
            await until(lambda: relay.counts.acknowledged == 3)
    assert Counter(endpoint.message_ids) == Counter(2 * published)
    assert sorted(read_acknowledged(data, faults.watched_since)) == sorted(published)
    deliveries = read_deliveries(data)
    assert deliveries
    assert (deliveries.taken, deliveries.acknowledged, deliveries.waiting, deliveries.oldest) == (3, 3, 0, None)


async def test_relay_delivers_messages_after_an_empty_pull(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    pulls: list[None] = []
    pull = Relay._pull

    async def counted(self: Relay, client: Any, answers: Any) -> None:
        await pull(self, client, answers)
        pulls.append(None)

    monkeypatch.setattr(Relay, "_pull", counted)
    with Endpoint().up() as endpoint:
        async with relaying(wiring, endpoint) as relay:
            await until(lambda: pulls, "a pull has found nothing")
            published = await wiring.publish(numbered(1))
            await until(lambda: relay.counts.acknowledged == 1)
    assert endpoint.message_ids == published


async def test_the_body_is_that_of_pub_subs_wrapped_push(wiring: Wiring) -> None:
    payload = bytes(range(256))
    [message_id] = await wiring.publish(types.PubsubMessage(data=payload, attributes={"event_type": "order"}))
    with Endpoint().up() as endpoint:
        async with relaying(wiring, endpoint) as relay:
            await until(lambda: relay.counts.acknowledged == 1)
    [body] = endpoint.bodies
    publish_time = body["message"]["publishTime"]
    assert body == {
        "message": {
            "data": base64.b64encode(payload).decode(),
            "messageId": message_id,
            "message_id": message_id,
            "publishTime": publish_time,
            "publish_time": publish_time,
            "attributes": {"event_type": "order"},
        },
        "subscription": wiring.subscription,
        "deliveryAttempt": 1,
    }
    assert publish_time.endswith("Z")


async def test_message_answered_with_503_is_redelivered_as_attempt_2(wiring: Wiring) -> None:
    await wiring.publish(numbered(1))
    with Endpoint(lambda body: 503 if body["deliveryAttempt"] == 1 else 204).up() as endpoint:
        async with relaying(wiring, endpoint) as relay:
            await until(lambda: relay.counts.acknowledged == 1)
    assert [body["deliveryAttempt"] for body in endpoint.bodies] == [1, 2]
    assert len(set(endpoint.message_ids)) == 1
    assert relay.counts.rejected == {503: 1}


async def test_message_that_always_gets_500_is_dead_lettered(wiring: Wiring) -> None:
    [message_id] = await wiring.publish(numbered(1))
    with Endpoint(lambda _: 500).up() as endpoint:
        async with relaying(wiring, endpoint) as relay:
            [dead] = await wiring.pull(wiring.dead_letters, patience=PATIENCE)
    assert [body["deliveryAttempt"] for body in endpoint.bodies] == [1, 2, 3, 4, 5]
    assert set(endpoint.message_ids) == {message_id}
    assert relay.counts.rejected == {500: 5}
    assert dead.message.data == b"event 1"
    assert dict(dead.message.attributes) == {
        "event_type": "order",
        "CloudPubSubDeadLetterSourceSubscription": "events-push",
        "CloudPubSubDeadLetterSourceSubscriptionProject": wiring.project,
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceTopicPublishTime": endpoint.bodies[0]["message"]["publishTime"],
    }
    assert await wiring.pull(wiring.subscription) == []


async def test_an_endpoint_that_is_down_for_a_while_loses_nothing(emulator: str) -> None:
    wiring = Wiring(emulator)
    await wiring.create(attempts=100)
    published = await wiring.publish(*map(numbered, range(100)))
    endpoint = Endpoint()
    async with relaying(wiring, endpoint) as relay:
        await until(lambda: relay.counts.unanswered >= 100)
        with endpoint.up():
            await until(lambda: relay.counts.acknowledged == 100)
    assert Counter(endpoint.message_ids) == Counter(published)
    assert await wiring.pull(wiring.dead_letters) == []


async def test_a_request_that_outlasts_the_ack_deadline_is_a_nack(wiring: Wiring) -> None:
    await wiring.publish(numbered(1))
    with Endpoint(takes=0.6).up() as endpoint:
        async with relaying(wiring, endpoint, ack_deadline=0.3, grace=0.0) as relay:
            await until(lambda: relay.counts.unanswered >= 2)
    assert [body["deliveryAttempt"] for body in endpoint.bodies][:2] == [1, 2]
    assert relay.counts.acknowledged == 0


async def test_cancelled_relay_finishes_and_acknowledges_open_requests(wiring: Wiring) -> None:
    await wiring.publish(*map(numbered, range(5)))
    with Endpoint(takes=0.3).up() as endpoint:
        async with relaying(wiring, endpoint) as relay:
            await until(lambda: len(endpoint.bodies) == 5)
            assert relay.counts.acknowledged == 0
    assert relay.counts.acknowledged == 5
    assert await wiring.pull(wiring.subscription) == []


async def test_requests_still_open_after_the_grace_period_are_given_back(wiring: Wiring) -> None:
    await wiring.publish(numbered(1))
    with Endpoint(takes=5.0).up() as endpoint:
        async with relaying(wiring, endpoint, grace=0.1):
            await until(lambda: len(endpoint.bodies) == 1)
        [again] = await wiring.pull(wiring.subscription, patience=PATIENCE)
    assert again.delivery_attempt == 2


async def test_relay_fails_without_its_subscription(emulator: str) -> None:
    with pytest.raises(exceptions.NotFound):
        await Relay(emulator, "projects/none/subscriptions/none", "http://127.0.0.1:1/").run()


async def test_a_relay_that_would_outlive_its_leases_does_not_start(wiring: Wiring) -> None:
    with pytest.raises(ValueError, match="ack deadline of 60 s"):
        await Relay(wiring.emulator, wiring.subscription, "http://127.0.0.1:1/", ack_deadline=61).run()


async def test_repeated_wiring_is_idempotent_and_a_different_one_fails(wiring: Wiring) -> None:
    await wiring.create()
    with pytest.raises(ValueError, match="retry_policy"):
        await wiring.create(minimum_backoff=0.2)


def test_the_ordinary_clients_need_only_the_emulator_variable(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", wiring.emulator)
    with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
        message_id = publisher.publish(f"projects/{wiring.project}/topics/events", b"hello").result(timeout=PATIENCE)
        response = subscriber.pull(subscription=wiring.subscription, max_messages=10)
        subscriber.acknowledge(subscription=wiring.subscription, ack_ids=[response.received_messages[0].ack_id])
        listed = [topic.name for topic in publisher.list_topics(project=f"projects/{wiring.project}")]
    assert [received.message.message_id for received in response.received_messages] == [message_id]
    assert listed == [f"projects/{wiring.project}/topics/{name}" for name in ("dead", "events")]


async def test_a_relay_outlives_its_emulator() -> None:
    port = free_port()
    wiring = Wiring(f"127.0.0.1:{port}")
    with Endpoint().up() as endpoint:
        with emulator_process(port, stand_in=True):
            await pubsub.wait_until_ready(wiring.emulator, timeout=PATIENCE)
            await wiring.create()
            relay = Relay(wiring.emulator, wiring.subscription, endpoint.url)
            running = asyncio.create_task(relay.run())
            await wiring.publish(numbered(1))
            await until(lambda: relay.counts.acknowledged == 1)
        with emulator_process(port, stand_in=True):
            await pubsub.wait_until_ready(wiring.emulator, timeout=PATIENCE)
            await wiring.create()
            await wiring.publish(numbered(2))
            await until(lambda: relay.counts.acknowledged == 2)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
    assert [base64.b64decode(body["message"]["data"]) for body in endpoint.bodies] == [b"event 1", b"event 2"]


async def test_waiting_for_a_missing_emulator_times_out_with_the_cause() -> None:
    with pytest.raises(TimeoutError, match="no Pub/Sub emulator") as waited:
        await pubsub.wait_until_ready(f"127.0.0.1:{free_port()}", timeout=0.2)
    assert isinstance(waited.value.__cause__, exceptions.ServiceUnavailable)
