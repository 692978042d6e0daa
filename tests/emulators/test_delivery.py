"""The whole way through Pub/Sub: publish, delivery, redelivery, the real events."""

import pathlib
import signal
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from sluice.cli import app
from sluice.local.functions import serving
from sluice.local.stack import Emulators, Stack
from sluice.publish import Publication, publish
from sluice.shop.generator import Generated, Scenario
from sluice.shop.timeline import history_until
from tests.support.deployed_stack import Deploy, Warehouse

NORTHWIND = pathlib.Path(__file__).parents[3] / "shared" / "data" / "northwind-events.ndjson"
needs_northwind = pytest.mark.skipif(
    not NORTHWIND.exists(),
    reason=f"the Northwind events are not there: {NORTHWIND.name} comes with the developers' data",
)


def scenario(events: int, share: float = 0.0) -> list[Generated]:
    return list(history_until(Scenario(7, share, share), events, datetime.now(UTC)))


def send(stack: Stack, messages: list[Generated]) -> None:
    publications = (Publication(message.data, message.attributes) for message in messages)
    assert publish(publications, stack.topic) == len(messages)


def ids(messages: list[Generated], *kinds: str) -> set[str]:
    return {message.attributes["event_id"] for message in messages if message.kind in kinds}


def test_published_events_become_one_row_or_dead_letter_each(stack: Stack, warehouse: Warehouse) -> None:
    messages = scenario(600, 0.1)
    good, bad = ids(messages, "good", "duplicate"), ids(messages, "bad")
    before = warehouse.accounts()
    send(stack, messages)
    accounts = warehouse.wait_for(len(before.accepted | before.dead) + len(good | bad))
    assert accounts.accepted - before.accepted == good
    assert accounts.dead - before.dead == bad
    assert {rows[event_id] for rows in accounts.rows.values() for event_id in rows.keys() & good} == {1}
    sent = {message.attributes["event_id"]: message.data for message in messages}
    archived = warehouse.archived()
    assert {event_id: set(archived[event_id]) for event_id in sent} == {
        event_id: {data} for event_id, data in sent.items()
    }


def test_events_in_flight_are_redelivered_after_a_kill(
    deploy: Deploy, running_emulators: Emulators, tmp_path: pathlib.Path
) -> None:
    messages = scenario(500)
    with deploy("killed") as stack:
        warehouse = Warehouse(stack)
        send(stack, messages)
        accepted = len(warehouse.wait_for(50).accepted)
        stack.ingest.child.signal(signal.SIGKILL)
        stack.ingest.child.process.wait()
        assert accepted < len(messages), "all was done before the kill"
        environment = {
            **running_emulators.environment,
            "ARCHIVE_BUCKET": stack.settings.archive_bucket,
            "DATASET": stack.settings.dataset,
        }
        port = int(stack.ingest.url.rpartition(":")[2])
        with serving("ingest", tmp_path, environment, "ingest-again", port=port):
            accounts = warehouse.wait_for(len(messages))
            assert accounts.accepted == ids(messages, "good")
            assert accounts.dead == set()


def sluice(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_publish_reads_standard_input_and_names_a_missing_topic(stack: Stack, warehouse: Warehouse) -> None:
    before = warehouse.accounts()
    lines = b"".join(message.data + b"\n" for message in scenario(30))
    arguments = ["publish", "-", "--limit", "20", "--rate", "1000", "--topic"]
    result = CliRunner().invoke(app, [*arguments, stack.topic], input=lines)
    assert result.exit_code == 0, result.output
    accounts = warehouse.wait_for(len(before.accepted | before.dead) + 20)
    assert len(accounts.accepted - before.accepted) == 20
    result = CliRunner().invoke(app, [*arguments, f"{stack.topic}-not"], input=lines)
    assert result.exit_code == 1
    assert f"Not published to {stack.topic}-not: " in result.output
    assert "SLUICE_TOPIC" in result.output
    assert "again" not in result.output, "nothing was published, and there is nothing to continue"


def test_all_that_is_generated_becomes_rows_of_the_past(stack: Stack, warehouse: Warehouse) -> None:
    before = warehouse.accounts()
    written = CliRunner().invoke(app, ["generate", "--stdout", "--limit", "400"])
    result = CliRunner().invoke(app, ["publish", "-", "--topic", stack.topic], input=written.stdout_bytes)
    assert result.exit_code == 0, result.output
    for _ in range(2):
        assert sluice("generate", "--limit", "100", "--rate", "1000", "--topic", stack.topic)
    after = warehouse.wait_for(len(before.accepted | before.dead) + 600)
    assert len(after.accepted - before.accepted) == 600
    assert after.dead == before.dead
    [stock] = warehouse.query("SELECT MAX(last_changed_at) AS changed_at FROM `{dataset}.stock_levels`")
    assert stock.changed_at <= datetime.now(UTC)


@pytest.mark.check
@needs_northwind
def test_shifted_northwind_events_are_all_rows_with_exact_sums(deploy: Deploy) -> None:
    with deploy("northwind", RETENTION_DAYS="1825") as stack:
        warehouse = Warehouse(stack)
        sluice("publish", str(NORTHWIND), "--shift-to-now", "--topic", stack.topic)
        accounts = warehouse.wait_for(3_807)
        assert {table: len(rows) for table, rows in accounts.rows.items()} == {
            "orders": 1_639,
            "inventory": 2_168,
            "user_activity": 0,
        }
        assert accounts.dead == set()
        [orders] = warehouse.query("SELECT SUM(total_amount) AS n FROM `{dataset}.orders` WHERE status = 'pending'")
        [changes] = warehouse.query("SELECT SUM(quantity_change) AS n FROM `{dataset}.inventory`")
        assert (orders.n, changes.n) == (Decimal("1265793.01"), -51_317)


@pytest.mark.check
@needs_northwind
def test_the_northwind_events_as_they_are_are_too_old_to_be_rows(stack: Stack, warehouse: Warehouse) -> None:
    before = warehouse.accounts()
    sluice("publish", str(NORTHWIND), "--topic", stack.topic)
    accounts = warehouse.wait_for(len(before.accepted | before.dead) + 3_807)
    assert accounts.accepted == before.accepted
    counts = {cause: letters.total() for cause, letters in accounts.dead_letters.items()}
    for cause, letters in before.dead_letters.items():
        counts[cause] -= letters.total()
    assert {cause: count for cause, count in counts.items() if count} == {("time_bounds", "minimum"): 3_807}
