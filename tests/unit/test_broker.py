"""Pub/Sub's rules in the stand-in server, with a clock that only the test moves."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.pubsub_v1 import types

from sluice.local.pubsub_emulator.state import MAX_RESPONSE_BYTES, Broker, CallRejected, LeasedMessage, PublishedMessage

TOPIC, DEAD_TOPIC = "projects/p/topics/events", "projects/p/topics/dead"
SUBSCRIPTION, DEAD_SUBSCRIPTION = "projects/p/subscriptions/events", "projects/p/subscriptions/dead"
T0 = 1_800_000_000.0

RETRY = types.RetryPolicy(minimum_backoff=timedelta(seconds=1), maximum_backoff=timedelta(seconds=5))
DEAD_LETTER = types.DeadLetterPolicy(dead_letter_topic=DEAD_TOPIC, max_delivery_attempts=5)


def wired(**settings: Any) -> Broker:
    broker = Broker()
    broker.create_topic(types.Topic(name=TOPIC))
    broker.create_topic(types.Topic(name=DEAD_TOPIC))
    broker.create_subscription(types.Subscription(name=DEAD_SUBSCRIPTION, topic=DEAD_TOPIC))
    broker.create_subscription(
        types.Subscription(**{"name": SUBSCRIPTION, "topic": TOPIC, "ack_deadline_seconds": 60} | settings)
    )
    return broker


def publish(broker: Broker, *payloads: bytes, now: float = T0) -> list[str]:
    return broker.publish(TOPIC, [PublishedMessage(payload, {"event_type": "order"}) for payload in payloads], now)


def pull(broker: Broker, now: float, subscription: str = SUBSCRIPTION, max_messages: int = 1000) -> list[LeasedMessage]:
    return broker.pull(subscription, max_messages, now)


def nack(broker: Broker, leases: list[LeasedMessage], now: float) -> None:
    broker.modify_ack_deadline(SUBSCRIPTION, [lease.ack_id for lease in leases], 0, now)


def acknowledge(broker: Broker, leases: list[LeasedMessage], now: float) -> None:
    broker.acknowledge(SUBSCRIPTION, [lease.ack_id for lease in leases], now)


def fail_every_delivery(broker: Broker, attempts: int) -> float:
    now = T0
    for _ in range(attempts):
        now += 10
        leases = pull(broker, now)
        assert len(leases) == 1
        nack(broker, leases, now)
    return now


def test_message_ids_are_unique_and_rise_over_all_topics() -> None:
    broker = wired()
    ids = [
        *publish(broker, b"a", b"b"),
        *broker.publish(DEAD_TOPIC, [PublishedMessage(b"c", {})], T0),
        *publish(broker, b"d"),
    ]
    assert [int(message_id) for message_id in ids] == sorted({int(message_id) for message_id in ids})


def test_a_message_arrives_as_published_with_its_id_and_time() -> None:
    broker = wired()
    [message_id] = broker.publish(TOPIC, [PublishedMessage(b"\x00\xff", {"k": "v"}, "key")], T0)
    [lease] = pull(broker, T0 + 1)
    assert lease.message == PublishedMessage(b"\x00\xff", {"k": "v"}, "key", message_id, T0)
    assert lease.attempt == 1


def test_every_subscription_of_a_topic_gets_every_message() -> None:
    broker = wired()
    broker.create_subscription(types.Subscription(name="projects/p/subscriptions/second", topic=TOPIC))
    publish(broker, b"a", b"b")
    acknowledge(broker, pull(broker, T0), T0)
    assert [lease.message.data for lease in pull(broker, T0, "projects/p/subscriptions/second")] == [b"a", b"b"]


def test_message_published_before_the_subscription_is_not_delivered() -> None:
    broker = wired()
    publish(broker, b"early")
    broker.create_subscription(types.Subscription(name="projects/p/subscriptions/late", topic=TOPIC))
    publish(broker, b"late")
    assert [lease.message.data for lease in pull(broker, T0, "projects/p/subscriptions/late")] == [b"late"]


def test_leased_message_is_not_redelivered_before_its_deadline() -> None:
    broker = wired()
    publish(broker, b"a")
    pull(broker, T0)
    assert pull(broker, T0 + 59.9) == []


def test_an_expired_lease_is_redelivered_under_a_new_ack_id() -> None:
    broker = wired()
    publish(broker, b"a")
    [first] = pull(broker, T0)
    [second] = pull(broker, T0 + 60)
    assert (second.message, second.attempt) == (first.message, 2)
    assert second.ack_id != first.ack_id


def test_acknowledged_message_is_never_redelivered() -> None:
    broker = wired()
    publish(broker, b"a")
    acknowledge(broker, pull(broker, T0), T0 + 59)
    assert pull(broker, T0 + 10_000) == []


def test_acknowledging_an_expired_lease_does_not_stop_the_redelivery() -> None:
    broker = wired()
    publish(broker, b"a")
    late = pull(broker, T0)
    acknowledge(broker, late, T0 + 60)
    redelivered = pull(broker, T0 + 60)
    assert [lease.attempt for lease in redelivered] == [2]
    acknowledge(broker, late, T0 + 61)
    acknowledge(broker, redelivered, T0 + 61)
    assert pull(broker, T0 + 10_000) == []


def test_acknowledging_twice_is_no_error() -> None:
    broker = wired()
    publish(broker, b"a")
    leases = pull(broker, T0)
    acknowledge(broker, leases, T0)
    acknowledge(broker, leases, T0)


def test_a_modified_ack_deadline_counts_from_the_call() -> None:
    broker = wired()
    publish(broker, b"a")
    [lease] = pull(broker, T0)
    broker.modify_ack_deadline(SUBSCRIPTION, [lease.ack_id], 100, T0 + 50)
    assert pull(broker, T0 + 149) == []
    assert [again.attempt for again in pull(broker, T0 + 150)] == [2]


def test_a_shortened_ack_deadline_holds_too() -> None:
    broker = wired()
    publish(broker, b"a")
    [lease] = pull(broker, T0)
    broker.modify_ack_deadline(SUBSCRIPTION, [lease.ack_id], 5, T0)
    assert [again.attempt for again in pull(broker, T0 + 5)] == [2]
    assert pull(broker, T0 + 64) == []


def test_nack_without_a_retry_policy_redelivers_immediately() -> None:
    broker = wired()
    publish(broker, b"a")
    nack(broker, pull(broker, T0), T0 + 1)
    assert [lease.attempt for lease in pull(broker, T0 + 1)] == [2]


def test_the_backoff_doubles_from_minimum_to_maximum() -> None:
    broker = wired(retry_policy=RETRY)
    publish(broker, b"a")
    now, waits = T0, []
    for _ in range(5):
        nack(broker, pull(broker, now), now)
        waits.append(broker.next_due(SUBSCRIPTION) - now)
        assert pull(broker, now + waits[-1] - 0.001) == []
        now += waits[-1]
    assert waits == [1, 2, 4, 5, 5]


def test_an_expired_lease_backs_off_from_its_expiry() -> None:
    broker = wired(retry_policy=RETRY)
    publish(broker, b"a")
    pull(broker, T0)
    assert pull(broker, T0 + 60.9) == []
    assert [lease.attempt for lease in pull(broker, T0 + 61)] == [2]


def test_backoff_of_a_message_does_not_delay_the_others() -> None:
    broker = wired(retry_policy=RETRY)
    publish(broker, b"a", b"b")
    nack(broker, pull(broker, T0, max_messages=1), T0)
    assert [lease.message.data for lease in pull(broker, T0)] == [b"b"]


def test_a_retry_policy_without_values_waits_ten_seconds_at_first() -> None:
    broker = wired(retry_policy=types.RetryPolicy())
    publish(broker, b"a")
    nack(broker, pull(broker, T0), T0)
    assert broker.next_due(SUBSCRIPTION) == T0 + 10


def test_last_failed_attempt_moves_the_message_to_the_dead_letters() -> None:
    broker = wired(dead_letter_policy=DEAD_LETTER)
    [message_id] = publish(broker, b"a")
    now = fail_every_delivery(broker, attempts=5)
    assert pull(broker, now + 10_000) == []
    [dead] = pull(broker, now, DEAD_SUBSCRIPTION)
    assert dead.message.data == b"a"
    assert dead.message.attributes == {
        "event_type": "order",
        "CloudPubSubDeadLetterSourceSubscription": "events",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "p",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceTopicPublishTime": "2027-01-15T08:00:00.000Z",
    }
    assert int(dead.message.message_id) > int(message_id)
    assert dead.message.publish_time == now


def test_ack_of_the_last_attempt_prevents_the_dead_letter() -> None:
    broker = wired(dead_letter_policy=DEAD_LETTER)
    publish(broker, b"a")
    now = fail_every_delivery(broker, attempts=4) + 10
    leases = pull(broker, now)
    assert [lease.attempt for lease in leases] == [5]
    acknowledge(broker, leases, now)
    assert pull(broker, now + 10_000, DEAD_SUBSCRIPTION) == []


def test_expired_last_attempt_wakes_the_dead_letter_subscription() -> None:
    broker = wired(dead_letter_policy=DEAD_LETTER)
    publish(broker, b"a")
    now = fail_every_delivery(broker, attempts=4) + 10
    pull(broker, now)
    assert pull(broker, now + 59, DEAD_SUBSCRIPTION) == []
    assert broker.next_due(DEAD_SUBSCRIPTION) == now + 60
    assert [lease.message.data for lease in pull(broker, now + 60, DEAD_SUBSCRIPTION)] == [b"a"]


def test_without_a_dead_letter_policy_a_message_is_tried_for_ever() -> None:
    broker = wired()
    publish(broker, b"a")
    now = fail_every_delivery(broker, attempts=50)
    assert [lease.attempt for lease in pull(broker, now)] == [51]


def test_message_without_its_dead_letter_topic_stays_subscribed() -> None:
    broker = wired(dead_letter_policy=DEAD_LETTER)
    publish(broker, b"a")
    broker.delete_topic(DEAD_TOPIC)
    now = fail_every_delivery(broker, attempts=6)
    assert [lease.attempt for lease in pull(broker, now)] == [7]


def test_a_pull_takes_the_oldest_messages_and_no_more_than_asked() -> None:
    broker = wired()
    publish(broker, b"a", b"b", b"c")
    assert [lease.message.data for lease in pull(broker, T0, max_messages=2)] == [b"a", b"b"]
    assert [lease.message.data for lease in pull(broker, T0, max_messages=2)] == [b"c"]


def test_response_stays_below_the_grpc_limit_if_messages_allow() -> None:
    broker = wired()
    large, small = bytes(MAX_RESPONSE_BYTES + 1), b"a"
    publish(broker, large, small, bytes(MAX_RESPONSE_BYTES - 200), bytes(1000))
    sizes = [[len(lease.message.data) for lease in pull(broker, T0)] for _ in range(4)]
    assert sizes == [[len(large)], [1, MAX_RESPONSE_BYTES - 200], [1000], []]


def test_nacked_message_wakes_a_pull_only_after_its_backoff() -> None:
    broker = wired(retry_policy=RETRY)
    assert broker.next_due(SUBSCRIPTION) == float("inf")
    publish(broker, b"a")
    nack(broker, pull(broker, T0), T0)
    assert broker.next_due(SUBSCRIPTION) == T0 + 1


def test_ack_ids_of_an_earlier_server_are_ignored() -> None:
    old, new = wired(), wired()
    publish(old, b"a")
    publish(new, b"b")
    before = pull(old, T0)
    pull(new, T0)
    acknowledge(new, before, T0)
    assert [lease.message.data for lease in pull(new, T0 + 60)] == [b"b"]


def test_subscription_keeps_its_messages_without_its_topic() -> None:
    broker = wired()
    publish(broker, b"a")
    broker.delete_topic(TOPIC)
    broker.create_topic(types.Topic(name=TOPIC))
    publish(broker, b"b")
    assert broker.subscription(SUBSCRIPTION).resource.topic == "_deleted-topic_"
    assert [lease.message.data for lease in pull(broker, T0)] == [b"a"]


def test_listings_hold_the_resources_of_one_project_by_name() -> None:
    broker = wired()
    broker.create_topic(types.Topic(name="projects/p2/topics/other"))
    assert [topic.name for topic in broker.topics("projects/p")] == [DEAD_TOPIC, TOPIC]
    assert [each.name for each in broker.subscriptions("projects/p")] == [DEAD_SUBSCRIPTION, SUBSCRIPTION]


def test_an_ack_deadline_of_zero_becomes_the_default_of_ten_seconds() -> None:
    broker = wired(ack_deadline_seconds=0)
    assert broker.subscription(SUBSCRIPTION).resource.ack_deadline_seconds == 10


def test_existing_resources_cannot_be_created_again() -> None:
    broker = wired()
    with pytest.raises(CallRejected) as topic:
        broker.create_topic(types.Topic(name=TOPIC))
    with pytest.raises(CallRejected) as subscription:
        broker.create_subscription(types.Subscription(name=SUBSCRIPTION, topic=TOPIC))
    assert topic.value.code == subscription.value.code == grpc.StatusCode.ALREADY_EXISTS


def test_missing_resources_raise_not_found() -> None:
    broker = wired()
    missing_topic, missing = "projects/p/topics/missing", "projects/p/subscriptions/missing"
    calls: list[Callable[[], object]] = [
        lambda: broker.topic(missing_topic),
        lambda: broker.delete_topic(missing_topic),
        lambda: broker.publish(missing_topic, [PublishedMessage(b"a", {})], T0),
        lambda: broker.subscription(missing),
        lambda: broker.delete_subscription(missing),
        lambda: broker.pull(missing, 1, T0),
        lambda: broker.acknowledge(missing, ["id"], T0),
        lambda: broker.modify_ack_deadline(missing, ["id"], 0, T0),
        lambda: broker.create_subscription(types.Subscription(name=missing, topic=missing_topic)),
        lambda: broker.create_subscription(
            types.Subscription(name=missing, topic=TOPIC, dead_letter_policy={"dead_letter_topic": missing_topic})
        ),
    ]
    for call in calls:
        with pytest.raises(CallRejected) as rejected:
            call()
        assert rejected.value.code == grpc.StatusCode.NOT_FOUND
    assert broker.subscriptions("projects/p") == [
        broker.subscription(DEAD_SUBSCRIPTION).resource,
        broker.subscription(SUBSCRIPTION).resource,
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "events"},
        {"name": "projects/p/topics/events"},
        {"name": "projects/p/subscriptions/1-starts-with-a-digit"},
        {"name": "projects/p/subscriptions/google-reserved"},
        {"ack_deadline_seconds": 9},
        {"ack_deadline_seconds": 601},
        {"retry_policy": {"minimum_backoff": timedelta(seconds=20), "maximum_backoff": timedelta(seconds=10)}},
        {"retry_policy": {"maximum_backoff": timedelta(seconds=601)}},
        {"dead_letter_policy": {"dead_letter_topic": DEAD_TOPIC, "max_delivery_attempts": 4}},
        {"dead_letter_policy": {"dead_letter_topic": DEAD_TOPIC, "max_delivery_attempts": 101}},
    ],
    ids=str,
)
def test_settings_out_of_bounds_are_an_invalid_argument(settings: dict[str, Any]) -> None:
    with pytest.raises(CallRejected) as rejected:
        wired(**settings)
    assert rejected.value.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "settings",
    [
        {"filter": 'attributes.a = "b"'},
        {"enable_message_ordering": True},
        {"enable_exactly_once_delivery": True},
        {"push_config": {"push_endpoint": "http://127.0.0.1:1/"}},
        {"bigquery_config": {"table": "p.d.t"}},
    ],
    ids=str,
)
def test_unsupported_settings_are_rejected(settings: dict[str, Any]) -> None:
    with pytest.raises(CallRejected) as rejected:
        wired(**settings)
    assert rejected.value.code == grpc.StatusCode.UNIMPLEMENTED


def test_calls_with_impossible_arguments_are_an_invalid_argument() -> None:
    broker = wired()
    publish(broker, b"a")
    [lease] = pull(broker, T0)
    calls: list[Callable[[], object]] = [
        lambda: broker.publish(TOPIC, [], T0),
        lambda: broker.publish(TOPIC, [PublishedMessage(b"", {})], T0),
        lambda: broker.publish(TOPIC, [PublishedMessage(bytes(10_000_001), {})], T0),
        lambda: broker.pull(SUBSCRIPTION, 0, T0),
        lambda: broker.acknowledge(SUBSCRIPTION, [], T0),
        lambda: broker.acknowledge(SUBSCRIPTION, [lease.ack_id, "of another subscription"], T0),
        lambda: broker.modify_ack_deadline(SUBSCRIPTION, [lease.ack_id], 601, T0),
    ]
    for call in calls:
        with pytest.raises(CallRejected) as rejected:
            call()
        assert rejected.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert [again.attempt for again in pull(broker, T0 + 60)] == [2]


def test_a_message_of_attributes_alone_is_delivered() -> None:
    broker = wired()
    broker.publish(TOPIC, [PublishedMessage(b"", {"a": "b"})], T0)
    assert [lease.message.attributes for lease in pull(broker, T0)] == [{"a": "b"}]
