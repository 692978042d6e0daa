"""`sluice contract new`: a new event type whose tests and check pass at once."""

import pathlib
import shutil
import subprocess
import sys

import pytest

from ops.contract.new import Taken, Unfit, files, free, write
from ops.contract.project import ROOT

PARTS = ("docs", "functions", "jsonschemas", "ops", "sql", "tests")
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


@pytest.mark.check
def test_its_tests_pass_it_agrees_with_its_table_and_no_list_has_to_change(project: pathlib.Path) -> None:
    assert len(LONGEST) == 40
    for arguments in (["parcel"], [LONGEST, "--table", LONGEST]):
        made = run(project, "ops.cli", "contract", "new", *arguments)
        assert made.returncode == 0, made.stderr
        assert f"wrote jsonschemas/{arguments[0]}.v1.json" in made.stdout
        assert "sluice contract check" in made.stdout
    checked = run(project, "ops.cli", "contract", "check")
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
    answer = run(project, "ops.cli", "contract", "new", "parcel", "--dry-run")
    assert (answer.returncode, "would write sql/schema/parcels.sql" in answer.stdout) == (0, True), answer.stderr
    assert not (project / "sql" / "schema" / "parcels.sql").exists()


@pytest.mark.parametrize("path", [*files("parcel", "parcels"), "sql/views/parcels.sql"])
def test_nothing_is_overwritten(tmp_path: pathlib.Path, path: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("mine")
    with pytest.raises(Taken, match=path):
        free(files("parcel", "parcels"), "parcels", tmp_path)
    if path in files("parcel", "parcels"):
        with pytest.raises(FileExistsError):
            write(files("parcel", "parcels"), tmp_path)
        assert (tmp_path / path).read_text() == "mine"


@pytest.mark.parametrize("name", ["Parcel", "2parcels", "par-cel", "a__b", "_a", "a_", "", "../a", "é", "x" * 41])
def test_a_name_that_is_no_snake_case_is_refused_for_a_type_and_for_a_table(name: str) -> None:
    with pytest.raises(Unfit):
        files(name, "parcels")
    with pytest.raises(Unfit):
        files("parcel", name)


def test_a_word_of_python_is_no_name_of_a_handler(project: pathlib.Path) -> None:
    answer = run(project, "ops.cli", "contract", "new", "return")
    assert (answer.returncode, "word of Python" in answer.stderr) == (2, True)


def test_a_second_one_of_the_same_name_is_told(project: pathlib.Path) -> None:
    answer = run(project, "ops.cli", "contract", "new", "order", "--table", "others")
    assert (answer.returncode, "jsonschemas/order.v1.json is there already" in answer.stderr) == (1, True)
