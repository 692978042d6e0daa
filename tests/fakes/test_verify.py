"""`sluice verify`, on a deployment as Google's APIs describe it; they are served on this machine, over HTTP."""

import contextlib
import copy
import json
import pathlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import requests

from fake_google.http_server import Connection, Request, response, serving
from functions.settings import Settings
from sluice.commands.exit_codes import ExitCode
from sluice.verify.check import Finding, Outcome
from sluice.verify.checks import CHECKS, findings
from sluice.verify.load import Arrived, Load
from sluice.verify.project import Project
from sluice.verify.under_load import Observer
from tests.support import command_line

type Answers = dict[str, Any]

PROJECT = "shop-prod"
PLACE = f"projects/{PROJECT}/locations/us-central1"
TAG = f"{PLACE}/taxonomies/1/policyTags/2"
SETTINGS = Settings(
    archive_bucket="shop-archive", google_cloud_project=PROJECT, dataset="events", policy_tag_personal=TAG
)
AGENT = "serviceAccount:service-7@gcp-sa-pubsub.iam.gserviceaccount.com"
TOPIC = f"projects/{PROJECT}/topics/sluice-prod-dead-letters"
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/sluice-prod-ingest"

SERVICES = f"run/v2/{PLACE}/services"
SUBSCRIPTIONS = f"pubsub/v1/projects/{PROJECT}/subscriptions"
JOBS = f"cloudscheduler/v1/{PLACE}/jobs"
ALERTS = f"monitoring/v3/projects/{PROJECT}/alertPolicies"
TRANSFERS = f"bigquerydatatransfer/v1/{PLACE}/transferConfigs"
POLICIES = f"bigquerydatapolicy/v1/{PLACE}/dataPolicies"
TABLE = f"bigquery/bigquery/v2/projects/{PROJECT}/datasets/events/tables"
FLUSHES, REQUESTS, RECONCILIATIONS = "flush", "requests", "reconciliation"
AUDIT, QUERIES = "InsertAll", "data_access"
DATASETS = f"bigquery/bigquery/v2/projects/{PROJECT}/datasets"
COPIES = f"bigquerydatatransfer/v1/projects/{PROJECT}/locations/us-east1/transferConfigs"
EVENTS, MEMORY, BURN_RATES = "events", "memory", "burn"
DATAFLOW_JOBS = f"dataflow/v1b3/{PLACE}/jobs"
JOB_METRICS = f"{DATAFLOW_JOBS}/job-2/metrics"
JOB_MESSAGES = f"{DATAFLOW_JOBS}/job-2/messages"
WORKERS = f"compute/compute/v1/projects/{PROJECT}/aggregated/instances"
WORKER_LINES, SYSTEM_LAG, FRESHNESS = "dataflow_step", "system_lag", "watermark_age"
DRAINS = '"drain"'
OF_FUNCTIONS = {
    "Pub/Sub pushes to ingest with a token",
    "Pub/Sub may forward undeliverable messages",
    "ingest logs its flushes",
    "ingest has enough memory",
}
OF_DATAFLOW = {check.title for check in CHECKS if "Dataflow job" in check.title}
OF_BATCH = {check.title for check in CHECKS if check.title.startswith("The drain")}


def _ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat().replace("+00:00", "Z")


def _service(function: str) -> Answers:
    return {
        "name": f"{PLACE}/services/sluice-prod-{function}",
        "uri": f"https://{function}-hash.a.run.app",
        "urls": [f"https://{function}-7.us-central1.run.app"],
        "latestReadyRevision": f"{PLACE}/services/sluice-prod-{function}/revisions/{function}-00003-abc",
        "terminalCondition": {"state": "CONDITION_SUCCEEDED"},
        "trafficStatuses": [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}],
        "template": {
            "containers": [
                {
                    "env": [
                        {"name": "ARCHIVE_BUCKET", "value": "shop-archive"},
                        {"name": "LOG_EXECUTION_ID", "value": "true"},
                        {"name": "IP_HASH_KEY", "valueSource": {}},
                    ]
                }
            ]
        },
    }


def _job(function: str) -> Answers:
    return {
        "name": f"{PLACE}/jobs/sluice-prod-{function}",
        "state": "ENABLED",
        "lastAttemptTime": _ago(minutes=20),
        "status": {},
        "httpTarget": {"uri": f"https://{function}-hash.a.run.app/"},
    }


