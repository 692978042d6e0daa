"""A command says on a terminal where it works."""

import pathlib
import sys
from datetime import UTC, datetime

import pytest

from sluice.commands.command_settings import command_settings
from sluice.local import data_folder
from sluice.local.data_folder import DataFolder, RunningStack


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_command_names_its_place_on_a_terminal(
    is_terminal: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    monkeypatch.setenv(data_folder.VARIABLE, str(tmp_path))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "shop-prod")
    monkeypatch.setenv("DATASET", "live")
    with DataFolder(tmp_path).locked():
        stack = RunningStack(1, datetime.now(UTC), "v1", {"GOOGLE_CLOUD_PROJECT": "sluice-local"}, [])
        DataFolder(tmp_path).write(stack)
        command_settings(archive=False)
    place = "project shop-prod, dataset live, Google Cloud; the stack in"
    assert (place in capsys.readouterr().err) == is_terminal
