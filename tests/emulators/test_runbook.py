"""The runbook and the pages on dead letters and erasure, followed: situations are caused, commands typed as written.

The commands of `gcloud` are checked in tests/unit/test_docs.py.
"""

import contextlib
import json
import pathlib
import re
import shlex
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from google.cloud import bigquery
from typer.testing import CliRunner

from functions.clients import bigquery_client, storage_client
from functions.core.contracts import Contracts
from sluice.cli import app
from sluice.demo.check import ArchiveFollower
from sluice.local.functions import serving, unpacked
from sluice.local.names import topic_name
from sluice.local.stack import Stack
from sluice.package import ROOT
from sluice.publish import Publication, publish
from tests.support import monitoring
from tests.support.broken_tables import other_type
from tests.support.deployed_stack import Deploy
from tests.support.emulator_gaps import CANNOT_RUN
from tests.support.push_requests import event, post, wrapped
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.check

NOW = datetime.now(UTC)
NAME = "runbook"
PAGES = ("operate", "dead-letters", "erase")
TEXT = "".join((ROOT / "docs" / f"{page}.md").read_text() for page in PAGES)

type Type = Callable[..., str]
"""Types the next command of a section, which must end with a code, and gives what it says."""


def sections() -> dict[str, str]:
    """Text by heading."""
    parts = re.split(r"^#+ (.+)\n", TEXT, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands(text: str) -> list[list[str]]:
    """Those of `sluice`."""
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        for line in block.split("\n")
    ]
    return [shlex.split(line)[1:] for line in lines if line.startswith(".venv/bin/sluice ")]


TO_TYPE = {title: typed for title, text in sections().items() if (typed := commands(text))}


@pytest.fixture(scope="module")
def stack(deploy: Deploy) -> Iterator[Stack]:
    """A deployment of this module's own: it is broken again and again."""
    with deploy(NAME, CODE_VERSION="runbook") as stack:
        yield stack


@contextlib.contextmanager
def following(stack: Stack, title: str, placeholders: Mapping[str, str]) -> Iterator[Type]:
    """Type all commands of a section in their order, with what is known in the place of its capitals."""
    environment = {
        **stack.environment,
        "SLUICE_TOPIC": stack.topic,
        "SLUICE_UNDELIVERABLE": stack.undeliverable,
        "FLUSH_TIMEOUT": "0.01",  # What came just now is compared, too.
        "COLUMNS": "200",
    }
    remaining = list(TO_TYPE[title])

    def type_next(code: int = 0) -> str:
        given = [placeholders.get(part, part) for part in remaining.pop(0)]
        # A subscription without messages ends the command sooner than in production.
        ended = CliRunner().invoke(
            app, given, env=environment, default_map={"replay": {"patience": 2}, "erase": {"patience": 2}}
        )
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.output
        assert ended.exit_code == code, f"{given}: {ended.output}"
        return ended.output

    yield type_next
    assert remaining == [], "is written, and nobody types it"


def cell(output: str, row: str, column: str) -> str:
    """Return a cell of a printed table."""
    cells = [re.split(" {2,}", line) for line in output.splitlines()]
    [head] = [line for line in cells if column in line]
    [cells_of_row] = [line for line in cells if line and line[0] == row]
    return cells_of_row[head.index(column)]


def query(stack: Stack, sql: str) -> list[bigquery.Row]:
    """`{live}` and `{historical}` are the datasets."""
    names = {"live": stack.settings.dataset, "historical": stack.settings.historical_dataset}
    return list(bigquery_client(stack.settings).query_and_wait(sql.format(**names)))


def errors(log: pathlib.Path) -> str:
    """Return the lines that `gcloud logging read` of this page would show."""
    return "".join(line for line in log.read_text().splitlines(keepends=True) if '"severity":"ERROR"' in line)


