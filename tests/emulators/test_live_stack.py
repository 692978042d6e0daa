"""`sluice up` as a person uses it: it stays, it is found, it keeps its data, and it serves changed code."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from sluice.local import data_folder
from sluice.local.data_folder import DataFolder, Process
from sluice.local.process import Child, free_port, running
from tests.support.clone import clone
from tests.support.samples import event
from tests.support.waiting import PATIENCE, wait_until

SPECIAL = {data_folder.VARIABLE, "PYTEST_CURRENT_TEST"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return clone(tmp_path_factory.mktemp("live") / "clone")


@pytest.fixture
def up(project: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[Child]:
    """A stack in the project's folder, with the stand-in for Pub/Sub."""
    environment = {name: value for name, value in os.environ.items() if name not in SPECIAL}
    command = [".venv/bin/sluice", "up", "--stand-in", "--port", str(free_port())]
    with running("up", command, tmp_path, environment, cwd=project, inherits=False) as child:
        child.wait_until(lambda: DataFolder(project / ".sluice").running() is not None)
        yield child


def sluice(folder: pathlib.Path, *arguments: str, code: int = 0, **variables: str) -> str:
    """Run a command in a folder, in a shell that has no variables of a stack; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name not in SPECIAL} | variables
    root = next(parent for parent in (folder, *folder.parents) if (parent / "main.py").exists())
    command = [str(root / ".venv" / "bin" / "sluice"), *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def status(project: pathlib.Path) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(sluice(project, "status", "--json"))
    return answer


def publish(project: pathlib.Path, folder: pathlib.Path, *events: dict[str, Any]) -> None:
    file = project / "events.ndjson"
    file.write_text("".join(json.dumps(content) + "\n" for content in events))
    sluice(folder, "publish", str(file), "--shift-to-now")


def rows(project: pathlib.Path, table: str) -> int:
    count: int = status(project)["rows"][f"dev_events_dataset.{table}"]
    return count


@pytest.mark.usefixtures("up")
def test_commands_find_the_stack_from_folders_below(project: pathlib.Path) -> None:
    publish(project, project / "sql" / "schema", event("order"))
    wait_until(lambda: rows(project, "orders") == 1, "the order is a row", pause=0.2)
    assert "a stack runs in" in sluice(project, "up", code=1)
    variables = dict(line.removeprefix("export ").split("=") for line in sluice(project, "env").splitlines())
    assert variables == json.loads(sluice(project, "env", "--json"))
    assert variables["BIGQUERY_EMULATOR_HOST"] in sluice(project, "status")
    assert sluice(project, "status", "--csv").startswith("process,address,pid,state\nbigquery,http://127.0.0.1:")
    assert "create" not in sluice(project, "bootstrap", "--plan")


def test_data_stay_until_a_fresh_start(project: pathlib.Path, up: Child) -> None:
    before = rows(project, "orders")
    publish(project, project, event("order", order_id="second"))
    wait_until(lambda: rows(project, "orders") == before + 1, "another order is a row", pause=0.2)
    sluice(project, "down")
    assert up.process.wait(PATIENCE) == 0
    assert "start `sluice up`" in sluice(project, "status", code=1)
    assert "no stack runs" in sluice(project, "down")
    assert (project / ".sluice" / "bigquery").exists()
    DataFolder(project / ".sluice").clear()
    assert not (project / ".sluice" / "bigquery").exists()


def test_a_console_that_ends_is_started_again(project: pathlib.Path, up: Child) -> None:
    def console() -> Process:
        stack = DataFolder(project / ".sluice").running()
        assert stack
        return next(process for process in stack.processes if process.name == "console")

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{console().address}/static/icon.svg").is_success
        return False

    killed = console()
    os.kill(killed.pid, signal.SIGKILL)
    wait_until(lambda: console().pid != killed.pid and answers(), "another one answers", up.tail, pause=0.2)
    assert "console ended with -9" in up.tail(100)


def test_nothing_is_left_of_a_stack_that_is_killed(project: pathlib.Path, up: Child) -> None:
    stack = DataFolder(project / ".sluice").running()
    assert stack
    os.kill(up.process.pid, signal.SIGKILL)
    for process in stack.processes:
        wait_until(lambda group=process.pid: not _is_alive(group), f"{process.name} has ended", up.tail)  # type: ignore[misc]
    assert DataFolder(project / ".sluice").running() is None


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_changed_code_is_served_unless_it_is_broken(project: pathlib.Path, up: Child) -> None:
    contract, ddl = project / "jsonschemas" / "order.v1.json", project / "sql" / "schema" / "orders.sql"
    before = contract.read_text(), ddl.read_text()
    main = project / "main.py"
    text = main.read_text()
    main.write_text("(")
    up.wait_until(lambda: "Not reloaded" in up.log.read_text())
    publish(project, project, event("order", order_id="old code"))
    wait_until(lambda: rows(project, "orders") > 0, "the code of before goes on", up.tail, pause=0.2)
    main.write_text(text)
    contracts = contract.parent.rename(project / "moved")
    up.wait_until(lambda: "no jsonschemas/*.json" in up.log.read_text())
    contracts.rename(contract.parent)
    contract.write_text('{"a": 1,}')
    problem = "jsonschemas/order.v1.json: line 1 column 8 is not JSON: "
    up.wait_until(lambda: problem in up.log.read_text())
    contract.write_text(before[0])
    ddl.write_text("{% for %}")
    problem = "the bootstrap was rejected: definitions: sql/schema/orders.sql: line 1: "
    up.wait_until(lambda: problem in up.log.read_text())
    schema = json.loads(before[0])
    schema["properties"]["color"] = {"type": "string", "description": "Colour."}
    contract.write_text(json.dumps(schema))
    ddl.write_text(before[1].replace("  order_id STRING", "  color STRING,\n  order_id STRING", 1))
    up.wait_until(lambda: "altered dev_events_dataset.orders: + color STRING" in up.log.read_text())
    publish(project, project, event("order", order_id="new code", color="red"))
    query = "SELECT count(*) AS n FROM dev_events_dataset.orders WHERE color = 'red'"
    wait_until(lambda: _answer(project, query) == 1, "the new column is filled", up.tail, pause=0.2)
    contract.write_text(before[0])
    ddl.write_text(before[1])


def _answer(project: pathlib.Path, query: str) -> int:
    stack = DataFolder(project / ".sluice").running()
    assert stack
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGQUERY_EMULATOR_HOST", stack.environment["BIGQUERY_EMULATOR_HOST"])
        client = bigquery.Client("sluice-local", AnonymousCredentials())  # type: ignore[no-untyped-call]
        [row] = client.query_and_wait(query)
    count: int = row.n
    return count
