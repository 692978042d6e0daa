"""Replay from the archive, and from the Pub/Sub dead-letter subscription, on the emulators, by the command."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from google.pubsub_v1 import types

from functions.core.message import SMOKE_TEST_ATTRIBUTE
from functions.core.pipeline import EventPipeline
from sluice.local import pubsub
from sluice.local.process import free_port
from sluice.local.stack import Emulators
from sluice.replay.archived import arrived
from tests.support import samples
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.dead_letter_commands import KILLED, ledger, letters, message, order, run
from tests.support.pubsub_wiring import HOW_TO_GET, Wiring, emulator_process
from tests.support.requires import missing
from tests.support.waiting import PATIENCE

NOW = datetime.now(UTC)


@pytest.fixture
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators, views=True) as fresh:
        yield fresh


def replay(datasets: Datasets, *arguments: object) -> Any:
    return json.loads(run(datasets, "replay", *arguments, "--json"))


def hours_ago(hours: float) -> str:
    return (NOW - timedelta(hours=hours)).isoformat()


def test_archived_events_are_replayed_by_arrival_time_and_type(datasets: Datasets) -> None:
    process, archive = EventPipeline.from_settings(datasets.settings), datasets.archive()
    inventory = json.dumps(samples.event("inventory", timestamp=NOW.isoformat())).encode()
    for hours, name in ((30, "a"), (3, "b"), (2, "c"), (0.5, "d")):
        at = NOW - timedelta(hours=hours)
        sent = [message(name, order()), message(f"stock {name}", inventory)]
        archive.write(archive.name(at), [process(message, NOW) for message in sent], 10)
    dry = replay(datasets, "--from", hours_ago(31), "--to", hours_ago(2.5), "--type", "order", "--dry-run")
    assert (dry["rows"], dry["sources"]) == ({f"{datasets.settings.dataset}.orders": 2}, 2)
    assert (datasets.ids("live.orders"), ledger(datasets)) == ([], [])
    replay(datasets, "--from", hours_ago(31), "--to", hours_ago(2.5), "--type", "order")
    assert (datasets.ids("live.orders"), datasets.ids("live.inventory")) == (["a", "b"], [])
    assert [(entry["event_id"], entry["source"], entry["outcome"]) for entry in ledger(datasets)] == [
        ("a", "archive", "row"),
        ("b", "archive", "row"),
    ]
    everything = replay(datasets, "--from", "3d")
    assert everything["rows_present"] == {f"{datasets.settings.dataset}.orders": 2}
    assert datasets.ids("live.orders") == ["a", "b", "c", "d"]
    assert datasets.ids("live.inventory") == [f"stock {name}" for name in "abcd"]
    assert replay(datasets, "--from", "3d")["rows"] == {}
    assert len(ledger(datasets)) == 8
    assert "not before" in run(datasets, "replay", "--from", "1h", "--to", "2h", code=2)
    assert "give either --from" in run(datasets, "replay", code=2)


def test_time_range_includes_the_start_and_excludes_the_end(datasets: Datasets) -> None:
    process, archive = EventPipeline.from_settings(datasets.settings), datasets.archive()
    midnight = datetime(2026, 11, 23, tzinfo=UTC)
    moments = [midnight + timedelta(microseconds=number) for number in (-1, 0, 1, 2)]
    names = [archive.name(moment) for moment in moments]
    for name in names:
        archive.write(name, [process(message("a", order()), NOW)], 10)
    zone = timezone(timedelta(hours=-5))
    objects = arrived(
        datasets.storage, datasets.settings.archive_bucket, midnight.astimezone(zone), moments[3].astimezone(zone)
    )
    assert [line.source for source in objects for line in source.lines(lambda _: None)] == [
        archive.uri(name) for name in names[1:3]
    ]


def test_replayed_dead_letters_are_closed_even_after_a_kill(datasets: Datasets) -> None:
    datasets.stream([message("old", order(100)), message("bad", order(status="lost")), message("good", order())], NOW)
    run(datasets, "replay", "--from", "1h", code=-9, script=KILLED.format("ledger.Ledger"))
    assert datasets.ids("historical.orders") == ["old"]
    assert {group["stage"] for group in letters(datasets, "list")} == {"time_bounds", "contract"}
    replay(datasets, "--from", "1h")
    assert [(entry["event_id"], entry["outcome"]) for entry in ledger(datasets)] == [("old", "row")]
    assert [group["stage"] for group in letters(datasets, "list")] == ["contract"]
    replay(datasets, "--from", "1h")
    assert len(ledger(datasets)) == 1


@pytest.fixture(scope="module", params=[pytest.param("google", marks=pytest.mark.check), "stand-in"])
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """`host:port` of a running Pub/Sub emulator."""
    if request.param == "google" and pubsub.google_emulator() is None:
        missing(HOW_TO_GET)
    port = free_port()
    with emulator_process(port, stand_in=request.param == "stand-in"):
        asyncio.run(pubsub.wait_until_ready(f"127.0.0.1:{port}", timeout=PATIENCE))
        yield f"127.0.0.1:{port}"


@pytest.fixture
def wiring(broker: str, monkeypatch: pytest.MonkeyPatch) -> Wiring:
    """Topics of a test's own, found by the command's client."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", broker)
    wiring = Wiring(broker)
    asyncio.run(wiring.create())
    monkeypatch.setenv("SLUICE_UNDELIVERABLE", wiring.dead_letters)
    return wiring


