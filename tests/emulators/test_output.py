"""Output of each command at 80 columns in a pipe: numbers, ids and names are whole, and there are no boxes."""

import csv
import json
import pathlib
import re
import uuid
from collections.abc import Iterator, Sequence

import pytest

from sluice.local.stack import Emulators
from tests.support import command_line
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.dead_letter_commands import NOW, message, order

COMMANDS = [
    ["sql", "ingestion_freshness"],
    ["sql", "dead_letter_causes"],
    ["dead-letters", "list", "--all"],
    ["dead-letters", "replay", "--all", "--dry-run"],
    ["reconcile", "--from", "2h"],
    ["replay", "--from", "2h", "--dry-run"],
    ["backfill", "FILE", "--dry-run"],
    ["snapshot", "--list"],
    ["erase", "--customer", "C-1001", "--dry-run"],
    ["contract", "check"],
]


@pytest.fixture(scope="module")
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    """A day with long ids, accepted and rejected."""
    with fresh_datasets(running_emulators, views=True) as fresh:
        events = [message(f"accepted-{uuid.uuid4()}", order()) for _ in range(12)]
        events += [message(f"rejected-{uuid.uuid4()}", order(status="lost")) for _ in range(11)]
        fresh.stream(events, NOW)
        command_line.sluice(["snapshot", "orders", "dead_letters"], fresh.environment)
        yield fresh


def is_compared(cell: str) -> bool:
    """Return whether a cell is the same for people as for programs: times and long fractions are not."""
    return not re.search(r"\d{4}-\d\d-\d\dT|\.\d{5}|^[\[{]", cell)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_numbers_and_ids_are_whole_in_a_pipe_of_80_columns(
    datasets: Datasets, command: Sequence[str], tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text("".join(json.dumps(json.loads(order(order_id=f"o-{uuid.uuid4()}"))) + "\n" for _ in range(3)))
    given = [str(file) if part == "FILE" else part for part in command]
    environment = {**datasets.environment, "COLUMNS": "80", "FLUSH_TIMEOUT": "0.01", "CODE_VERSION": "tests"}
    plain = command_line.sluice(given, environment)
    as_csv = command_line.sluice([*given, "--csv"], environment)
    assert plain.returncode == as_csv.returncode == 0, plain.stderr + as_csv.stderr
    assert not re.search("[\u2500-\u257f\x1b\u2026]", plain.stdout)
    head, *rows = csv.reader(as_csv.stdout.splitlines(keepends=True))
    assert rows or command == ["contract", "check"]
    named = [(name, cell) for row in rows for name, cell in zip(head, row, strict=True)]
    cells = [cell for name, cell in named if is_compared(cell) and not name.startswith("seconds_since")]
    for line in (line for cell in cells for line in cell.split("\n")):
        assert re.search(rf"(^| ){re.escape(line)}( |$)", plain.stdout, re.MULTILINE), (head, line, plain.stdout)