def _part(execution: str, start: str, end: str, missing: float = 0) -> Answers:
    """Return the log line of a part of a reconciliation."""
    counts = {"archived": 9.0, "missing": missing, "start": start, "end": end}
    return {"labels": {"execution_id": execution}, "jsonPayload": counts}


def _healthy() -> Answers:
    """Return what the APIs answer of a deployment where all is well."""
    other = copy.deepcopy(_service("ingest"))
    other["template"]["containers"][0]["env"][0]["value"] = "shop-dev-archive"
    return {
        SERVICES: {"services": [other, *map(_service, ("ingest", "bootstrap", "reconcile", "compact"))]},
        SUBSCRIPTIONS: {
            "subscriptions": [
                {"name": f"projects/{PROJECT}/subscriptions/other"},
                {
                    "name": SUBSCRIPTION,
                    "pushConfig": {
                        "pushEndpoint": "https://ingest-hash.a.run.app",
                        "oidcToken": {"serviceAccountEmail": "push@shop"},
                    },
                    "deadLetterPolicy": {"deadLetterTopic": TOPIC},
                },
            ]
        },
        f"pubsub/v1/{TOPIC}:getIamPolicy": {"bindings": [{"role": "roles/pubsub.publisher", "members": [AGENT]}]},
        f"pubsub/v1/{SUBSCRIPTION}:getIamPolicy": {
            "bindings": [{"role": "roles/pubsub.subscriber", "members": [AGENT]}]
        },
        FLUSHES: {"entries": [{"timestamp": _ago(minutes=1), "labels": {"code_version": "ingest-00003-abc"}}]},
        REQUESTS: {},
        AUDIT: {},
        QUERIES: {"entries": [{"timestamp": _ago(minutes=1)}]},
        RECONCILIATIONS: {"entries": [_part("new", "02", "03"), _part("new", "01", "02"), _part("old", "00", "01", 7)]},
        EVENTS: {"timeSeries": [{"points": [{"value": {}}, {"value": {}}]}]},
        BURN_RATES: {"timeSeries": [{"points": [{"value": {"doubleValue": 0.1}}]}]},
        MEMORY: {"timeSeries": [{"points": [{"value": {"doubleValue": 0.41}}]}]},
        ALERTS: {
            "alertPolicies": [
                {"displayName": "sluice-prod: Events are missing", "enabled": True, "notificationChannels": ["one"]},
                {"displayName": "sluice-prod: No events at all"},
                {"displayName": "another: of somebody else", "enabled": True},
            ]
        },
        JOBS: {"jobs": [_job("bootstrap"), _job("reconcile"), _job("compact")]},
        TRANSFERS: {
            "transferConfigs": [
                {"displayName": "sluice-prod: keep history of orders", "state": "SUCCEEDED"},
                {"displayName": "sluice-prod: snapshot of orders", "state": "PENDING"},
            ]
        },
        DATASETS: {
            "datasets": [
                {"datasetReference": {"datasetId": "events"}, "location": "us-central1"},
                {"datasetReference": {"datasetId": "events_live_copy"}, "location": "us-east1"},
            ]
        },
        COPIES: {"transferConfigs": [{"displayName": "sluice-prod: copy of the live dataset", "state": "SUCCEEDED"}]},
        POLICIES: {"dataPolicies": [{"dataPolicyType": "DATA_MASKING_POLICY", "policyTag": TAG.replace(PROJECT, "7")}]},
        TABLE: {"tables": [{"type": "TABLE", "tableReference": {"tableId": "orders"}}, {"type": "VIEW"}]},
        f"{TABLE}/orders": {
            "schema": {"fields": [{"name": "address", "fields": [{"name": "street", "policyTags": {"names": [TAG]}}]}]}
        },
    }


def _on_dataflow() -> Answers:
    """Return what the APIs answer where Dataflow takes the events: the subscription pushes to nobody."""
    answers = _healthy() | {FLUSHES: {}, MEMORY: {}}
    answers[SUBSCRIPTIONS]["subscriptions"][1] = {"name": SUBSCRIPTION}
    job = {"name": "sluice-prod-ingest", "type": "JOB_TYPE_STREAMING", "createTime": _ago(days=1)}
    flush = {"message": 'flush {"events":7,"rows":{"orders":7}}'}
    counter = {"name": {"name": "events_MAX", "context": {"namespace": "sluice"}}, "scalar": 3}
    points = {"timeSeries": [{"points": [{"value": {"int64Value": "2"}}]}]}
    return answers | {
        DATAFLOW_JOBS: {
            "jobs": [
                {**job, "id": "job-1", "createTime": _ago(days=2), "currentState": "JOB_STATE_UPDATED"},
                {**job, "id": "job-2", "createTime": _ago(days=1), "currentState": "JOB_STATE_RUNNING"},
                {
                    **job,
                    "id": "other",
                    "createTime": _ago(days=1),
                    "currentState": "JOB_STATE_RUNNING",
                    "name": "other",
                },
            ]
        },
        JOB_METRICS: {"metrics": [counter, {"name": {"name": "ElementCount", "context": {}}}]},
        WORKER_LINES: {"entries": [{"timestamp": _ago(minutes=1), "jsonPayload": flush}]},
        WORKERS: {"items": {"zones/a": {"instances": [{"id": "1", "name": "worker-a"}]}, "zones/b": {}}},
        SYSTEM_LAG: copy.deepcopy(points),
        FRESHNESS: copy.deepcopy(points),
    }