async def give_up(wiring: Wiring, *sent: types.PubsubMessage) -> list[types.ReceivedMessage]:
    """Publish messages, and reject each until Pub/Sub gives up on it; return them as they were published."""
    await wiring.publish(*sent)
    first: dict[str, types.ReceivedMessage] = {}
    for _ in range(40):
        received = await wiring.pull(wiring.subscription, patience=0.5)
        first |= {
            delivery.message.message_id: delivery for delivery in received if delivery.message.message_id not in first
        }
        await reject(wiring, wiring.subscription, received)
        if not received:
            dead = await wiring.pull(wiring.dead_letters, patience=0.5)
            await reject(wiring, wiring.dead_letters, dead)
            if len(dead) == len(sent):
                return list(first.values())
    raise AssertionError(f"{len(first)} of {len(sent)} messages arrived, and not all are undeliverable")


def waiting(wiring: Wiring) -> list[types.ReceivedMessage]:
    """Return the messages of the dead-letter subscription, and give them back."""

    async def look() -> list[types.ReceivedMessage]:
        received = await wiring.pull(wiring.dead_letters, patience=1)
        await reject(wiring, wiring.dead_letters, received)
        return received

    return asyncio.run(look())


async def reject(wiring: Wiring, subscription: str, received: list[types.ReceivedMessage]) -> None:
    async with pubsub.open_channel(wiring.emulator) as channel:
        if ids := [delivery.ack_id for delivery in received]:
            client = pubsub.subscriber_client(channel)
            await client.modify_ack_deadline(subscription=subscription, ack_ids=ids, ack_deadline_seconds=0)


def sent(event_id: str | None, data: bytes) -> types.PubsubMessage:
    return types.PubsubMessage(data=data, attributes={"event_id": event_id} if event_id else {"producer": "shop"})


def test_undeliverable_messages_are_replayed_and_acknowledged(datasets: Datasets, wiring: Wiring) -> None:
    there = message("there", order(order_id="there"))
    datasets.stream([there], NOW)
    smoke = sent(f"smoke-{'0' * 32}-order", order(order_id="smoke"))
    smoke.attributes[SMOKE_TEST_ATTRIBUTE] = f"smoke-{'0' * 32}"
    messages = [
        sent("there", there.data),
        sent("lost", order(order_id="lost")),
        sent("lost", order(order_id="lost")),
        sent(None, order(100, order_id="old")),
        sent("bad", b"\xff"),
        smoke,
    ]
    published = asyncio.run(give_up(wiring, *messages))
    assert len(published) == 6
    dry = replay(datasets, "--undeliverable", "--dry-run", "--patience", "3")
    assert (dry["lines"], dry["repeated"], dry["smoke_tests"], dry["dead_letters"]) == (6, 1, 1, {"decode": 1})
    assert (datasets.ids("live.orders"), ledger(datasets)) == (["there"], [])
    assert len(waiting(wiring)) == 6

    done = replay(datasets, "--undeliverable", "--patience", "3")
    live, historical = datasets.settings.dataset, datasets.settings.historical_dataset
    assert done["rows"] == {f"{live}.orders": 1, f"{historical}.orders": 1}
    assert (done["rows_present"], done["dead_letters"]) == ({f"{live}.orders": 1}, {"decode": 1})
    assert waiting(wiring) == []
    assert datasets.ids("live.orders") == ["lost", "there"]
    [lost] = [row for row in datasets.rows("live.orders") if row["order_id"] == "lost"]
    times = {delivery.message.publish_time.replace(microsecond=0) for delivery in published}
    assert lost["ingest"]["publish_time"].replace(microsecond=0) in times
    [old] = datasets.rows("historical.orders")
    assert old["ingest"]["event_id"] == old["ingest"]["message_id"]
    [letter] = datasets.rows("live.dead_letters")
    assert (letter["event_id"], letter["payload"]) == ("bad", b"\xff")
    for row in (lost, old):
        [envelope] = [
            envelope
            for envelope in datasets.objects()[row["ingest"]["archive_uri"]]
            if envelope.event_id == row["ingest"]["event_id"]
        ]
        assert envelope.attributes["CloudPubSubDeadLetterSourceSubscription"] == "events-push"
    outcomes = {(entry["event_id"], entry["source"], entry["outcome"]) for entry in ledger(datasets)}
    assert {outcome[1:] for outcome in outcomes if outcome[0] in {"there", "lost"}} == {("undeliverable", "row")}
    assert ("bad", "undeliverable", "dead_letter") in outcomes
    assert len(ledger(datasets)) == 4


