"""A switch of the engine or of the mode, applied with providers that make nothing: what Terraform does before what."""

import os
import pathlib
import re

import pytest

from tests.support.configuration import configuration
from tests.support.terraform import edited, passed

pytestmark = pytest.mark.check

JOB = "google_dataflow_flex_template_job.ingest[0]"
SUBSCRIPTION = "google_pubsub_subscription.ingest"
DRAIN = "google_cloudfunctions2_function.drain[0]"
SCHEDULE = "google_cloud_scheduler_job.drain[0]"
WAIT = "terraform_data.drain[0]"

STEP = re.compile(r"\[DEBUG\] (\S+): applying the planned (\w+) change")


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Resource and change of each step of the switches to Dataflow, to batch mode and back, in their order."""
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


def test_the_push_ends_before_drain_is_called(steps: list[tuple[str, str]]) -> None:
    to_batch = steps[steps.index((JOB, "Delete")) : steps.index((SCHEDULE, "Delete"))]
    push_ends = max(at for at, step in enumerate(to_batch) if step == (SUBSCRIPTION, "Update"))
    assert to_batch.index((DRAIN, "Create")) < push_ends < to_batch.index((SCHEDULE, "Create"))


def test_last_run_of_drain_ends_before_its_permissions_and_the_push(steps: list[tuple[str, str]]) -> None:
    back = steps[steps.index((SCHEDULE, "Delete")) :]
    waited = back.index((WAIT, "Delete"))
    assert waited < back.index((SUBSCRIPTION, "Update"))
    withdrawn = [at for at, (address, change) in enumerate(back) if change == "Delete" and "drain" in address]
    assert len(withdrawn) > 8
    assert [back[at][0] for at in withdrawn[:2]] == [SCHEDULE, WAIT]
    assert waited < min(at for at, (address, _) in enumerate(back) if address.startswith("google_bigquery_dataset"))


def test_the_wait_for_the_last_run_is_the_timeout_of_drain() -> None:
    ends = [wait["local-exec"] for wait in configuration().resources["terraform_data.drain"]["provisioner"]]
    [wait] = [step["command"] for step in ends if "when" in step]
    assert wait == f"sleep {configuration().local_values['drain_timeout_seconds']}"


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