def _in_batch_mode() -> Answers:
    """Return what the APIs answer where drain takes the events."""
    answers = _healthy() | {FLUSHES: {}, MEMORY: {}}
    answers[SERVICES]["services"].append(_service("drain"))
    del answers[SUBSCRIPTIONS]["subscriptions"][1]["pushConfig"]
    answers[JOBS]["jobs"].append(_job("drain"))
    run = {"messages": 7.0, "errors": [], "failed_jobs": 0.0, "pending_files": 2.0, "pending_seconds": 60.0}
    return answers | {DRAINS: {"entries": [{"timestamp": _ago(minutes=1), "jsonPayload": run}]}}


@contextlib.contextmanager
def _apis(answers: Answers) -> Iterator[str]:
    """Serve the APIs; gives the address of each, with `{api}` in it. An exception stands for a 403."""

    def key(request: Request) -> str:
        path = request.path.decode().removeprefix("/")
        if request.method == b"POST":
            keys = (WORKER_LINES, DRAINS, FLUSHES, REQUESTS, RECONCILIATIONS, AUDIT, QUERIES)
            return next(key for key in keys if key in json.loads(request.body)["filter"])
        if path.endswith("/timeSeries"):
            by_text = {"sluice-prod%2Fevents": EVENTS, "select_slo_burn_rate": BURN_RATES, "utilizations": MEMORY}
            by_text |= {SYSTEM_LAG: SYSTEM_LAG, FRESHNESS: FRESHNESS}
            return next(key for text, key in by_text.items() if text in request.query.decode())
        return path

    def answer(request: Request, connection: Connection) -> None:
        content, status = answers.get(key(request), {}), 200
        if content is PermissionError:
            content, status = {"error": {"message": "Permission denied on resource"}}, 403
        connection.answer(response(json.dumps(content).encode(), status))

    with serving(answer) as url:
        yield f"{url}/{{api}}"


def _found(answers: Answers, settings: Settings = SETTINGS) -> dict[str, Finding]:
    """Return the findings by title; nothing is waited for."""
    with _apis(answers) as address, requests.Session() as session, pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.monotonic", iter(range(0, 10**6, 1000)).__next__)
        project = Project(session, settings, PROJECT, address)
        return {finding.check: finding for finding in findings(project, sleep=lambda _: None)}


def _others(by_check: dict[str, Finding]) -> dict[str, Outcome]:
    """Return the outcomes that are not ok."""
    return {title: finding.outcome for title, finding in by_check.items() if finding.outcome != Outcome.OK}


def test_on_dataflow_the_checks_are_those_of_its_job() -> None:
    by_check = _found(_on_dataflow())
    assert _others(by_check) == dict.fromkeys(OF_FUNCTIONS | OF_BATCH, Outcome.SKIPPED)
    assert by_check["The Dataflow job logs its flushes"].seen.endswith("with 7 events")
    assert by_check["The Dataflow job reports its counters"].seen == "the job counts events_MAX"
    assert by_check["The Dataflow job keeps up"].seen == "system_lag is 2 s, data_watermark_age is 2 s"
    assert by_check["The objectives have values"].seen == "the burn rates of freshness have values within two hours"


def test_in_batch_mode_the_checks_are_those_of_drain() -> None:
    by_check = _found(_in_batch_mode())
    of_push = OF_FUNCTIONS - {"Pub/Sub may forward undeliverable messages"}
    assert _others(by_check) == dict.fromkeys(OF_DATAFLOW | of_push, Outcome.SKIPPED)
    assert by_check["The drain loads what it has written"].seen.endswith("took 7 messages, and 2 load files wait")
    assert by_check["The objectives have values"].seen == "the burn rates of freshness have values within two hours"


