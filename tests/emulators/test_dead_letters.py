"""Dead letters, from the event that is refused to the row that it becomes, on the emulators, by the commands."""

import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.message import Message
from ops.stack.stack import Emulators
from tests.emulators.datasets import Datasets, fresh_datasets
from tests.unit import samples

SLUICE = pathlib.Path(sys.executable).with_name("sluice")
NOW = datetime.now(UTC)

REPAIR = """
def transform(payload, attributes):
    if b"lost" not in payload:
        return None
    return payload.replace(b'"lost"', b'"pending"')
"""


@pytest.fixture
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators, views=True) as fresh:
        yield fresh


def order(days_ago: float = 0, **changes: Any) -> bytes:
    date = (NOW - timedelta(days=days_ago)).isoformat()
    return json.dumps(samples.event("order", order_date=date, **changes)).encode()


def message(event_id: str, payload: bytes, **attributes: str) -> Message:
    return Message(payload, {"event_id": event_id, **attributes}, f"m-{event_id}", NOW)


def run(datasets: Datasets, *arguments: object, code: int = 0, script: str | None = None) -> str:
    """Run the command; gives its standard output, and after a failure its standard error."""
    program = [SLUICE] if script is None else [sys.executable, "-c", script]
    ran = subprocess.run(
        [*program, *map(str, arguments)],
        env={**os.environ, **datasets.environment, "COLUMNS": "200", "CODE_VERSION": "tests"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout if code == 0 else ran.stderr


def letters(datasets: Datasets, *arguments: object) -> Any:
    return json.loads(run(datasets, "dead-letters", *arguments, "--json"))


def ledger(datasets: Datasets) -> list[dict[str, Any]]:
    return sorted(datasets.rows("live.replays"), key=lambda row: (row["replayed_at"], row["event_id"]))


def test_the_whole_way_of_dead_letters_that_come_back(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    bad = [message(f"lost-{number}", order(status="lost", order_id=f"o-{number}")) for number in range(3)]
    others = [message("old", order(100)), message("broken", b'{"event_type": "order"'), message("good", order())]
    datasets.stream([*bad, *others], NOW)

    groups = {one["rule"]: one for one in letters(datasets, "list")}
    assert {rule: (one["stage"], one["open_events"]) for rule, one in groups.items()} == {
        "enum": ("contract", 3),
        "minimum": ("time_bounds", 1),
        "json": ("decode", 1),
    }
    enum = groups["enum"]
    assert (enum["path"], enum["event_type"], enum["events"]) == ("$.status", "order", 3)
    assert enum["example_event_id"].startswith("lost-")
    assert '"lost"' in enum["message"]
    assert [one["rule"] for one in letters(datasets, "list", "--stage", "decode")] == ["json"]
    assert [one["rule"] for one in letters(datasets, "list", "--type", "order", "--since", "1h")] == ["enum", "minimum"]
    shown = run(datasets, "dead-letters", "list")
    assert "$.status  enum" in shown
    assert enum["fingerprint"] in shown

    nothing = letters(datasets, "replay", "--all", "--dry-run")
    assert (nothing["events"], nothing["passing"]) == (5, 1)
    assert ledger(datasets) == []
    assert datasets.ids("live.orders") == ["good"]
    assert "say which" in run(datasets, "dead-letters", "replay", code=2)

    repair = tmp_path / "repair.py"
    repair.write_text(REPAIR)
    dry = run(datasets, "dead-letters", "replay", "--fingerprint", enum["fingerprint"], "--transform", repair, "--dry-run")
    assert "3 of 3 would pass with today's contracts." in dry
    assert '-  "status": "lost",\n+  "status": "pending",' in dry
    assert datasets.ids("live.orders") == ["good"]

    before = datasets.objects()
    done = run(datasets, "dead-letters", "replay", "--all", "--transform", repair, "--rate", "500")
    assert "3 of 5 passed, and are rows now." in done
    assert "left alone" in done
    assert datasets.ids("live.orders") == ["good", "lost-0", "lost-1", "lost-2"]
    assert [row["open_events"] for row in letters(datasets, "list")] == [1, 1]
    [(uri, envelopes)] = [(uri, found) for uri, found in datasets.objects().items() if uri not in before]
    assert {one.event_id for one in envelopes} == {"lost-0", "lost-1", "lost-2"}
    for row in datasets.rows("live.orders"):
        assert (row["ingest"]["archive_uri"] == uri) == (row["ingest"]["event_id"] != "good")
    for envelope in envelopes:
        assert re.fullmatch(r"repair\.py:[0-9a-f]{16}", envelope.attributes["sluice_transform"])
    for entry in ledger(datasets):
        assert (entry["outcome"], entry["source"], entry["archive_uri"]) == ("row", "dead_letter", uri)
        assert (entry["fingerprint"], entry["new_fingerprint"]) == (enum["fingerprint"], None)
        assert entry["transform"] == envelopes[0].attributes["sluice_transform"]
        assert (entry["code_version"], bool(entry["replayed_by"])) == ("tests", True)

    again = letters(datasets, "replay", "--fingerprint", enum["fingerprint"], "--transform", repair)
    assert (again["events"], again["rows"], len(ledger(datasets))) == (0, {}, 3)

    plain = letters(datasets, "replay", "--all")
    assert (plain["events"], plain["passing"]) == (2, 1)
    assert plain["rows"] == {f"{datasets.settings.historical_dataset}.orders": 1}
    [row] = datasets.rows("historical.orders")
    assert row["ingest"]["archive_uri"] in before
    [still] = letters(datasets, "list")
    assert still["rule"] == "json"
    outcomes = {entry["event_id"]: (entry["outcome"], entry["new_fingerprint"]) for entry in ledger(datasets)[3:]}
    assert outcomes == {"old": ("row", None), "broken": ("dead_letter", still["fingerprint"])}
    assert len(datasets.rows("live.dead_letters")) == 5
    everything = letters(datasets, "list", "--all")
    assert {one["rule"]: (one["open_events"], one["events"]) for one in everything} == {
        "enum": (0, 3),
        "minimum": (0, 1),
        "json": (1, 1),
    }
    summary = datasets.client.query_and_wait(
        f"SELECT rule, events, open_events FROM `{datasets.settings.dataset}.dead_letter_summary` ORDER BY rule"
    )
    assert [tuple(row.values()) for row in summary] == [("enum", 3, 0), ("json", 1, 1), ("minimum", 1, 0)]
