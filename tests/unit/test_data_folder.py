"""Commands find the local stack, unless the shell names another place."""

import os
import pathlib
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from sluice.cli import app
from sluice.local import data_folder
from sluice.local.confinement import confined
from sluice.local.data_folder import DataFolder, NoDataFolder, RunningStack, StackRuns, UnreadableState

STACK = RunningStack(
    1, datetime(2026, 11, 29, tzinfo=UTC), "v", {"GOOGLE_CLOUD_PROJECT": "local", "DATASET": "dev"}, []
)


def test_a_state_of_another_version_is_named_and_has_its_process(tmp_path: pathlib.Path) -> None:
    folder = DataFolder(tmp_path / ".sluice")
    with folder.locked():
        (folder.path / "stack.json").write_text('{"pid": 7, "addresses": {}}')
        with pytest.raises(UnreadableState, match=r"stack.json cannot be read: .* of another version"):
            folder.running()
        assert folder.pid() == os.getpid()


def test_a_file_is_no_data_folder(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".sluice").touch()
    with pytest.raises(NoDataFolder, match="is a file"), DataFolder(tmp_path / ".sluice").locked():
        pass


def test_the_stack_is_found_from_its_folder_and_those_below(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.delenv(data_folder.VARIABLE)
    (below := tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(below)
    assert data_folder.find().path == below / ".sluice"
    with DataFolder(tmp_path / ".sluice").locked():
        assert data_folder.find().path == tmp_path / ".sluice"
        assert data_folder.find().running() is None
        assert f"process {os.getpid()}, is not up: it starts or ends" in CliRunner().invoke(app, ["status"]).output
        data_folder.find().write(STACK)
        assert data_folder.find().running() == STACK
    assert data_folder.find().running() is None
    assert data_folder.find().pid() is None
    monkeypatch.setenv(data_folder.VARIABLE, "c")
    assert data_folder.find().path == below / "c"


@pytest.mark.parametrize(
    ("environment", "taken"),
    [
        ({}, True),
        ({"DATASET": "dev", "PATH": "/bin"}, True),
        ({"GOOGLE_CLOUD_PROJECT": "shop"}, False),
        ({"DATASET": "events"}, False),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "key.json"}, False),
    ],
)
def test_a_shell_that_names_another_place_never_gets_the_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, environment: dict[str, str], taken: bool
) -> None:
    monkeypatch.setenv(data_folder.VARIABLE, str(tmp_path))
    before = dict(environment)
    with DataFolder(tmp_path).locked():
        DataFolder(tmp_path).write(STACK)
        data_folder.use(environment)
        assert (data_folder.other_selection(STACK, environment) is None) == taken
    assert environment == (before | dict(STACK.environment) if taken else before)


def test_a_folder_has_one_stack_at_a_time(tmp_path: pathlib.Path) -> None:
    folder = DataFolder(tmp_path)
    with folder.locked():
        folder.write(STACK)
        with pytest.raises(StackRuns, match="since 2026-11-29 00:00:00 UTC, process 1; `sluice down` ends it"):
            DataFolder(tmp_path).locked().__enter__()
    with folder.locked():
        assert folder.running() is None


def test_a_folder_with_other_files_is_never_taken(tmp_path: pathlib.Path) -> None:
    (tmp_path / "code").mkdir()
    with pytest.raises(NoDataFolder, match="has other files; name a folder that is empty or does not exist"):
        DataFolder(tmp_path).locked().__enter__()
    assert [file.name for file in tmp_path.iterdir()] == ["code"]


def test_a_fresh_start_deletes_only_what_a_stack_has_written(tmp_path: pathlib.Path) -> None:
    with DataFolder(tmp_path).locked():
        (tmp_path / "notes.txt").touch()
        for name in ("bigquery", "storage", "code"):
            (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / "ingest.log").touch()
        DataFolder(tmp_path).clear()
    assert {file.name for file in tmp_path.iterdir()} == {".gitignore", "lock", "notes.txt"}


def test_a_start_deletes_read_only_code_that_a_killed_stack_left(tmp_path: pathlib.Path) -> None:
    (inner := tmp_path / "code" / "1" / "functions").mkdir(parents=True)
    (inner / "main.py").touch()
    for folder in (inner, inner.parent):
        folder.chmod(0o555)
    program = "import pathlib; from sluice.local.data_folder import DataFolder; DataFolder(pathlib.Path()).clear_run()"
    with confined(2**30) as unprivileged:
        subprocess.run([*unprivileged, sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert not (tmp_path / "code").exists()