def test_person_is_erased_from_undeliverable_messages(datasets: Datasets, wiring: Wiring) -> None:
    theirs = [sent("ada-1", order(customer_id="ada.lovelace")), sent("ada-2", order(customer_id="ada.lovelace")[:-1])]
    others = [sent("bob", order(customer_id="bob")), sent("wish", b'{"text": "for ada.lovelace"}')]
    asyncio.run(give_up(wiring, *theirs, *others))
    command = ["erase", "--customer", "ada.lovelace", "--undeliverable", "--patience", "3"]
    doubtful = f"Uncertain: event wish in {wiring.dead_letters}"
    assert doubtful in run(datasets, *command, "--dry-run", code=1)
    assert len(waiting(wiring)) == 4
    assert doubtful in run(datasets, *command, code=1)
    assert sorted(delivery.message.attributes["event_id"] for delivery in waiting(wiring)) == ["bob", "wish"]
    assert json.loads(run(datasets, *command, "--event", "wish", "--json"))["messages"] == 1
    assert [delivery.message.attributes["event_id"] for delivery in waiting(wiring)] == ["bob"]
    output = run(datasets, *command, "--subscription", "projects/p/subscriptions/none", code=1)
    assert "Not erased: undeliverable messages: projects/p/subscriptions/none" in output


@pytest.mark.check
@pytest.mark.parametrize("broker", ["stand-in"], indirect=True)
@pytest.mark.parametrize("place", ["ledger.Ledger", "undeliverable.Undeliverable"])
def test_run_killed_before_acknowledging_is_completed_by_the_next_run(
    datasets: Datasets, wiring: Wiring, place: str
) -> None:
    asyncio.run(give_up(wiring, sent("lost", order())))
    command = ["replay", "--undeliverable", "--patience"]
    run(datasets, *command, 3, code=-9, script=KILLED.format(place))
    assert datasets.ids("live.orders") == ["lost"]
    done = replay(datasets, *command[1:], 14)
    assert (done["rows"], done["rows_present"]) == ({}, {f"{datasets.settings.dataset}.orders": 1})
    assert datasets.ids("live.orders") == ["lost"]
    assert {entry["outcome"] for entry in ledger(datasets)} == {"row"}
    assert waiting(wiring) == []


def test_message_that_could_not_be_loaded_stays_in_the_subscription(datasets: Datasets, wiring: Wiring) -> None:
    asyncio.run(give_up(wiring, sent("lost", order()), sent("bad", b"bad")))
    table = f"{datasets.settings.dataset}.orders"
    datasets.client.query_and_wait(f"ALTER TABLE `{table}` DROP COLUMN extras")
    output = run(datasets, "replay", "--undeliverable", "--patience", "3", code=1)
    assert "No such field: extras" in output
    assert [delivery.message.attributes["event_id"] for delivery in waiting(wiring)] == ["lost"]
    assert [entry["event_id"] for entry in ledger(datasets)] == ["bad"]


def test_row_rejected_by_bigquery_is_recorded_and_acknowledged(datasets: Datasets, wiring: Wiring) -> None:
    asyncio.run(give_up(wiring, sent("good", order(customer_id="1")), sent("refused", order(customer_id="c"))))
    table = f"{datasets.settings.dataset}.orders"
    datasets.client.query_and_wait(f"ALTER TABLE `{table}` DROP COLUMN customer_id")
    datasets.client.query_and_wait(f"ALTER TABLE `{table}` ADD COLUMN customer_id INT64")
    done = replay(datasets, "--undeliverable", "--patience", "3")
    assert (done["rows"], done["dead_letters"]) == ({table: 1}, {"warehouse": 1})
    assert waiting(wiring) == []
    [letter] = datasets.rows("live.dead_letters")
    entries = {entry["event_id"]: (entry["outcome"], entry["new_fingerprint"]) for entry in ledger(datasets)}
    assert entries == {"good": ("row", None), "refused": ("dead_letter", letter["fingerprint"])}


def test_missing_subscription_is_named(datasets: Datasets, wiring: Wiring) -> None:
    del wiring
    output = run(datasets, "replay", "--undeliverable", "--subscription", "projects/p/subscriptions/none", code=1)
    assert "projects/p/subscriptions/none: " in output
