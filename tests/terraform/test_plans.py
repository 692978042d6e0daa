"""Terraform's plans are those that somebody has reviewed."""

import pytest

from tests.support.terraform import FOLDER as TERRAFORM
from tests.support.terraform import OFFLINE, Terraform, planned
from tests.terraform.plans import ENVIRONMENTS, FOLDER, readable


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_plan_is_as_it_was_looked_at(terraform: Terraform, name: str) -> None:
    """Run `.venv/bin/python -m tests.terraform.plans` after an intended change, and review the difference."""
    if not OFFLINE.exists():
        pytest.skip("another version of the provider plans other defaults; ../shared has the one that was looked at")
    reviewed = (FOLDER / f"{name}.json").read_text()
    # Terraform makes up eight characters for what only the cloud knows; now and then all are digits, as in a duration.
    assert readable(planned(terraform, name)) == reviewed or readable(planned(terraform, name)) == reviewed


def test_the_tables_are_there_before_the_code_that_fills_them() -> None:
    functions = (TERRAFORM / "functions.tf").read_text()
    ingest = functions.partition('resource "google_cloudfunctions2_function" "ingest"')[2]
    assert "terraform_data.bootstrap," in ingest.partition("depends_on")[2]
    bootstrap = (TERRAFORM / "bootstrap.tf").read_text()
    assert 'command = "sh ${path.module}/run_bootstrap.sh"' in bootstrap
