"""A switch of the engine, applied with providers that make nothing: what Terraform does before what."""

import os
import pathlib
import re

import pytest

from tests.support.configuration import configuration
from tests.support.terraform import edited, passed

pytestmark = pytest.mark.check

JOB = "google_dataflow_flex_template_job.ingest[0]"
SUBSCRIPTION = "google_pubsub_subscription.ingest"

STEP = re.compile(r"\[DEBUG\] (\S+): applying the planned (\w+) change")


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Resource and change of each step of the switch to Dataflow and back, in their order."""
    place = tmp_path_factory.mktemp("switch")
    programs = place / "programs"
    programs.mkdir()
    for name in ("sh", "sleep"):  # what the module's provisioners call
        (programs / name).write_text("#!/bin/true\n")
        (programs / name).chmod(0o755)
    run = edited(
        place / "copy",
        pathlib.Path(__file__).with_name("switch.tftest.hcl"),
        ("prevent_destroy = true", "prevent_destroy = false"),
        PATH=f"{programs}:{os.environ['PATH']}",
        TF_LOG="debug",
    )
    done = run("test", "-no-color")
    assert passed(done)
    logged = STEP.findall(done.stderr)
    begin, end = logged.index((JOB, "Create")), logged.index((JOB, "Delete"))
    before = max(at for at, step in enumerate(logged[:begin]) if step == (SUBSCRIPTION, "Create"))
    torn_down = logged.index((SUBSCRIPTION, "Delete"))
    assert before < begin < end < torn_down
    return logged[before + 1 : torn_down]


def test_the_push_ends_before_the_job_begins(steps: list[tuple[str, str]]) -> None:
    assert steps.index((SUBSCRIPTION, "Update")) < steps.index((JOB, "Create"))


def test_the_job_is_drained_before_the_push_begins(steps: list[tuple[str, str]]) -> None:
    back = steps[steps.index((JOB, "Create")) :]
    assert back.index((JOB, "Delete")) < back.index((SUBSCRIPTION, "Update"))


def test_the_job_may_read_and_write_until_it_has_ended(steps: list[tuple[str, str]]) -> None:
    ended = steps.index((JOB, "Delete"))
    withdrawn = [
        at
        for at, (address, change) in enumerate(steps)
        if change == "Delete" and "dataflow" in address and address != JOB
    ]
    assert len(withdrawn) > 8
    assert min(withdrawn) > ended


@pytest.mark.parametrize("resource", ["google_pubsub_subscription.ingest", "google_bigquery_dataset.events"])
def test_dependencies_of_the_job_are_reverted_after_its_end(steps: list[tuple[str, str]], resource: str) -> None:
    """Terraform updates it after what it depended on is destroyed, which is destroyed after the job."""
    assert "${terraform_data.pull}" in configuration().resources[resource]["depends_on"]
    back = [address for address, _ in steps[steps.index((JOB, "Delete")) :]]
    changed = next(at for at, address in enumerate(back) if address.partition("[")[0] == resource)
    assert back.index("terraform_data.pull[0]") < changed


def test_no_resource_with_events_is_recreated(steps: list[tuple[str, str]]) -> None:
    holding = (
        "google_pubsub_topic.",
        "google_pubsub_subscription.",
        "google_storage_bucket.archive",
        "google_bigquery_dataset.",
    )
    changed = {change for address, change in steps if address.startswith(holding)}
    assert changed <= {"Update"}