def test_a_deployment_where_all_is_well_passes_every_check() -> None:
    by_check = _found(_healthy())
    assert _others(by_check) == dict.fromkeys(OF_DATAFLOW | OF_BATCH, Outcome.SKIPPED)
    assert list(by_check) == [check.title for check in CHECKS]
    assert "2 of 3 succeeded" in by_check["The scheduled queries for history, snapshots and copies run"].seen
    assert by_check["The last reconciliation found no missing event"].seen == "18 events from 01 to 03, none missing"


def _set(path: str, *keys: str | int, value: object) -> Callable[[Answers], None]:
    def change(answers: Answers) -> None:
        place = answers[path]
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


BROKEN = [
    (
        0,
        _set(SERVICES, "services", 1, "terminalCondition", value={"message": "no memory"}),
        "ingest is not ready: no memory",
    ),
    (0, _set(SERVICES, "services", value=[]), "no service with a name that ends with ingest"),
    (0, _set(SERVICES, "services", 4, "terminalCondition", value={}), "compact is not ready"),
    (23, _set(JOBS, "jobs", 2, "state", value="PAUSED"), "sluice-prod-compact is PAUSED"),
    (23, _set(JOBS, "jobs", 2, "lastAttemptTime", value=_ago(hours=3)), "the last run of"),
    (23, _set(JOBS, "jobs", 2, "status", value={"code": 13}), "failed with status 13"),
    (2, _set(SERVICES, "services", 1, "trafficStatuses", value=[{"revision": "old", "percent": 100}]), "100 % to old"),
    (2, _set(SERVICES, "services", 1, "trafficStatuses", value=[]), "no revision of ingest receives traffic"),
    (3, _set(SUBSCRIPTIONS, "subscriptions", value=[]), "no subscription pushes to"),
    (3, _set(SUBSCRIPTIONS, "subscriptions", 1, "pushConfig", "oidcToken", value={}), "without a token"),
    (3, _set(SUBSCRIPTIONS, "subscriptions", 1, "pushConfig", value={}), "sluice-prod-ingest does not push"),
    (3, _set(SUBSCRIPTIONS, "subscriptions", 1, "deadLetterPolicy", value={}), "no dead-letter topic"),
    (4, _set(f"pubsub/v1/{TOPIC}:getIamPolicy", "bindings", value=[]), "does not have roles/pubsub.publisher on"),
    (5, _set(FLUSHES, "entries", value=[]), "logged no flush"),
    (5, _set(FLUSHES, "entries", 0, "labels", value={}), "no label code_version"),
    (6, _set(REQUESTS, "entries", value=[{"timestamp": "now"}]), "the request of now was logged"),
    (8, _set(EVENTS, "timeSeries", value=[]), "sluice-prod/events has no value"),
    (10, _set(ALERTS, "alertPolicies", value=[]), "no alert has a name that begins with sluice-prod:"),
    (10, _set(ALERTS, "alertPolicies", 0, "notificationChannels", value=[]), "1 alerts have no notification channel"),
    (
        10,
        _set(ALERTS, "alertPolicies", 0, "validity", value={"code": 3}),
        "calls sluice-prod: Events are missing invalid",
    ),
    (11, _set(JOBS, "jobs", 0, "status", value={"code": 7}), "failed with status 7"),
    (11, _set(JOBS, "jobs", 0, "lastAttemptTime", value=None), "has never run"),
    (12, _set(JOBS, "jobs", 1, "lastAttemptTime", value=_ago(hours=27)), "the last run of"),
    (12, _set(JOBS, "jobs", 1, "state", value="PAUSED"), "is PAUSED"),
    (13, _set(RECONCILIATIONS, "entries", 0, "jsonPayload", "missing", value=3.0), "missing: 3"),
    (13, _set(RECONCILIATIONS, "entries", 1, "jsonPayload", "unreadable_objects", value=2.0), "unreadable_objects: 2"),
    (13, _set(RECONCILIATIONS, "entries", 0, "labels", value={}), "no label execution_id"),
    (13, _set(RECONCILIATIONS, "entries", value=[]), "no reconciliation within 26 hours"),
    (14, _set(TRANSFERS, "transferConfigs", 0, "state", value="FAILED"), "the last run is FAILED"),
    (14, _set(COPIES, "transferConfigs", 0, "state", value="FAILED"), "copy of the live dataset: the last run is"),
    (14, _set(TRANSFERS, "transferConfigs", value=[]), "no scheduled query copies rows"),
    (15, _set(POLICIES, "dataPolicies", value=[]), "the policy tag personal has no mask"),
    (15, _set(TABLE, "tables", value=[]), "no column of events has the policy tag personal"),
    (16, _set(MEMORY, "timeSeries", 0, "points", 0, "value", "doubleValue", value=0.93), "93% of an instance's memory"),
    (
        1,
        _set(SERVICES, "services", 1, "template", "containers", 0, "env", 1, "name", value="NEW"),
        "NEW: neither a setting",
    ),
    (
        1,
        _set(SERVICES, "services", 1, "template", "containers", 0, "env", 1, "name", value="DATASET"),
        "LOG_EXECUTION_ID is None",
    ),
    (
        1,
        _set(SERVICES, "services", 1, "template", "containers", 0, "env", 1, "value", value="false"),
        "LOG_EXECUTION_ID is false",
    ),
    (7, _set(AUDIT, "entries", value=[{"timestamp": "now"}]), "an insert of now was logged"),
    (9, _set(BURN_RATES, "timeSeries", value=[]), "the burn rate of availability has had no value"),
]


