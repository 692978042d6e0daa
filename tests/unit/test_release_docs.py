"""The commands of docs/release.md: run in order against stand-ins, and each one that there is."""

import pathlib
import re

import pytest

from tests.support import cloud_sdk
from tests.support.configuration import configuration
from tests.support.docs import ROOT
from tests.support.recorded_commands import Call, recorded

pytestmark = pytest.mark.check

TERRAFORM = ROOT / "terraform"


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    page = ROOT / "docs" / "release.md"
    place = tmp_path_factory.mktemp("release")
    (place / "dist").mkdir()
    (place / "dist" / "sluice.zip").touch()
    return recorded(page, place, PROJECT="my-project", REGION="us-central1")


def test_gcloud_takes_every_command_of_the_page(calls: list[Call], tmp_path: pathlib.Path) -> None:
    commands = sorted({str(call) for call in calls if call.program == "gcloud"})
    assert commands
    assert cloud_sdk.rejected_commands(commands, tmp_path) == []


def test_terraform_has_every_variable_and_output_of_the_page(calls: list[Call]) -> None:
    declared = configuration(TERRAFORM / "examples" / "dev")
    commands = [call for call in calls if call.program == "terraform"]
    used = [re.findall(r"^-var=(\w+)=", argument) for call in commands for argument in call.arguments]
    assert {"github", "release"} <= {name for names in used for name in names} <= declared.variables.keys()
    assert {call.arguments[-1] for call in commands if "output" in call.arguments} <= declared.outputs.keys()
    assert all((ROOT / name).exists() for call in commands for name in re.findall(r"-chdir=(\S+)", str(call)))


def test_no_command_takes_the_access_of_the_workflow_away(calls: list[Call]) -> None:
    changing = [call for call in calls if call.program == "terraform" and {"apply", "plan"} & set(call.arguments)]
    assert len(changing) == 2
    given = [[argument for argument in call.arguments if argument.startswith("-var=github=")] for call in changing]
    assert given[0] == given[1] != []


def test_a_release_is_verified_as_the_workflow_verifies_it(calls: list[Call]) -> None:
    verified = [call for call in calls if call.program == "gh" and call.arguments[:2] == ["attestation", "verify"]]
    workflow = (ROOT / ".github" / "workflows" / "deploy.yml").read_text()
    assert len(verified) == 2
    for call in verified:
        assert [argument for argument in call.arguments if argument.startswith("--") and argument not in workflow] == []
    [dispatched] = [call for call in calls if call.arguments[:2] == ["workflow", "run"]]
    assert (ROOT / ".github" / "workflows" / dispatched.arguments[2]).exists()
