"""The commands of the pages on deployment: run in order against stand-ins, and each checked by the Cloud SDK itself."""

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import pytest
from typer.testing import CliRunner

from functions.settings import Settings
from sluice.cli import app
from sluice.local.stack import ACK_DEADLINE_SECONDS
from tests.support import cloud_sdk, deploy_guide
from tests.support import terraform as running
from tests.support.configuration import configuration
from tests.support.docs import ROOT, blocks
from tests.support.recorded_commands import Call, recorded
from tests.support.terraform import Planned, Terraform

pytestmark = pytest.mark.check


PROJECT_ROLES = {
    "roles/bigquery.jobUser",
    "roles/dataflow.worker",
    "roles/eventarc.eventReceiver",
    "roles/logging.logWriter",
    "roles/storage.objectViewer",
}
"""Those that there is no smaller place for; the last one has a condition."""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    """Run all commands of the pages on deployment."""
    place = tmp_path_factory.mktemp("deploy")
    output = recorded(deploy_guide.joined(place), place)
    assert json.loads((place / "lifecycle.json").read_text())["rule"]
    return output


@pytest.fixture(scope="module")
def deployed(terraform: Terraform, planned: Planned) -> Mapping[str, Planned]:
    """Terraform's plan of dev by function: that of batch mode for drain."""
    batch = running.planned(terraform, "dev", '-var=ingest={mode="batch"}')
    return {"ingest": planned, "bootstrap": planned, "reconcile": planned, "compact": planned, "drain": batch}


RESOURCES = {
    "ingest": "google_cloudfunctions2_function.ingest",
    "bootstrap": 'google_cloudfunctions2_function.called["bootstrap"]',
    "reconcile": 'google_cloudfunctions2_function.called["reconcile"]',
    "compact": 'google_cloudfunctions2_function.called["compact"]',
    "drain": "google_cloudfunctions2_function.drain[0]",
}

SCHEDULES = {
    "bootstrap": 'google_cloud_scheduler_job.called["bootstrap"]',
    "reconcile": 'google_cloud_scheduler_job.called["reconcile"]',
    "compact": 'google_cloud_scheduler_job.called["compact"]',
    "drain": "google_cloud_scheduler_job.drain[0]",
}


def of(calls: list[Call], *words: str) -> list[Call]:
    """Calls of gcloud that begin so."""
    return [call for call in calls if call.program == "gcloud" and call.is_of(*words)]


def test_gcloud_takes_every_command_with_its_flags_and_values(calls: list[Call], tmp_path: pathlib.Path) -> None:
    commands = sorted({str(call) for call in calls if call.program == "gcloud"})
    assert len(commands) > 40
    assert cloud_sdk.rejected_commands(commands, tmp_path / "home") == []


def test_wrong_flag_or_value_is_reported(tmp_path: pathlib.Path) -> None:
    wrong = [
        "gcloud pubsub subscriptions create events --topic=events --max-retry-delay=601s",
        "gcloud functions deploy ingest --gen2 --concurency=250",
        "gcloud nonsense",
    ]
    assert len(cloud_sdk.rejected_commands(wrong, tmp_path / "home")) == 3


def test_bq_has_every_command_and_flag(calls: list[Call], tmp_path: pathlib.Path) -> None:
    commands = [call.arguments for call in calls if call.program == "bq"]
    assert len(commands) > 5
    assert cloud_sdk.unknown_flags(commands, tmp_path) == []


