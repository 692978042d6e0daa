"""What tests of several folders share."""

import pytest

from tests.terraform import terraform as running
from tests.terraform.terraform import RUNBOOK, Planned, Terraform


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Runs Terraform in a copy of the folder."""
    return running.terraform(tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="session")
def planned(terraform: Terraform) -> Planned:
    """What Terraform would make of dev, with a reader: the variables' defaults, mostly."""
    access = '-var=access={readers=["group:analysts@example.com"]}'
    return running.planned(terraform, "dev", f"-var=runbook_url={RUNBOOK}", access)
