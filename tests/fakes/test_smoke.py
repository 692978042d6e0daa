"""The smoke test sends its events, and reports rows that BigQuery cannot delete yet."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import jsonschema_rs
import pytest

from fake_google.answers import Answer
from fake_google.scripted import Cloud
from functions.clients import bigquery_client, storage_client
from functions.core.contracts import FOLDER
from functions.core.message import SMOKE_TEST_IDS, Message
from functions.core.pipeline import EventPipeline
from functions.core.rows import Row
from functions.names import SMOKE_TEST
from functions.schema.definitions import FOLDER as SQL
from sluice import smoke
from sluice.contract.example import example
from sluice.smoke import NoExample, Smoke, oldest_day, probes
from tests.support.settings import settings

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize("retention_days", [1, 2, 90, 1825])
@pytest.mark.parametrize("now", [NOON, NOON.replace(hour=0), NOON.replace(hour=23, minute=59)])
def test_valid_probes_are_in_a_partition_that_expires_soon(retention_days: int, now: datetime) -> None:
    chosen = settings(retention_days=retention_days)
    *good, bad = probes(chosen, now, "smoke-1")
    for moment in (now, now + timedelta(hours=1)):
        for probe in good:
            row = EventPipeline.from_settings(chosen)(Message(probe.data, {}, "1", now), moment)
            assert isinstance(row, Row)
            assert row.table == probe.table
            expires = date.fromisoformat(row.columns["event_date"]) + timedelta(days=retention_days)
            assert now.date() < expires <= now.date() + timedelta(days=2)
    letter = EventPipeline.from_settings(chosen)(Message(bad.data, {}, "1", now), now)
    assert not isinstance(letter, Row)
    assert (letter.event_type, letter.stage, bad.table) == (SMOKE_TEST, "contract", "dead_letters")


def test_each_type_has_an_event_and_the_ids_begin_with_the_run() -> None:
    assert [probe.event_id for probe in probes(settings(), NOON, "smoke-1")] == [
        "smoke-1-inventory",
        "smoke-1-order",
        "smoke-1-user_activity",
        "smoke-1-smoke_test",
    ]
    assert oldest_day(NOON, 90) == date(2026, 8, 26)


SCHEMAS: list[dict[str, Any]] = [
    {"type": "string", "minLength": 50},
    {"type": "string", "maxLength": 2},
    {"type": ["null", "string"]},
    {"type": "string", "pattern": "^[A-Z]{3}$", "examples": ["EUR"]},
    {"type": "string", "oneOf": [{"format": "uuid"}, {"format": "date"}]},
    {"type": "integer", "minimum": 7},
    {"type": "integer", "maximum": -7},
    {"type": "number", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
    {"type": "boolean"},
    {"type": "array", "minItems": 2, "items": {"enum": ["a", "b"]}},
    {"type": "array"},
    {"properties": {"a": {"const": 3}, "b": {}}, "required": ["a", "b"]},
    {"allOf": [{"type": "string"}, {"format": "email"}]},
    *(
        {"type": "string", "format": name}
        for name in ("date", "date-time", "duration", "hostname", "ipv6", "time", "uri")
    ),
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_example_is_valid_for_its_schema(schema: dict[str, Any]) -> None:
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    assert validator.is_valid(example(schema, "smoke"))


def test_impossible_example_names_the_event_type(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = json.loads((FOLDER / "order.v1.json").read_text())
    contract["properties"]["status"] = {"type": "integer"}
    monkeypatch.setattr(smoke, "_default_schema", lambda _contracts, _name: contract)
    with pytest.raises(NoExample, match=r"no inventory event .* \$\."):
        probes(settings(), NOON, "smoke-1")


def test_undeleted_rows_are_reported_with_their_expiration(cloud: Cloud) -> None:
    statements: list[str] = []

    def reject(job: dict[str, Any]) -> Answer:
        statements.append(job["query"])
        message = "UPDATE or DELETE statement would affect rows in the streaming buffer, which is not supported"
        return 400, {"error": {"code": 400, "message": message, "errors": [{"reason": "invalidQuery"}]}}

    cloud.on_job = reject
    chosen = settings()
    test = Smoke(bigquery_client(chosen), storage_client(chosen), chosen)
    remains = {remaining.table: remaining for remaining in test.delete()}
    dataset = chosen.dataset
    assert remains.keys() == {f"{dataset}.{name}" for name in ("dead_letters", "inventory", "orders", "user_activity")}
    now = datetime.now(UTC)
    assert "streaming buffer" in remains[f"{dataset}.orders"].why
    orders, letters = remains[f"{dataset}.orders"].expires, remains[f"{dataset}.dead_letters"].expires
    assert orders is not None
    assert letters is not None
    assert now < orders <= now + timedelta(days=2)
    assert now + timedelta(days=89) < letters < now + timedelta(days=91)
    assert [remaining.expires for remaining in test.delete(all_runs=True)[-3:]] == [None] * 3
    assert all(statement.count(chosen.dataset) + statement.count("historical") == 1 for statement in statements)


def test_all_sql_uses_one_pattern_for_ids_of_the_smoke_test() -> None:
    """Terraform schedules these very files, so that no name can be filled in for the expression."""
    texts = {str(file.relative_to(SQL)): file.read_text() for file in SQL.rglob("*.sql")}
    patterns = {name: set(re.findall(r"'([^']*smoke[^']*)'", text)) for name, text in texts.items() if "smoke-" in text}
    assert patterns == {
        f"{name}.sql": {SMOKE_TEST_IDS}
        for name in ("maintenance/export_partition", "maintenance/keep_history", "monitoring/expiring_partitions")
    }