BROKEN_ON_DATAFLOW = [
    (17, _set(DATAFLOW_JOBS, "jobs", 1, "currentState", value="JOB_STATE_FAILED"), "the newest is JOB_STATE_FAILED"),
    (17, _set(DATAFLOW_JOBS, "jobs", 0, "currentState", value="JOB_STATE_DRAINING"), "share the events: job-2, job-1"),
    (17, _set(DATAFLOW_JOBS, "jobs", 1, "currentState", value="JOB_STATE_PENDING"), "is JOB_STATE_PENDING"),
    (17, _set(DATAFLOW_JOBS, "jobs", 1, "type", value="JOB_TYPE_BATCH"), "it was started with files"),
    (18, _set(WORKER_LINES, "entries", value=[]), "no worker has logged a flush"),
    (18, _set(WORKER_LINES, "entries", 0, "jsonPayload", "message", value="flush {'events': 7}"), "is not JSON"),
    (19, _set(JOB_METRICS, "metrics", value=[]), "of sluice the job counts nothing, and no events"),
    (20, _set(SYSTEM_LAG, "timeSeries", value=[]), "system_lag has had no value"),
    (20, _set(FRESHNESS, "timeSeries", 0, "points", 0, "value", value={"doubleValue": 900}), "watermark_age is 900 s"),
]

BROKEN_IN_BATCH_MODE = [
    (21, _set(JOBS, "jobs", 3, "state", value="PAUSED"), "is PAUSED"),
    (21, _set(JOBS, "jobs", 3, "lastAttemptTime", value=_ago(hours=3)), "the last run of"),
    (22, _set(DRAINS, "entries", value=[]), "has logged no run"),
    (22, _set(DRAINS, "entries", 0, "jsonPayload", "errors", value=["403"]), "ended early: 403"),
    (22, _set(DRAINS, "entries", 0, "jsonPayload", "failed_jobs", value=1.0), "1 failed load jobs"),
    (22, _set(DRAINS, "entries", 0, "jsonPayload", "pending_seconds", value=1e5), "a load file has waited"),
]

ALL_BROKEN = [
    *((_healthy, *case) for case in BROKEN),
    *((_on_dataflow, *case) for case in BROKEN_ON_DATAFLOW),
    *((_in_batch_mode, *case) for case in BROKEN_IN_BATCH_MODE),
]


@pytest.mark.parametrize(("healthy", "number", "change", "seen"), ALL_BROKEN, ids=[seen for *_, seen in ALL_BROKEN])
def test_failed_check_reports_its_observation(
    healthy: Callable[[], Answers], number: int, change: Callable[[Answers], None], seen: str
) -> None:
    answers = healthy()
    change(answers)
    finding = _found(answers)[CHECKS[number].title]
    assert (finding.outcome, seen in finding.seen) == (Outcome.FAIL, True), finding


def test_every_check_can_fail() -> None:
    assert {number for _, number, _, _ in ALL_BROKEN} == set(range(len(CHECKS)))


def test_unreadable_check_is_unknown_with_the_reason() -> None:
    finding = _found(_healthy() | {JOBS: PermissionError})["The bootstrap runs on schedule"]
    assert finding.outcome == Outcome.UNKNOWN
    assert finding.seen == "cloudscheduler answers 403: Permission denied on resource"