def test_everything_else_is_a_command_of_the_project(calls: list[Call]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for call in calls:
        if call.program == "make":
            assert set(call.arguments) <= set(targets), call
        elif call.program == ".venv/bin/sluice":
            parsed = CliRunner().invoke(app, [*call.arguments, "--help"])
            assert parsed.exit_code == 0, parsed.output


def test_the_functions_are_deployed_as_they_read_their_settings(calls: list[Call]) -> None:
    deployments = of(calls, "functions", "deploy")
    assert {call.arguments[2] for call in deployments} == RESOURCES.keys()
    names_of_settings = set(Settings.__struct_encode_fields__)
    for call in deployments:
        assert call.option("runtime") == "python313"
        assert call.option("entry-point") == call.arguments[2]
        assert call.option("source") == "."
        given = [
            argument.split("=", 1)[1]
            for argument in call.arguments
            if re.match(r"--(set|update)-(env-vars|secrets)=", argument)
        ]
        names = {pair.partition("=")[0] for pairs in given for pair in pairs.split(",")}
        assert names <= names_of_settings, call
        if any(argument.startswith("--set-env-vars") for argument in call.arguments):
            variables = dict(pair.split("=", 1) for pair in call.option("set-env-vars").split(","))
            settings = Settings.from_environment(variables)
            assert (settings.dataset, settings.retention_days) == ("dev_events_dataset", 90)


def test_settings_of_the_guide_equal_those_of_terraform(calls: list[Call], deployed: Mapping[str, Planned]) -> None:
    defaults = Settings(archive_bucket="any")
    for call in of(calls, "functions", "deploy"):
        for given in (
            argument.partition("=")[2] for argument in call.arguments if argument.startswith("--set-env-vars=")
        ):
            name, variables = call.arguments[2], dict(pair.split("=", 1) for pair in given.split(","))
            [service] = deployed[name][RESOURCES[name]]["service_config"]
            by_terraform = service["environment_variables"]
            assert variables.keys() <= by_terraform.keys()
            left_out = {name: by_terraform[name] for name in by_terraform.keys() - variables.keys()}
            left_out["ARCHIVE_BUCKET"] = "any"
            assert Settings.from_environment(left_out) == defaults, call


SIZES = {
    "concurrency": "max_instance_request_concurrency",
    "cpu": "available_cpu",
    "memory": "available_memory",
    "timeout": "timeout_seconds",
    "min-instances": "min_instance_count",
    "max-instances": "max_instance_count",
    "ingress-settings": "ingress_settings",
}
"""Options of a deployment, and their names in Terraform."""


def of_terraform(value: Any) -> str:
    """A value of a plan in gcloud's words."""
    words = {"ALLOW_ALL": "all", "ALLOW_INTERNAL_ONLY": "internal-only"}
    return words.get(value, str(value))


def seconds(text: str) -> int:
    """Return the seconds of a duration such as 7d, 60s or 60."""
    [number, unit] = re.fullmatch(r"(\d+)([ds]?)", text).groups()  # type: ignore[union-attr]
    return int(number) * (86400 if unit == "d" else 1)


def test_the_functions_are_as_large_as_terraform_makes_them(calls: list[Call], deployed: Mapping[str, Planned]) -> None:
    compared: dict[str, set[str]] = {name: set() for name in RESOURCES}
    for call in of(calls, "functions", "deploy"):
        name = call.arguments[2]
        [size] = deployed[name][RESOURCES[name]]["service_config"]
        for option, attribute in SIZES.items():
            for given in (
                argument.partition("=")[2] for argument in call.arguments if argument.startswith(f"--{option}=")
            ):
                value = str(seconds(given)) if option == "timeout" else given
                assert value == of_terraform(size[attribute]), (call, option)
                compared[name].add(option)
    assert compared.pop("ingest") == set(SIZES)
    assert all(options == set(SIZES) - {"min-instances"} for options in compared.values()), "none is its default"


def test_messages_are_kept_and_delivered_as_by_terraform(calls: list[Call], planned: Planned) -> None:
    created = {call.arguments[3]: call for call in of(calls, "pubsub", "subscriptions", "create")}
    [topic] = of(calls, "pubsub", "topics", "create", "events")
    events = planned["google_pubsub_topic.events"]
    assert seconds(topic.option("message-retention-duration")) == seconds(events["message_retention_duration"])
    for name, resource in {"events-ingest": "ingest", "events-undeliverable": "dead_letters"}.items():
        subscription = planned[f"google_pubsub_subscription.{resource}"]
        kept = created[name].option("message-retention-duration")
        assert seconds(kept) == seconds(subscription["message_retention_duration"])
        assert int(created[name].option("ack-deadline")) == subscription["ack_deadline_seconds"]
    push, subscription = created["events-ingest"], planned["google_pubsub_subscription.ingest"]
    [backoff], [policy] = subscription["retry_policy"], subscription["dead_letter_policy"]
    assert push.option("min-retry-delay") == backoff["minimum_backoff"]
    assert push.option("max-retry-delay") == backoff["maximum_backoff"]
    assert int(push.option("max-delivery-attempts")) == policy["max_delivery_attempts"]


def test_retention_equals_that_of_terraform(calls: list[Call], planned: Planned) -> None:
    [bucket] = [call for call in of(calls, "storage", "buckets", "create") if "-archive" in str(call)]
    archive = planned["google_storage_bucket.archive"]
    assert (
        seconds(bucket.option("soft-delete-duration")) == archive["soft_delete_policy"][0]["retention_duration_seconds"]
    )
    [lifecycle] = [text for language, _, text in blocks(ROOT / "docs" / "deploy-gcloud.md") if "lifecycle.json" in text]
    rules = json.loads(lifecycle.partition("<<'JSON'\n")[2].partition("JSON\n")[0])["rule"]
    assert [(rule["action"].get("storageClass", "Delete"), rule["condition"]) for rule in rules] == [
        (rule["action"][0]["storage_class"] or "Delete", {name: days})
        for rule in archive["lifecycle_rule"]
        for name, key in (("age", "age"), ("daysSinceCustomTime", "days_since_custom_time"))
        if (days := rule["condition"][0][key])
    ]
    made = [call for call in calls if call.program == "bq" and "mk" in call.arguments]
    live, historical = (planned[f'google_bigquery_dataset.events["{name}"]'] for name in ("live", "historical"))
    assert [call.option("max_time_travel_hours") for call in made] == [live["max_time_travel_hours"]] * 2
    assert int(made[0].option("default_partition_expiration")) * 1000 == live["default_partition_expiration_ms"]
    assert "default_partition_expiration" not in str(made[1])
    assert historical["default_partition_expiration_ms"] is None


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_equal_those_of_terraform(calls: list[Call], deployed: Mapping[str, Planned], name: str) -> None:
    [call] = of(calls, "scheduler", "jobs", "create", "http", f"sluice-{name}")
    job = deployed[name][SCHEDULES[name]]
    for option in ("schedule", "time-zone", "attempt-deadline"):
        assert call.option(option) == job[option.replace("-", "_")]


def test_calls_need_an_account_and_ingest_is_internal(calls: list[Call]) -> None:
    first = {call.arguments[2]: call for call in reversed(of(calls, "functions", "deploy"))}
    assert all("--no-allow-unauthenticated" in call.arguments for call in first.values())
    assert first["ingest"].option("ingress-settings") == first["drain"].option("ingress-settings") == "internal-only"
    assert not any("allUsers" in str(call) or "allAuthenticatedUsers" in str(call) for call in calls)


def test_subscription_pushes_to_ingest_and_has_a_dead_letter_topic(calls: list[Call]) -> None:
    created = {call.arguments[3]: call for call in of(calls, "pubsub", "subscriptions", "create")}
    push, dead = created["events-ingest"], created["events-undeliverable"]
    uri = "https://ingest-abc-uc.a.run.app"
    assert push.option("push-endpoint") == push.option("push-auth-token-audience") == uri
    assert push.option("push-auth-service-account") == "sluice-push@my-project.iam.gserviceaccount.com"
    assert int(push.option("ack-deadline")) == ACK_DEADLINE_SECONDS > 2 * Settings(archive_bucket="any").flush_timeout
    deployment = of(calls, "functions", "deploy", "ingest")[0]
    assert int(deployment.option("timeout").removesuffix("s")) > ACK_DEADLINE_SECONDS
    assert (push.option("min-retry-delay"), push.option("max-retry-delay")) == ("1s", "600s")
    assert (push.option("dead-letter-topic"), push.option("max-delivery-attempts")) == ("events-undeliverable", "100")
    assert (dead.option("topic"), dead.option("message-retention-duration")) == ("events-undeliverable", "31d")
    assert {call.option("expiration-period") for call in created.values()} == {"never"}
    [topic] = of(calls, "pubsub", "topics", "create", "events")
    assert topic.option("message-retention-duration") == push.option("message-retention-duration") == "7d"
    agent = "serviceAccount:service-123456789@gcp-sa-pubsub.iam.gserviceaccount.com"
    [publisher] = of(calls, "pubsub", "topics", "add-iam-policy-binding", "events-undeliverable")
    bound = of(calls, "pubsub", "subscriptions", "add-iam-policy-binding", "events-ingest")
    [subscriber] = [call for call in bound if call.option("member") == agent]
    assert (publisher.option("member"), publisher.option("role")) == (agent, "roles/pubsub.publisher")
    assert (subscriber.option("member"), subscriber.option("role")) == (agent, "roles/pubsub.subscriber")


def test_dataflow_job_equals_that_of_terraform(calls: list[Call]) -> None:
    [job] = of(calls, "dataflow", "flex-template", "run")
    declared = set(re.findall(r"[{,] ?(\w+) = ", configuration().local_values["dataflow_parameters"]))
    parameters = dict(pair.split("=", 1) for pair in job.option("parameters").split(","))
    assert parameters.keys() - {"sdk_container_image"} <= declared
    assert parameters["input_subscription"] == "projects/my-project/subscriptions/events-ingest"
    defaults = configuration().defaults("dataflow")
    for option, name in {"max-workers": "max_workers", "worker-machine-type": "machine_type"}.items():
        assert defaults[name] == job.option(option)
    template_job = configuration().resources["google_dataflow_flex_template_job.ingest"]
    assert template_job["additional_pipeline_options"] == [job.option("additional-pipeline-options")]
    for name in ("linger", "shards"):
        assert defaults[name] == parameters[name]
    [template] = of(calls, "dataflow", "flex-template", "build")
    assert template.arguments[3] == job.option("template-file-gcs-location")
    assert template.option("image") == parameters["sdk_container_image"]
    before = [call for call in calls[: calls.index(job)] if call.section == job.section]
    pushes = [call.option("push-endpoint") for call in of(before, "pubsub", "subscriptions", "modify-push-config")]
    assert pushes == [""]
    assert any("--clear-dead-letter-policy" in call.arguments for call in before)
    [drain] = of(calls, "dataflow", "jobs", "drain")
    after = calls[calls.index(drain) :]
    [push] = of(after, "pubsub", "subscriptions", "modify-push-config")
    [created] = [call for call in of(calls, "pubsub", "subscriptions", "create") if "events-ingest" in call.arguments]
    [restored] = of(after, "pubsub", "subscriptions", "update")
    for name in ("push-endpoint", "push-auth-service-account", "push-auth-token-audience"):
        assert push.option(name) == created.option(name)
    for name in ("min-retry-delay", "max-retry-delay", "dead-letter-topic", "max-delivery-attempts"):
        assert restored.option(name) == created.option(name)


def test_batch_mode_takes_the_push_away_and_gives_it_back(calls: list[Call]) -> None:
    switch = [call for call in calls if call.section == "Batch mode"]
    [end, start] = of(switch, "pubsub", "subscriptions", "modify-push-config", "events-ingest")
    [schedule], [unschedule] = (of(switch, "scheduler", "jobs", verb) for verb in ("create", "delete"))
    assert sorted([start, unschedule, schedule, end], key=switch.index) == [end, schedule, unschedule, start]
    assert end.option("push-endpoint") == ""
    [created] = of(calls, "pubsub", "subscriptions", "create", "events-ingest")
    for name in ("push-endpoint", "push-auth-service-account", "push-auth-token-audience"):
        assert start.option(name) == created.option(name)


def test_drain_writes_below_two_prefixes_of_the_archive(calls: list[Call]) -> None:
    bound = of([call for call in calls if call.section == "Batch mode"], "storage", "buckets", "add-iam-policy-binding")
    granted = {
        call.option("role").rpartition("/")[2]: re.findall(r"objects/(\w+/)", call.option("condition"))
        for call in bound
    }
    assert granted == {
        "sluiceLister": [],
        "storage.objectCreator": ["raw/"],
        "storage.objectViewer": ["raw/"],
        "storage.objectUser": ["load/"],
    }


def test_project_wide_roles_are_the_listed_ones(calls: list[Call]) -> None:
    bound = of(calls, "projects", "add-iam-policy-binding")
    assert {call.option("role") for call in bound} == PROJECT_ROLES
    for call in bound:
        conditional = call.option("role") == "roles/storage.objectViewer"
        assert call.option("condition").startswith("expression=" if conditional else "None")
    given = [call.arguments[-1] for call in calls if call.program == "bq" and "GRANT" in call.arguments[-1]]
    grants = [grant for grant in given if " ON SCHEMA " in grant]
    assert len(grants) == 7
    for grant in grants:
        assert re.fullmatch(r"GRANT `[\w./-]+` ON SCHEMA `my-project\.\w+` TO 'serviceAccount:[\w@.-]+'", grant)
    writing = [grant for grant in grants if re.search("sluice-(ingest|drain|dataflow)@", grant)]
    assert [grant for grant in writing if "sluiceStreamer" not in grant] == []
    assert [grant for grant in grants if "sluice-reconcile@" in grant and "dataViewer" not in grant] == []


def test_readers_read_by_name_and_no_dead_letters(calls: list[Call]) -> None:
    given = [call.arguments[-1] for call in calls if call.program == "bq" and "group:" in call.arguments[-1]]
    assert [re.findall(r"ON (\w+) `my-project\.([\w.]+)`", grant) for grant in given] == [
        [("TABLE", "dev_events_dataset.orders")],
        [("TABLE", "historical_dataset.orders")],
        [("VIEW", "dev_events_dataset.orders_all")],
    ]


def test_each_account_is_made_used_and_taken_away(calls: list[Call]) -> None:
    made = {call.arguments[3] for call in of(calls, "iam", "service-accounts", "create")}
    gone = {call.arguments[3].partition("@")[0] for call in of(calls, "iam", "service-accounts", "delete")}
    used = set(re.findall(r"(sluice-[a-z]+)@my-project", "\n".join(map(str, calls))))
    assert made == gone == used


def test_tear_down_by_terraform_keeps_data_and_its_protection(calls: list[Call]) -> None:
    kept = {
        call.arguments[3] for call in calls if call.program == "terraform" and call.arguments[1:3] == ["state", "rm"]
    }
    held = {
        address
        for address, body in configuration().resources.items()
        if any(lifecycle.get("prevent_destroy") for lifecycle in body.get("lifecycle", []))
    }
    assert kept == held | {"google_bigquery_row_access_policy.this", "google_kms_crypto_key_iam_member.agent"}
    plans = [
        call
        for call in calls
        if call.section == "Tear down with Terraform" and call.arguments[1] in {"apply", "destroy"}
    ]
    assert [call.arguments[1] for call in plans] == ["apply", "destroy"], "access is withdrawn first"
    assert all("-var=access={}" in call.arguments for call in plans)


def test_tear_down_deletes_every_created_resource(calls: list[Call]) -> None:
    def kinds(verb: str) -> set[str]:
        matching = [call.arguments for call in calls if call.program == "gcloud" and verb in call.arguments[:4]]
        return {" ".join(arguments[: arguments.index(verb)]) for arguments in matching}

    assert kinds("create") - kinds("delete") == {"beta services identity", "storage buckets"}
    assert kinds("rm") == {"storage"}
    given = {(call.option("member"), call.option("role")) for call in of(calls, "projects", "add-iam-policy-binding")}
    taken = {
        (call.option("member"), call.option("role")) for call in of(calls, "projects", "remove-iam-policy-binding")
    }
    assert given == taken
    datasets = {call.arguments[-1] for call in calls if call.program == "bq" and "mk" in call.arguments}
    assert datasets == {call.arguments[-1] for call in calls if call.program == "bq" and "rm" in call.arguments}
