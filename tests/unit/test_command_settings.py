"""A command says on a terminal where it works."""

import pathlib
import sys
from datetime import UTC, datetime

import pytest
import requests
from google.auth.exceptions import DefaultCredentialsError

from functions.settings import InvalidSettings
from sluice.commands.command_settings import check_topic, command_settings
from sluice.commands.error_messages import message
from sluice.local import data_folder
from sluice.local.data_folder import DataFolder, RunningStack
from sluice.local.names import TOPIC


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_command_names_its_place_on_a_terminal(
    is_terminal: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    monkeypatch.setenv(data_folder.VARIABLE, str(tmp_path))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "shop-prod")
    monkeypatch.setenv("DATASET", "live")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with DataFolder(tmp_path).locked():
        stack = RunningStack(1, datetime.now(UTC), "v1", {"GOOGLE_CLOUD_PROJECT": "sluice-local"}, [])
        DataFolder(tmp_path).write(stack)
        with pytest.raises(DefaultCredentialsError) as without_credentials:
            command_settings(archive=False)
        assert message(without_credentials.value).endswith("is not used, as GOOGLE_CLOUD_PROJECT is set")
        with pytest.raises(InvalidSettings, match=r"is missing; .* is not used, as GOOGLE_CLOUD_PROJECT is set"):
            check_topic(TOPIC)
    place = "project shop-prod, dataset live, Google Cloud; the stack in"
    assert (place in capsys.readouterr().err) == is_terminal


def test_an_error_says_that_a_stack_starts(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(data_folder.VARIABLE, str(tmp_path))
    with DataFolder(tmp_path).locked(), pytest.raises(InvalidSettings, match=r"is not up yet: try again"):
        check_topic(TOPIC)


def test_an_emulator_that_does_not_answer_is_named_with_a_remedy() -> None:
    with pytest.raises(requests.ConnectionError) as unanswered:
        requests.get("http://127.0.0.1:1/", timeout=1)
    assert message(unanswered.value) == (
        "127.0.0.1:1 did not answer: ConnectionError; does the stack still run (`sluice status`)?"
    )