def test_audit_logs_that_may_not_be_read_are_unknown() -> None:
    """Cloud Logging answers with no entries then, not with an error."""
    finding = _found(_healthy() | {QUERIES: {}})["Inserts are not logged"]
    assert finding.outcome == Outcome.UNKNOWN
    assert "roles/logging.privateLogViewer is missing" in finding.seen


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (_set(JOBS, "jobs", 0, "lastAttemptTime", value="today"), "ValueError: Invalid isoformat string: 'today'"),
        (_set(JOBS, "jobs", 0, value=None), "AttributeError: "),
        (_set(JOBS, "jobs", 0, value={"httpTarget": {"uri": "https://bootstrap-hash.a.run.app"}}), "KeyError: 'name'"),
    ],
)
def test_an_unexpected_answer_is_unknown_and_ends_no_other_check(change: Callable[[Answers], None], seen: str) -> None:
    answers = _healthy()
    change(answers)
    by_check = _found(answers)
    finding = by_check["The bootstrap runs on schedule"]
    assert finding.outcome == Outcome.UNKNOWN
    assert finding.seen.startswith(f"an API's answer is not as expected: {seen}")
    assert len(by_check) == len(CHECKS)


def test_subscription_of_eventarc_is_recognized() -> None:
    answers = _healthy()
    push = answers[SUBSCRIPTIONS]["subscriptions"][1]["pushConfig"]
    push["pushEndpoint"] += "?__GCP_CloudEventsMode=CUSTOM_PUBSUB_projects%2Fshop-prod%2Ftopics%2Fevents"
    assert _found(answers)["Pub/Sub pushes to ingest with a token"].outcome == Outcome.OK


