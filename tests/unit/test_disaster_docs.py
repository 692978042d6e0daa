"""The commands of docs/lost-region.md: run in order against stand-ins, and checked by the Cloud SDK itself."""

import json
import pathlib
import re
from collections.abc import Mapping

import pytest
from typer.testing import CliRunner

from functions.events import event_types
from functions.schema.definitions import FOLDER
from sluice.cli import app
from tests.support import cloud_sdk
from tests.support.configuration import configuration
from tests.support.docs import ROOT
from tests.support.recorded_commands import Call, recorded
from tests.support.terraform import Planned

pytestmark = pytest.mark.check

PAGE = (ROOT / "docs" / "lost-region.md").read_text()


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    return recorded(ROOT / "docs" / "lost-region.md", tmp_path_factory.mktemp("disaster"))


def test_gcloud_bq_and_sluice_take_every_command(calls: list[Call], tmp_path: pathlib.Path) -> None:
    gcloud = sorted({str(call) for call in calls if call.program == "gcloud"})
    assert len(gcloud) > 5
    assert cloud_sdk.rejected_commands(gcloud, tmp_path / "home") == []
    bq = [call.arguments for call in calls if call.program == "bq"]
    assert cloud_sdk.unknown_flags(bq, tmp_path) == []
    for call in calls:
        if call.program == ".venv/bin/sluice":
            parsed = CliRunner().invoke(app, [*call.arguments, "--help"])
            assert parsed.exit_code == 0, parsed.output


def test_terraform_has_every_variable_that_is_given_to_it(calls: list[Call]) -> None:
    declared = configuration(ROOT / "terraform" / "examples" / "prod").variables.keys()
    given = {
        name
        for call in calls
        if call.program == "terraform"
        for argument in call.arguments
        for name in re.findall(r"^-var=(\w+)=", argument)
    }
    assert {"environment", "region", "dataset", "historical_dataset", "deployers"} <= given <= declared


def test_nothing_is_built_in_the_lost_region(calls: list[Call]) -> None:
    """The section sets `REGION` itself: a reader of this section alone has set nothing."""
    [lost] = re.findall(r"LOST=(\S+)", PAGE)
    applied = [call.arguments for call in calls if call.program == "terraform" and "apply" in call.arguments]
    assert [("-var=environment=dr" in arguments) for arguments in applied] == [True, True, False]
    section = PAGE.partition("## The region is lost")[2]
    [region] = re.findall(r"REGION=(\S+)", section)
    assert region != lost
    assert [f"-var=region={region}" in arguments for arguments in applied] == [True, True, False]


def test_sluice_asks_the_new_environment(calls: list[Call]) -> None:
    """`settings` of a state are asked for before the first command that needs them."""
    programs = [call.program for call in calls if call.program == ".venv/bin/sluice" or "output" in call.arguments]
    assert programs[0] == "terraform"


def test_each_name_is_that_of_prod_in_terraforms_plan(plans: Mapping[str, Planned]) -> None:
    """Those of the environment `dr` differ by it alone."""
    planned = json.dumps(plans["prod"])
    names = set(re.findall(r"sluice-(?:prod|dr)-[a-z-]+[a-z]", PAGE))
    assert len(names) > 5
    for name in names:
        assert name.replace("-dr-", "-prod-") in planned, name
    for dataset in set(re.findall(r"events_(?:live|historical)_copy", PAGE)):
        assert f'"dataset_id": "{dataset}"' in planned


def test_all_tables_are_copied_back(calls: list[Call]) -> None:
    copied = [call.arguments[-1].partition(":")[2] for call in calls if call.program == "bq" and "cp" in call.arguments]
    live = {file.stem for file in (FOLDER / "schema").glob("*.sql")} - {"dataset", "historical_dataset"}
    historical = {event_type.table for event_type in event_types().values()}
    assert set(copied) == {f"events_dr.{name}" for name in live} | {
        f"events_historical_dr.{name}" for name in historical
    }