def events_wait_too_long(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del placeholders
    post(stack, event("inventory"))
    query(stack, "ALTER TABLE `{live}.orders` DROP COLUMN extras")
    publish([Publication(json.dumps(event("order", gift=True)).encode(), {"event_id": "waits"})], stack.topic)
    wait_until(lambda: "orders lacks a column: extras" in errors(stack.ingest.child.log), "the log says why")
    output = types()
    assert (cell(output, "inventory", "row_count"), cell(output, "orders", "row_count")) == ("1", "0")
    assert httpx.post(stack.bootstrap.url, timeout=PATIENCE).status_code == 200
    waiting = "SELECT 1 FROM `{live}.orders` WHERE ingest.event_id = 'waits'"
    wait_until(lambda: query(stack, waiting), "the event has its row")


def undeliverable_events(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    payload = json.dumps(event("order", order_id="undeliverable")).encode()
    placeholders["EVENT_ID"] = "undeliverable"
    publish([Publication(payload, {"event_id": "undeliverable"})], topic_name(f"{NAME}-undeliverable"))
    assert "The event is in no table" in types(code=1)


def many_dead_letters(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    for number in range(3):
        placeholders["EVENT_ID"], answer = post(stack, event("order", status="lost", order_id=f"lost-{number}"))
        assert answer.status_code == 204
    post(stack, event("order", order_date=(NOW - timedelta(days=100)).isoformat(), order_id="old"))
    output = types()
    assert (cell(output, "contract", "events"), cell(output, "contract", "before")) == ("3", "0")
    placeholders["FINGERPRINT"] = cell(output, "contract", "cause")
    assert int(cell(types(), "runbook", "dead_letters")) >= 4


@contextlib.contextmanager
def contracts_with(folder: pathlib.Path, **changes: Any) -> Iterator[pathlib.Path]:
    """Use contracts of a second version of the order, which differs from the first, while the context lasts."""
    shutil.copytree(ROOT / "jsonschemas", folder)
    order = json.loads((folder / "order.v1.json").read_text())
    (folder / "order.v2.json").write_text(json.dumps(order | changes))
    with pytest.MonkeyPatch.context() as patch:
        load = Contracts.load
        patch.setattr(Contracts, "load", lambda: load(folder))
        yield folder


@contextlib.contextmanager
def strict_revision(stack: Stack, folder: pathlib.Path) -> Iterator[str]:
    """Serve the code with a second version of the order that asks for a coupon; its address."""
    code = unpacked(folder / "code")
    order = json.loads((code / "jsonschemas" / "order.v1.json").read_text())
    order["required"].append("coupon")
    order["properties"]["coupon"] = {"type": "string"}
    (code / "jsonschemas" / "order.v2.json").write_text(json.dumps(order))
    environment = {**stack.environment, "CODE_VERSION": "strict"}
    with serving("ingest", folder, environment, "strict", code=code) as ingest:
        yield ingest.url


def a_new_contract_rejects_too_much(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    def send(url: str, event_id: str, **attributes: str) -> None:
        body = wrapped(event("order", order_id=event_id), event_id, **attributes)
        assert httpx.post(url, json=body, timeout=PATIENCE).status_code == 204

    with tempfile.TemporaryDirectory() as folder, strict_revision(stack, pathlib.Path(folder)) as url:
        send(url, "strict-newest")
        send(url, "strict-2", schema_version="2")
        send(url, "strict-1", schema_version="1")
    output = types()
    assert re.search(r"order +1 +strict +1 +0 ", output), output
    assert re.search(r"order +2 +strict +2 +2 ", output), output
    assert "$.coupon" in types()
    send(stack.ingest.url, "rolled-back")
    assert query(stack, "SELECT 1 FROM `{live}.orders` WHERE order_id = 'rolled-back'")
    [letter, _] = query(stack, "SELECT fingerprint FROM `{live}.dead_letters` WHERE code_version = 'strict'")
    other, placeholders["FINGERPRINT"] = placeholders["FINGERPRINT"], letter.fingerprint
    with tempfile.TemporaryDirectory() as folder, contracts_with(pathlib.Path(folder) / "fixed"):
        assert "2 of 2 would pass" in types()
        assert "2 of 2 passed and are rows now." in types()
        assert "Nothing is missing." in types()
    placeholders["FINGERPRINT"] = other
    rows = query(stack, "SELECT order_id FROM `{live}.orders_deduplicated` WHERE order_id LIKE 'strict-%' ORDER BY 1")
    assert [row.order_id for row in rows] == ["strict-1", "strict-2", "strict-newest"]


def the_function_fails(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    assert re.search(CANNOT_RUN["streaming_errors"].match, types(code=1))


def the_function_fails_now_and_then(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    assert int(cell(types(), "runbook", "events")) > 0


def events_arrive_late(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    assert float(cell(types(), "orders", "max_lag_seconds")) > 0.5, "of the one that waited"
    assert "row_count" in types()


def events_arrive_late_now_and_then(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    assert float(cell(types(), "runbook", "p95_lag_seconds")) > 0
    assert "row_count" in types()


def no_events_at_all(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    assert cell(types(), "user_activity", "row_count") == "0"
    assert "All 4 events are in their table and the archive" in types()


def load_files_wait_too_long(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    assert re.search(CANNOT_RUN["failed_jobs"].match, types(code=1))


def the_drain_fails(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    assert cell(types(), "inventory", "row_count") != "0"


def the_job_is_slow(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    """The workers log what the function logs: tests/emulators/test_log_metrics_dataflow.py."""
    del stack, placeholders
    assert cell(types(), "inventory", "row_count") != "0"


def the_job_is_behind(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    assert cell(types(), "inventory", "row_count") != "0"
    assert "row_count" in types()


def the_job_does_not_run(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    assert "All 4 events are in their table and the archive" in types()


def events_are_missing(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    placeholders["EVENT_ID"], _ = post(stack, event("order", order_id="gone"))
    placeholders["DAY"] = f"{datetime.now(UTC):%Y-%m-%d}"
    query(stack, "DELETE FROM `{live}.orders` WHERE order_id = 'gone'")
    output = types(code=1)
    assert f"Missing: {placeholders['EVENT_ID']} (order), gs://" in output
    assert "smoke-" not in output, "whose rows are deleted on purpose"
    assert '"order_id": "gone"' in types()
    assert "would be loaded: 1 rows" in types(code=1)
    assert "loaded: 1 rows" in types()
    assert "Nothing is missing." in types()
    assert query(stack, "SELECT 1 FROM `{live}.orders_deduplicated` WHERE order_id = 'gone'")


def an_event_id_has_several_contents(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    placeholders["EVENT_ID"] = "one-id"
    for status in ("pending", "shipped"):
        body = wrapped(event("order", order_id="one-id", status=status), "one-id")
        assert httpx.post(stack.ingest.url, json=body, timeout=PATIENCE).status_code == 204
    assert cell(types(), "orders", "contents") == "2"
    output = types()
    assert "2 events with different content have this id" in output
    assert ('"status": "pending"' in output, '"status": "shipped"' in output) == (True, True)


def the_reconciliation_failed(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    assert "Nothing is missing." in types()


def the_reconciliation_does_not_run(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    assert "Nothing is missing." in types()


def compaction_fails(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    assert "Nothing is missing." in types()


def backups_fail(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del placeholders
    post(stack, event("order", order_date=(NOW - timedelta(days=86)).isoformat(), order_id="expires"))
    output = types()
    assert re.search(r"orders .* 1 +1 +1$", output, re.MULTILINE), output
    types()
    assert query(stack, "SELECT 1 FROM `{historical}.orders` WHERE order_id = 'expires'")
    assert "orders_20" in types()


def backups_do_not_run(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del placeholders
    post(stack, event("order", order_date=(NOW - timedelta(days=85)).isoformat(), order_id="expires-too"))
    assert re.search(r"orders .* 1 +1 +1$", output := types(), re.MULTILINE), output
    types()
    assert query(stack, "SELECT 1 FROM `{historical}.orders` WHERE order_id = 'expires-too'")
    assert "inventory_20" in types()


def the_bootstrap_failed(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del placeholders
    with other_type(bigquery_client(stack.settings), f"{stack.settings.dataset}.inventory"):
        assert httpx.post(stack.bootstrap.url, timeout=PATIENCE).status_code == 409
        assert '"rejected"' in errors(stack.bootstrap.child.log)
        output = types()
        assert "extras" in output
        assert "INT64" in output
    assert httpx.post(stack.bootstrap.url, timeout=PATIENCE).status_code == 200


def the_bootstrap_does_not_run(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    client = bigquery_client(stack.settings)
    del placeholders
    client.query_and_wait(f"ALTER TABLE `{stack.settings.historical_dataset}.inventory` ADD COLUMN weight INT64")
    assert "weight" in types()
    client.query_and_wait(f"ALTER TABLE `{stack.settings.historical_dataset}.inventory` DROP COLUMN weight")


def queries_cost_too_much(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    for name in ("cost_by_query", "cost_by_user"):
        assert re.search(CANNOT_RUN[name].match, types(code=1))


def stop_and_start_the_push(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    """The relay of the local stack is its push."""
    del placeholders
    [relay] = [child for child in stack.children if child.name.endswith("-relay")]
    waiting = "SELECT 1 FROM `{live}.orders` WHERE ingest.event_id = 'behind-the-push'"
    relay.signal(signal.SIGSTOP)
    try:
        publish([Publication(json.dumps(event("order")).encode(), {"event_id": "behind-the-push"})], stack.topic)
        assert not query(stack, waiting)
    finally:
        relay.signal(signal.SIGCONT)
    assert "All 4 events are in their table and the archive" in types()
    wait_until(lambda: query(stack, waiting), "what waited has its row")


def stop_and_start_the_job(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    assert "All 4 events are in their table and the archive" in types()


def dead_letters(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    assert placeholders["FINGERPRINT"] in types()
    assert placeholders["FINGERPRINT"] in types()
    of_cause = f"SELECT event_id FROM `{{live}}.dead_letters` WHERE fingerprint = '{placeholders['FINGERPRINT']}'"
    placeholders["EVENT_ID"] = query(stack, of_cause)[0].event_id
    assert '"status": "lost"' in types()
    assert "would pass with the current contracts" in types()
    assert "0 of 3 would pass" in types()
    output = types()
    assert '+  "status": "pending"' in output
    assert "3 of 3 would pass" in output
    assert "3 of 3 passed and are rows now." in types()
    assert "1 of 1 passed" in types()
    assert len(query(stack, "SELECT 1 FROM `{live}.orders` WHERE order_id LIKE 'lost-%'")) == 3
    assert len(query(stack, "SELECT 1 FROM `{historical}.orders` WHERE order_id = 'old'")) == 1


def what_pubsub_gave_up_on(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del placeholders
    assert "orders: rows would be loaded" in types()
    assert "orders: rows loaded" in types()
    assert query(stack, "SELECT 1 FROM `{live}.orders` WHERE ingest.event_id = 'undeliverable'")


def what_the_archive_has(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    del stack, placeholders
    assert "Dry run: nothing was written" in types()
    assert "sources: 0" in types(), "an hour in which nothing arrived here"


def erase_a_person(stack: Stack, placeholders: dict[str, str], types: Type) -> None:
    placeholders |= {"USER_ID": "ada", "CUSTOMER_ID": "ada-customer"}
    post(stack, event("order", customer_id="ada-customer"))
    post(stack, event("user_activity", user_id="ada"))
    post(stack, event("order", customer_id="ada-customer", status="lost"))
    post(stack, b'{"customer_id": "ada-customer", ')
    output = types()
    assert cell(output, "events in the archive", "would_be_erased") == "4"
    assert cell(output, "of all rows and events: not JSON", "would_be_erased") == "2"
    output = types()
    assert cell(output, "events in the archive", "erased") == "4"
    assert cell(output, f"rows of {stack.settings.dataset}.dead_letters", "erased") == "2"
    assert "Snapshot orders_20" in output
    assert not re.search(r"\bada\b", output)
    reader = ArchiveFollower(storage_client(stack.settings), stack.settings.archive_bucket)
    assert not any(b'"ada' in envelope.message().data for envelope in reader.new_envelopes())


SITUATIONS: Mapping[str, Callable[[Stack, dict[str, str], Type], None]] = {
    "Events wait too long": events_wait_too_long,
    "Undeliverable events": undeliverable_events,
    "Many dead letters": many_dead_letters,
    "A new contract rejects too much": a_new_contract_rejects_too_much,
    "The function fails": the_function_fails,
    "The function fails now and then": the_function_fails_now_and_then,
    "Events arrive late": events_arrive_late,
    "Events arrive late now and then": events_arrive_late_now_and_then,
    "No events at all": no_events_at_all,
    "Load files wait too long": load_files_wait_too_long,
    "The drain fails": the_drain_fails,
    "The drain does not run": the_drain_fails,
    "The Dataflow job is slow": the_job_is_slow,
    "The Dataflow job is behind": the_job_is_behind,
    "The Dataflow job does not run": the_job_does_not_run,
    "Events are missing": events_are_missing,
    "An event id has several contents": an_event_id_has_several_contents,
    "The reconciliation failed": the_reconciliation_failed,
    "The reconciliation does not run": the_reconciliation_does_not_run,
    "Compaction fails": compaction_fails,
    "Backups fail": backups_fail,
    "Backups do not run": backups_do_not_run,
    "The bootstrap failed": the_bootstrap_failed,
    "The bootstrap does not run": the_bootstrap_does_not_run,
    "Queries cost too much": queries_cost_too_much,
    "Stop and start the push": stop_and_start_the_push,
    "Stop and start drain": the_drain_fails,
    "Stop and start the Dataflow job": stop_and_start_the_job,
    "Dead letters": dead_letters,
    "What Pub/Sub gave up on": what_pubsub_gave_up_on,
    "What the archive has and the tables do not": what_the_archive_has,
    "Erase a person": erase_a_person,
}
"""The situations in the order of the page: a later one fixes what an earlier one leaves behind."""


def test_every_section_with_something_to_type_is_followed() -> None:
    assert list(TO_TYPE) == list(SITUATIONS)
    assert {alert["title"] for alert in monitoring.alerts_of_engines()} <= TO_TYPE.keys()


@pytest.fixture(scope="module")
def placeholders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The values for the page's placeholders in capitals, as far as earlier sections gave them."""
    repair = tmp_path_factory.mktemp("runbook") / "repair.py"
    repair.write_text(re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[0])
    # The emulator takes its time for each hour, also for those in which nothing arrived.
    return {"repair.py": str(repair), "5h": "1h"}


@pytest.mark.parametrize("title", SITUATIONS)
def test_instructions_of_each_section_help(stack: Stack, placeholders: dict[str, str], title: str) -> None:
    with following(stack, title, placeholders) as types:
        SITUATIONS[title](stack, placeholders, types)