def test_all_checks_together_wait_no_longer_than_the_most_patient() -> None:
    """Nothing is logged or measured, so that each check that has patience uses it up."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    answers = _healthy() | {FLUSHES: {}, EVENTS: {}, BURN_RATES: {}, MEMORY: {}}
    with _apis(answers) as address, requests.Session() as session, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sluice.verify.check.time.monotonic", lambda: now)
        results = list(findings(Project(session, SETTINGS, PROJECT, address), sleep))
    assert sum(finding.outcome == Outcome.FAIL for finding in results) == 4
    assert now == max(check.patience for check in CHECKS)


def test_checks_not_applicable_to_gcloud_are_skipped() -> None:
    answers = _healthy()
    for service in answers[SERVICES]["services"]:
        service["name"] = service["name"].replace("sluice-prod-", "")
    by_check = _found(answers, Settings(archive_bucket="shop-archive", google_cloud_project=PROJECT, dataset="events"))
    skipped = {
        "The log-based metrics have values",
        "Each alert is valid and has a notification channel",
        "The scheduled queries for history, snapshots and copies run",
    }
    skipped.add("The objectives have values")
    skipped.add("Protected columns have policy tags, and the tags have masks")
    assert {
        finding.check for finding in by_check.values() if finding.outcome == Outcome.SKIPPED
    } == skipped | OF_DATAFLOW | OF_BATCH


def test_an_archive_that_stays_as_written_has_nothing_to_compact() -> None:
    answers = _healthy()
    del answers[SERVICES]["services"][4], answers[JOBS]["jobs"][2]
    by_check = _found(answers)
    assert _others(by_check).keys() == OF_DATAFLOW | OF_BATCH | {"The compaction runs on schedule"}
    assert by_check["The compaction runs on schedule"].seen == "the archive is not compacted"
    assert by_check["The functions are deployed and ready"].seen.startswith("all 3 are ready")


def test_all_pages_of_a_listing_are_read() -> None:
    answers = _healthy()
    jobs = answers[JOBS]["jobs"]
    pages = iter([{"jobs": jobs[:1], "nextPageToken": "more"}, {"jobs": jobs[1:]}])
    project = Project(requests.Session(), SETTINGS, PROJECT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(project, "get", lambda *_, **__: next(pages))
        assert project.all("cloudscheduler", "v1/jobs", "jobs") == jobs


@pytest.mark.parametrize(("broken", "code"), [(False, 0), (True, 1)])
def test_the_command_prints_a_line_for_each_check(broken: bool, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = _healthy()
    if broken:
        answers[RECONCILIATIONS]["entries"][0]["jsonPayload"]["missing"] = 3
    with _apis(answers) as address:
        project = Project(requests.Session(), SETTINGS, PROJECT, address)
        monkeypatch.setattr(Project, "with_default_credentials", lambda _: project)
        done = command_line.sluice(["verify", "--json"], {"ARCHIVE_BUCKET": "shop-archive"})
        table = command_line.sluice(["verify"], {"ARCHIVE_BUCKET": "shop-archive", "COLUMNS": "80"})
    assert (done.returncode, len(json.loads(done.stdout))) == (code, len(CHECKS)), done.stderr
    assert "│" not in table.stdout
    assert table.stdout.count("outcome      ok\n") == len(CHECKS) - len(OF_DATAFLOW | OF_BATCH) - broken


def test_a_load_without_a_job_that_takes_it_publishes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = _on_dataflow()
    for job in answers[DATAFLOW_JOBS]["jobs"]:
        job["currentState"] = "JOB_STATE_FAILED"
    nobody = "http://127.0.0.1:1"
    environment = {"ARCHIVE_BUCKET": "shop-archive", "GOOGLE_CLOUD_PROJECT": PROJECT}
    environment["SLUICE_TOPIC"] = f"projects/{PROJECT}/topics/events"
    with _apis(answers) as address:
        project = Project(requests.Session(), SETTINGS, PROJECT, address)
        monkeypatch.setattr(Project, "with_default_credentials", lambda _: project)
        emulators = {"BIGQUERY_EMULATOR_HOST": nobody, "STORAGE_EMULATOR_HOST": nobody}
        done = command_line.sluice(["verify", "--load", "60"], environment | emulators)
    assert done.returncode == ExitCode.FAILED
    assert "Failed: no Dataflow job sluice-prod-ingest runs; the newest is JOB_STATE_FAILED" in done.stderr
    assert "Publishing" not in done.stderr


def test_local_stack_has_nothing_to_verify() -> None:
    done = command_line.sluice(
        ["verify"], {"ARCHIVE_BUCKET": "archive", "BIGQUERY_EMULATOR_HOST": "http://127.0.0.1:1"}
    )
    assert done.returncode == ExitCode.WRONG
    assert "the local stack cannot be verified: run `sluice smoke`" in done.stderr


def test_without_credentials_it_says_so(tmp_path: pathlib.Path) -> None:
    nowhere = {"ARCHIVE_BUCKET": "archive", "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "none.json")}
    done = command_line.sluice(["verify"], nowhere)
    assert done.returncode == ExitCode.FAILED
    assert done.stderr.startswith("Failed: ")
    assert "none.json" in done.stderr


def test_an_empty_page_of_log_entries_is_not_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = iter([{"nextPageToken": "more"}, {"entries": [{"insertId": "1"}, {"insertId": "2"}], "nextPageToken": "x"}])
    project = Project(requests.Session(), SETTINGS, PROJECT)
    monkeypatch.setattr(project, "post", lambda *_: next(pages))
    assert project.lines("severity=ERROR", timedelta(hours=1)) == [{"insertId": "1"}]


class _Load:
    """A load that was published, and what the tables have of it."""

    published = frozenset({"smoke-0", "smoke-1", "smoke-2"})
    changed = frozenset({"smoke-0"})

    def __init__(self, contents: int = 2, **rows: int) -> None:
        changes = {name.replace("_", "-"): n for name, n in rows.items()}
        self._rows = {"smoke-0": 2, "smoke-1": 2, "smoke-2": 1} | changes
        self._contents = {"smoke-0": contents}

    def arrived(self) -> dict[str, Arrived]:
        return {name: Arrived(n, self._contents.get(name, 1)) for name, n in self._rows.items() if n}


def _after(
    change: Callable[[Answers], None], load: _Load | None = None, healthy: Answers | None = None
) -> list[Finding]:
    """Return the findings after something has happened to a deployment under load."""
    answers = healthy or _on_dataflow()
    with _apis(answers) as address, requests.Session() as session, pytest.MonkeyPatch.context() as patch:
        project = Project(session, SETTINGS, PROJECT, address)
        observer = Observer(project)
        change(answers)
        patch.setattr("time.monotonic", iter(range(0, 10**6, 10_000)).__next__)
        checks = observer.checks(cast("Load", load or _Load()))
        return list(findings(project, lambda _: None, checks))


def _ended(state: str, *, again: bool = True, pushes: bool = False) -> Callable[[Answers], None]:
    def change(answers: Answers) -> None:
        jobs = answers[DATAFLOW_JOBS]["jobs"]
        if again:
            jobs.append({**jobs[1], "id": "job-3", "createTime": _ago()})
        jobs[1]["currentState"] = state
        endpoint = {"pushEndpoint": "https://ingest-hash.a.run.app"} if pushes else {}
        answers[f"pubsub/v1/{SUBSCRIPTION}"] = {"pushConfig": endpoint}

    return change


def _scaled(*counts: int) -> Callable[[Answers], None]:
    events = [{"time": f"2026-11-28T12:0{at}:00Z", "currentNumWorkers": str(n)} for at, n in enumerate(counts)]
    return lambda answers: answers.update({JOB_MESSAGES: {"autoscalingEvents": events}})


def _lost(answers: Answers) -> None:
    answers[WORKERS]["items"]["zones/a"]["instances"] = [{"id": "2", "name": "worker-b"}]


def _nothing(_: Answers) -> None:
    pass


def test_unobserved_checks_under_load_are_skipped_with_a_hint() -> None:
    missing, corrected, *others = _after(_nothing)
    assert (missing.outcome, missing.seen) == (
        Outcome.OK,
        "all 3 events have a row; 1 have several, of which the views show one",
    )
    assert (corrected.outcome, corrected.seen) == (
        Outcome.OK,
        "1 were published again with different content, and both versions have a row",
    )
    assert {finding.outcome for finding in others} == {Outcome.SKIPPED}
    assert [finding.seen.partition("; ")[2] for finding in others] == [
        "delete one during the test",
        "increase --rate",
        "drain or update one during the test",
    ]


@pytest.mark.parametrize(
    ("number", "change", "load", "outcome", "seen"),
    [
        (0, _nothing, _Load(smoke_2=0), Outcome.FAIL, "1 of 3 events have no row, first smoke-2"),
        (
            1,
            _nothing,
            _Load(contents=1),  # The correction is dropped, and the event itself has two rows.
            Outcome.FAIL,
            "1 of 1 have one row, first smoke-0: does the job have an --id_label?",
        ),
        (2, _lost, None, Outcome.OK, "worker-a ended"),
        (2, _ended("JOB_STATE_UPDATED"), None, Outcome.SKIPPED, "the job and its workers ended"),
        (3, _scaled(1, 3, 1), None, Outcome.OK, "the number of workers was 1, 3, 1"),
        (3, _scaled(1, 3), None, Outcome.FAIL, "from 1 to 3 and did not decrease"),
        (3, _scaled(3, 1), None, Outcome.SKIPPED, "the number of workers did not increase"),
        (3, _scaled(3, 1, 2), None, Outcome.FAIL, "from 1 to 2 and did not decrease"),
        (4, _ended("JOB_STATE_UPDATED"), None, Outcome.OK, "job-2 is JOB_STATE_UPDATED; job-3 runs"),
        (4, _ended("JOB_STATE_DRAINED"), None, Outcome.OK, "job-2 is JOB_STATE_DRAINED; job-3 runs"),
        (4, _ended("JOB_STATE_DRAINED", again=False, pushes=True), None, Outcome.OK, "ingest gets the events"),
        (4, _ended("JOB_STATE_DRAINED", again=False), None, Outcome.FAIL, "0 jobs run, and the subscription does not"),
        (4, _ended("JOB_STATE_DRAINED", pushes=True), None, Outcome.FAIL, "1 jobs run, and the subscription pushes"),
        (4, _ended("JOB_STATE_CANCELLED"), None, Outcome.FAIL, "job-2 lost messages that it had read: docs/scale.md"),
    ],
)
def test_check_under_load_reports_its_observation(
    number: int, change: Callable[[Answers], None], load: _Load | None, outcome: Outcome, seen: str
) -> None:
    finding = _after(change, load)[number]
    assert (finding.outcome, seen in finding.seen) == (outcome, True), finding


def test_commands_under_load_name_the_job_and_a_worker() -> None:
    answers = _on_dataflow()
    with _apis(answers) as address, requests.Session() as session:
        project = Project(session, SETTINGS, PROJECT, address)
        assert Observer(project).commands(project) == (
            f"gcloud compute instances delete worker-a --project {PROJECT} --zone a --quiet",
            f"gcloud dataflow jobs drain job-2 --project {PROJECT} --region {SETTINGS.location}",
            "terraform apply",
        )
    with _apis(_healthy()) as address, requests.Session() as session:
        project = Project(session, SETTINGS, PROJECT, address)
        assert Observer(project).commands(project) == ("terraform apply",)


def test_under_load_functions_lose_nothing_and_the_rest_is_dataflows() -> None:
    missing, corrected, *others = _after(_nothing, healthy=_healthy())
    assert (missing.outcome, corrected.outcome) == (Outcome.OK, Outcome.OK)
    assert {finding.outcome for finding in others} == {Outcome.SKIPPED}
