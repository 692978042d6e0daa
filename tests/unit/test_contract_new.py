"""`sluice contract new`: a new event type whose tests and check pass at once."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from sluice.cli import app
from sluice.contract.new import Taken, Unfit, files, free, write
from sluice.contract.project import ROOT

PARTS = ("docs", "fake_google", "functions", "jsonschemas", "sluice", "sql", "tests", "tools")
PAGE = ("is_that_of_the_sql", "says_who_uses_each_table_and_view")
LONGEST = "an_event_type_with_a_name_of_forty_chars"


@pytest.fixture
def project(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the project."""
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(project: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def contents(project: pathlib.Path) -> dict[str, bytes]:
    files = (path for path in project.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(project)): path.read_bytes() for path in files}


@pytest.mark.check
def test_generated_type_passes_its_tests_and_the_contract_check(project: pathlib.Path) -> None:
    assert len(LONGEST) == 40
    for arguments in (["parcel"], [LONGEST, "--table", LONGEST]):
        made = run(project, "sluice.cli", "contract", "new", *arguments)
        assert made.returncode == 0, made.stderr
        assert f"wrote jsonschemas/{arguments[0]}.v1.json" in made.stdout
        assert "sluice contract check" in made.stdout
    checked = run(project, "sluice.cli", "contract", "check")
    assert (checked.returncode, "no findings" in checked.stderr) == (0, True), checked.stdout + checked.stderr
    general = [f"tests/unit/test_{name}.py" for name in ("contracts", "definitions", "partition_pruning", "process")]
    page = [f"tests/unit/test_docs.py::test_the_page_of_the_data_model_{name}" for name in PAGE]
    tests = run(project, "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/events", *general, *page)
    assert tests.returncode == 0, tests.stdout
    written = [path for arguments in ("parcel", LONGEST) for path in files(arguments, "t") if path.endswith(".py")]
    for command in (["check"], ["format", "--check"]):
        style = run(project, "ruff", *command, "--no-cache", *written)
        assert style.returncode == 0, style.stdout


def test_a_dry_run_writes_nothing(project: pathlib.Path) -> None:
    before = contents(project)
    answer = run(project, "sluice.cli", "contract", "new", "parcel", "--dry-run")
    assert (answer.returncode, "would write sql/schema/parcels.sql" in answer.stdout) == (0, True), answer.stderr
    assert contents(project) == before


def test_every_file_that_changes_is_listed(project: pathlib.Path) -> None:
    before = contents(project)
    dry, done = (run(project, "sluice.cli", "contract", "new", "parcel", *options) for options in (["--dry-run"], []))
    listed = set(re.findall(r"^(?:wrote|changed) (.+)$", done.stdout, re.MULTILINE))
    assert listed == set(re.findall(r"^would (?:write|change) (.+)$", dry.stdout, re.MULTILINE))
    after = contents(project)
    assert listed == {path for path, data in after.items() if before.get(path) != data}


@pytest.mark.parametrize("path", files("parcel", "parcels"))
def test_nothing_is_overwritten(tmp_path: pathlib.Path, path: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("mine")
    with pytest.raises(Taken, match=path):
        free(files("parcel", "parcels"), "parcel", "parcels", tmp_path)
    with pytest.raises(FileExistsError):
        write(files("parcel", "parcels"), tmp_path)
    assert (tmp_path / path).read_text() == "mine"


@pytest.mark.parametrize("path", ["sql/views/parcels.sql", "sql/views/parcels_all.sql", "sql/schema/parcels_all.sql"])
def test_no_name_is_given_twice(tmp_path: pathlib.Path, path: str) -> None:
    for file in ("sql/views/each/all.sql", path):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(Taken, match=path):
        free(files("parcel", "parcels"), "parcel", "parcels", tmp_path)
    free(files("parcel", "others"), "parcel", "others", tmp_path)


def test_invalid_name_of_a_type_or_a_table_is_rejected() -> None:
    for name, table in (("Parcel", "parcels"), ("parcel", "Parcels"), ("unknown", "parcels"), ("parcel", "dataset")):
        with pytest.raises(Unfit):
            files(name, table)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["return"], 2, "keyword of Python"),
        (["event_types"], 2, "functions.events"),
        (["smoke_test"], 2, "reserved"),
        (["refund", "--table", "orders_all"], 1, "of the view of the table orders by sql/views/each/all.sql"),
        (["refund", "--table", "stock_levels"], 1, "of the view of sql/views/stock_levels.sql"),
    ],
)
def test_the_command_names_the_clash_and_writes_nothing(arguments: list[str], code: int, said: str) -> None:
    ran = CliRunner().invoke(app, ["contract", "new", *arguments, "--dry-run"], env={"COLUMNS": "400"})
    assert (ran.exit_code, said in ran.stderr, ran.stdout) == (code, True, ""), ran.stderr


def test_existing_type_is_reported(project: pathlib.Path) -> None:
    answer = run(project, "sluice.cli", "contract", "new", "order", "--table", "others")
    assert (answer.returncode, "jsonschemas/order.v1.json already exists" in answer.stderr) == (1, True)
