"""The checks of a deployment. docs/verify.md explains each."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import msgspec

from functions.settings import Settings
from sluice.verify.check import Check, Finding
from sluice.verify.project import (
    COMPACT,
    DRAIN,
    FUNCTIONS,
    Engine,
    Failed,
    NotThere,
    Project,
    Unknown,
    of_job,
    of_service,
    short_name,
)

_EXECUTION_ID = "LOG_EXECUTION_ID"

_DATA_ACCESS = 'log_id("cloudaudit.googleapis.com/data_access") AND protoPayload.serviceName="bigquery.googleapis.com"'

_RECENT = timedelta(minutes=30)
_SCHEDULED = timedelta(hours=26)
"""Maximum time since the last run of each job: both schedules may be set, to once a day."""
_HOURLY = timedelta(hours=2)
"""Maximum time since the last run of `drain` and of `compact`, which run each hour or more often."""
_MOST_PENDING = 3 * 3600
"""Maximum seconds that a load file waits: three runs, an hour apart."""
_WRONG = ("missing", "conflicts", "unreadable_objects")
"""Counts of a reconciliation that should be 0."""
NAMESPACE = "sluice"
"""Namespace of the counters in dataflow/write.py, which needs Beam."""
_MOST_LAG = 60.0
"""Maximum lag in seconds; an event lingers for one, and its batch takes another."""
_MOST_MEMORY = 0.8
"""Share of an instance's memory above which one more large event may end it."""


def _functions(project: Project) -> str:
    functions = dict.fromkeys((*FUNCTIONS, *project.services))
    for function in functions:
        service = project.service(function)
        condition = service.get("terminalCondition", {})
        if condition.get("state") != "CONDITION_SUCCEEDED":
            raise Failed(f"{function} is not ready: {condition.get('message', condition)}")
    revision = short_name(project.service("ingest")["latestReadyRevision"])
    return f"all {len(functions)} are ready; ingest's newest revision is {revision}"


def _traffic(project: Project) -> str:
    split = project.service("ingest").get("trafficStatuses", ())
    pinned = [
        target
        for target in split
        if target.get("type") != "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST" and target.get("percent")
    ]
    if not split:
        raise Failed("no revision of ingest receives traffic")
    if pinned:
        shares = ", ".join(f"{target['percent']} % to {target.get('revision', 'the newest')}" for target in pinned)
        raise Failed(f"{shares}: a canary or a rollback is unfinished, and new revisions would receive no traffic")
    return "the newest revision receives all traffic"


def _variables(project: Project) -> str:
    [container] = project.service("ingest")["template"]["containers"]
    variables = {variable["name"]: variable.get("value") for variable in container.get("env", ())}
    allowed = {name.upper() for name in Settings.__struct_fields__} | {_EXECUTION_ID}
    if unknown := sorted(variables.keys() - allowed):
        raise Failed(f"{', '.join(unknown)}: neither a setting nor a variable of the local functions")
    if (value := variables.get(_EXECUTION_ID)) != "true":
        raise Failed(f"{_EXECUTION_ID} is {value}, but Cloud Functions sets true; log lines have no execution id")
    return f"{len(variables)} variables, {_EXECUTION_ID} among them"


def _push(project: Project) -> str:
    _needs(project, "functions")
    subscription = project.subscription
    push = subscription.get("pushConfig", {})
    if not push.get("pushEndpoint"):
        raise Failed(f"{short_name(subscription['name'])} does not push; docs/operate.md, Stop and start the push")
    if not (account := push.get("oidcToken", {}).get("serviceAccountEmail")):
        raise Failed(f"{short_name(subscription['name'])} pushes without a token")
    if not subscription.get("deadLetterPolicy"):
        raise Failed(
            f"{short_name(subscription['name'])} has no dead-letter topic: undeliverable messages would be lost"
        )
    return f"{short_name(subscription['name'])} pushes as {account}"


def _forwarding(project: Project) -> str:
    _needs(project, "functions", "batch")
    subscription = project.subscription
    if not (topic := subscription.get("deadLetterPolicy", {}).get("deadLetterTopic")):
        raise Failed(f"{short_name(subscription['name'])} has no dead-letter topic")
    for resource, role in ((topic, "roles/pubsub.publisher"), (subscription["name"], "roles/pubsub.subscriber")):
        policy = project.get("pubsub", f"v1/{resource}:getIamPolicy")
        members = [
            member for binding in policy.get("bindings", ()) if binding["role"] == role for member in binding["members"]
        ]
        if not any(member.endswith("@gcp-sa-pubsub.iam.gserviceaccount.com") for member in members):
            raise Failed(
                f"Pub/Sub's service agent does not have {role} on {resource}: undeliverable events would not be"
                f" forwarded"
            )
    return f"Pub/Sub may forward to {short_name(topic)}"


def _logs(project: Project) -> str:
    _needs(project, "functions")
    name = short_name(project.service("ingest")["name"])
    entries = project.lines(
        f'{of_service(name)} AND jsonPayload.message="flush" AND jsonPayload.logger="functions.ingest.group_commit"',
        _RECENT,
    )
    if not entries:
        raise Failed(f"{name} has logged no flush within half an hour; run `sluice smoke` first")
    if not (version := entries[0].get("labels", {}).get("code_version")):
        raise Failed("the newest flush line has no label code_version: Cloud Logging did not parse the line")
    return f"the newest flush line is of {entries[0]['timestamp']}, by {version}"


def _job(project: Project) -> str:
    _needs(project, "dataflow")
    job = project.dataflow_job
    if (state := job["currentState"]) != "JOB_STATE_RUNNING":
        raise Failed(f"{job['name']} is {state}")
    if (kind := job.get("type")) != "JOB_TYPE_STREAMING":
        raise Failed(f"{job['name']} is of {kind}: it was started with files, and will end")
    return f"{job['name']} runs since {job.get('startTime', job['createTime'])} as {job['id']}"


def _job_logs(project: Project) -> str:
    _needs(project, "dataflow")
    entries = project.lines(f'{of_job(project.dataflow_job)} AND jsonPayload.message=~"^flush [{{]"', _RECENT)
    if not entries:
        raise Failed("no worker has logged a flush within half an hour; run `sluice smoke` first")
    text = entries[0]["jsonPayload"]["message"]
    try:
        flush = msgspec.json.decode(text.partition(" ")[2], type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Failed(f"the newest flush line is not JSON as the metrics read it ({error}): {text[:200]}") from error
    return f"the newest flush line is of {entries[0]['timestamp']}, with {flush['events']} events"


def _job_counts(project: Project) -> str:
    _needs(project, "dataflow")
    path = f"v1b3/{project.place}/jobs/{project.dataflow_job['id']}/metrics"
    names = {
        metric["name"]["name"]
        for metric in project.get("dataflow", path).get("metrics", ())
        if metric["name"].get("context", {}).get("namespace") == NAMESPACE
    }
    if not any(name.startswith("events") for name in names):
        raise Failed(f"of {NAMESPACE} the job counts {', '.join(sorted(names)) or 'nothing'}, and no events")
    return f"the job counts {', '.join(sorted(names))}"


def _job_keeps_up(project: Project) -> str:
    _needs(project, "dataflow")
    ages: dict[str, float] = {}
    for metric in ("system_lag", "data_watermark_age"):
        series = f'metric.type="dataflow.googleapis.com/job/{metric}" AND resource.labels.job_name="{project.ingest}"'
        points = project.points(series, timedelta(minutes=10))
        if not points:
            raise Failed(f"{metric} has had no value for ten minutes: its alerts cannot fire")
        ages[metric] = float(next(iter(points[0]["value"].values())))
    if slow := [f"{metric} is {age:.0f} s" for metric, age in ages.items() if age > _MOST_LAG]:
        raise Failed(f"{' and '.join(slow)}; for a job that keeps up, these are seconds")
    return ", ".join(f"{metric} is {age:.0f} s" for metric, age in ages.items())


def _drained(project: Project) -> str:
    _needs(project, "batch")
    return _scheduled(DRAIN, project, _HOURLY)


def _drain_logs(project: Project) -> str:
    _needs(project, "batch")
    name = short_name(project.service(DRAIN)["name"])
    entries = project.lines(f'{of_service(name)} AND jsonPayload.message="drain"', _HOURLY)
    if not entries:
        raise Failed(f"{name} has logged no run within two hours")
    time, run = entries[0]["timestamp"], entries[0]["jsonPayload"]
    if errors := run.get("errors"):
        raise Failed(f"the run of {time} ended early: {errors[0]}")
    if failed := run["failed_jobs"]:
        raise Failed(f"the run of {time} has found {failed:.0f} failed load jobs; `sluice sql failed_jobs`")
    if (waits := run["pending_seconds"]) > _MOST_PENDING:
        raise Failed(f"a load file has waited for {waits:.0f} s; docs/operate.md, Load files wait too long")
    return f"the run of {time} took {run['messages']:.0f} messages, and {run['pending_files']:.0f} load files wait"


def _compacted(project: Project) -> str:
    if COMPACT not in project.services:
        raise NotThere("the archive is not compacted")
    return _scheduled(COMPACT, project, _HOURLY)


def _request_logs(project: Project) -> str:
    name = short_name(project.service("ingest")["name"])
    requests_log = f'{of_service(name)} AND log_id("run.googleapis.com/requests")'
    if lines := project.lines(f"{requests_log} AND httpRequest.status<300", _RECENT):
        raise Failed(f"the request of {lines[0]['timestamp']} was logged; each event costs a line of about 1.2 KB")
    return "no request with status 2xx was logged within half an hour"


def _audit_logs(project: Project) -> str:
    inserts = f'{_DATA_ACCESS} AND protoPayload.methodName:"InsertAll"'
    dataset = f'protoPayload.resourceName:"datasets/{project.settings.dataset}/"'
    if lines := project.lines(f"{inserts} AND {dataset}", _RECENT):
        raise Failed(f"an insert of {lines[0]['timestamp']} was logged; `sluice cost` does not count these lines")
    # Who may not read these logs gets none of them, and no error. The smoke test's queries are always in them.
    if not project.lines(_DATA_ACCESS, _RECENT):
        raise Unknown(
            "BigQuery's audit log shows no query within half an hour, not even the smoke test's:"
            " roles/logging.privateLogViewer is missing, or a sink leaves it out"
        )
    return "no insert was logged within half an hour"


def _metrics(project: Project) -> str:
    name = project.name or _without_terraform("log-based metrics")
    points = project.points(f'metric.type="logging.googleapis.com/user/{name}/events"', _RECENT)
    if not points:
        raise Failed(f"{name}/events has no value within half an hour, although flushes are logged")
    return f"{name}/events has {len(points)} values within half an hour"


def _objectives(project: Project) -> str:
    name = project.name or _without_terraform("objectives")
    objectives = ("availability", "freshness") if project.engine == "functions" else ("freshness",)
    for objective in objectives:
        goal = f"{project.path}/services/{name}/serviceLevelObjectives/{objective}"
        if not project.points(f'select_slo_burn_rate("{goal}", "3600s")', timedelta(hours=2)):
            raise Failed(f"the burn rate of {objective} has had no value for two hours: its alerts cannot fire")
    return f"the burn rates of {' and '.join(objectives)} have values within two hours"


def _alerts(project: Project) -> str:
    name = project.name or _without_terraform("alerts")
    policies = [
        policy
        for policy in project.all("monitoring", f"v3/{project.path}/alertPolicies", "alertPolicies")
        if policy["displayName"].startswith(f"{name}: ")
    ]
    if not policies:
        raise Failed(f"no alert has a name that begins with {name}:")
    silent = [
        policy["displayName"] for policy in policies if policy.get("enabled") and not policy.get("notificationChannels")
    ]
    if silent:
        raise Failed(f"{len(silent)} alerts have no notification channel, first {silent[0]}")
    invalid = [policy["displayName"] for policy in policies if policy.get("validity", {}).get("code")]
    if invalid:
        raise Failed(f"Cloud Monitoring calls {invalid[0]} invalid")
    disabled = sum(not policy.get("enabled") for policy in policies)
    return f"{len(policies)} alerts, {disabled} of them disabled"


def _scheduled(function: str, project: Project, most: timedelta = _SCHEDULED) -> str:
    job = project.job(function)
    name = short_name(job["name"])
    if job.get("state") != "ENABLED":
        raise Failed(f"{name} is {job.get('state')}")
    if not (last := job.get("lastAttemptTime")):
        raise Failed(
            f"{name} has never run; start it: gcloud scheduler jobs run {name} --location {project.settings.location}"
        )
    if code := job.get("status", {}).get("code"):
        raise Failed(f"the run of {last} failed with status {code}")
    if datetime.fromisoformat(last) < datetime.now(UTC) - most:
        raise Failed(f"the last run of {name} was at {last}")
    return f"{name} ran at {last}"


def _reconciled(project: Project) -> str:
    name = short_name(project.service("reconcile")["name"])
    entries = project.lines(f'{of_service(name)} AND jsonPayload.message="reconciliation"', _SCHEDULED, most=1000)
    if not entries:
        raise Failed(f"{name} has logged no reconciliation within 26 hours")
    if not (execution := entries[0].get("labels", {}).get("execution_id")):
        raise Failed(f"the newest line of {name} has no label execution_id, which identifies the lines of a run")
    parts = [entry["jsonPayload"] for entry in entries if entry.get("labels", {}).get("execution_id") == execution]
    counts = {key: sum(part.get(key, 0) for part in parts) for key in ("archived", *_WRONG)}
    if wrong := [f"{key}: {counts[key]:.0f}" for key in _WRONG if counts[key]]:
        raise Failed(", ".join(wrong))
    return f"{counts['archived']:.0f} events from {parts[-1]['start']} to {parts[0]['end']}, none missing"


def _transfers(project: Project) -> str:
    name = project.name or _without_terraform("scheduled queries")
    configs = [
        config
        for location in sorted(_locations(project))
        for config in project.all(
            "bigquerydatatransfer", f"v1/{project.path}/locations/{location}/transferConfigs", "transferConfigs"
        )
        if config["displayName"].startswith(f"{name}: ")
    ]
    if not any("keep history" in config["displayName"] for config in configs):
        raise Failed("no scheduled query copies rows into the historical tables")
    for config in configs:
        if config.get("state") not in {"SUCCEEDED", "PENDING", "RUNNING"}:
            raise Failed(f"{config['displayName']}: the last run is {config.get('state')}")
    if waiting := [config for config in configs if config["state"] != "SUCCEEDED"]:
        return (
            f"{len(configs) - len(waiting)} of {len(configs)} succeeded, {len(waiting)} have not run yet or are running"
        )
    return f"the last run of each of {len(configs)} succeeded"


def _locations(project: Project) -> set[str]:
    """Return the locations of scheduled queries and copies: a copy is made where its dataset is."""
    copies = {f"{project.settings.dataset}_{kind}_copy" for kind in ("live", "historical")}
    datasets = project.all("bigquery", f"bigquery/v2/{project.path}/datasets", "datasets")
    locations = {listed["location"].lower() for listed in datasets if listed["datasetReference"]["datasetId"] in copies}
    return {project.settings.location, *locations}


def _masks(project: Project) -> str:
    tags = {
        name: tag
        for name, tag in (
            ("personal", project.settings.policy_tag_personal),
            ("raw", project.settings.policy_tag_raw),
        )
        if tag
    }
    if not tags:
        raise NotThere("no POLICY_TAG_PERSONAL is set: columns are not protected")
    policies = project.all("bigquerydatapolicy", f"v1/{project.place}/dataPolicies", "dataPolicies")
    masked = {policy.get("policyTag") for policy in policies if policy.get("dataPolicyType") == "DATA_MASKING_POLICY"}
    for name, tag in tags.items():
        # The API may answer with the project's number where the setting has its id.
        if not any(
            tag_with_mask and tag_with_mask.split("/locations/")[1] == tag.split("/locations/")[1]
            for tag_with_mask in masked
        ):
            raise Failed(f"the policy tag {name} has no mask: its columns are readable in full or not at all")
    used = _tags_of(project)
    for name, tag in tags.items():
        if tag.split("/locations/")[1] not in used:
            raise Failed(f"no column of {project.settings.dataset} has the policy tag {name}: run the bootstrap")
    return f"{' and '.join(tags)} columns have policy tags, and the tags have masks"


def _tags_of(project: Project) -> set[str]:
    """Return the policy tags of the live tables' columns, from their location on."""
    dataset = f"bigquery/v2/{project.path}/datasets/{project.settings.dataset}/tables"
    tags: set[str] = set()
    for table in project.all("bigquery", dataset, "tables"):
        if table["type"] == "TABLE":
            schema = project.get("bigquery", f"{dataset}/{table['tableReference']['tableId']}").get("schema", {})
            for field in _fields(schema.get("fields", ())):
                tags |= {tag.split("/locations/")[1] for tag in field.get("policyTags", {}).get("names", ())}
    return tags


def _fields(fields: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for field in fields:
        yield field
        yield from _fields(field.get("fields", ()))


def _memory(project: Project) -> str:
    _needs(project, "functions")
    name = short_name(project.service("ingest")["name"])
    points = project.points(
        f'metric.type="run.googleapis.com/container/memory/utilizations" AND resource.labels.service_name="{name}"',
        timedelta(days=1),
        **{"aggregation.alignmentPeriod": "86400s", "aggregation.perSeriesAligner": "ALIGN_PERCENTILE_99"},
    )
    if not points:
        raise Failed(f"{name} has no memory metric within a day")
    most = max(point["value"]["doubleValue"] for point in points)
    if most > _MOST_MEMORY:
        raise Failed(f"{most:.0%} of an instance's memory used at most; increase memory or decrease concurrency")
    return f"{most:.0%} of an instance's memory used at most within a day"


CHECKS: Sequence[Check] = (
    Check(
        "The functions are deployed and ready",
        "Only the platform starts the image of Cloud Build with its variables, accounts and memory.",
        _functions,
    ),
    Check(
        "ingest has the same variables as in the tests",
        "The platform sets some variables itself, and may add others.",
        _variables,
    ),
    Check(
        "The newest revision receives all traffic",
        "After a canary or a rollback, revisions are pinned and a deployment has no effect.",
        _traffic,
    ),
    Check(
        "Pub/Sub pushes to ingest with a token",
        "The address exists only after the deployment.",
        _push,
    ),
    Check(
        "Pub/Sub may forward undeliverable messages",
        "Google creates its service agent; without the two roles, undeliverable messages are redelivered without end.",
        _forwarding,
    ),
    Check(
        "ingest logs its flushes",
        "The platform configures logging. Metrics, alerts and objectives are derived from these lines.",
        _logs,
        patience=120,
    ),
    Check(
        "Requests with status 2xx are not logged",
        "Cloud Run writes a line for each request, which costs ten times as much as BigQuery's inserts.",
        _request_logs,
    ),
    Check(
        "Inserts are not logged",
        "It is not documented whether BigQuery's audit log has a line for each insert.",
        _audit_logs,
    ),
    Check(
        "The log-based metrics have values",
        "Cloud Logging derives them from log lines; a wrong filter gives no error.",
        _metrics,
        patience=300,
    ),
    Check(
        "The objectives have values",
        "Only Cloud Monitoring computes their burn rates.",
        _objectives,
        patience=300,
    ),
    Check(
        "Each alert is valid and has a notification channel",
        "Cloud Monitoring checks a query when it is applied, and again later.",
        _alerts,
    ),
    Check(
        "The bootstrap runs on schedule",
        "It needs the account and the token of Cloud Scheduler and the ingress of the function.",
        functools.partial(_scheduled, "bootstrap"),
    ),
    Check(
        "The reconciliation runs on schedule",
        "It needs the account and the token of Cloud Scheduler and the ingress of the function.",
        functools.partial(_scheduled, "reconcile"),
    ),
    Check(
        "The last reconciliation found no missing event",
        "It compares the archive with the rows that BigQuery returns, not with those that were sent.",
        _reconciled,
    ),
    Check(
        "The scheduled queries for history, snapshots and copies run",
        "Google's service agent for data transfers must be allowed to act as the backup account.",
        _transfers,
    ),
    Check(
        "Protected columns have policy tags, and the tags have masks",
        "A deleted tag removes the mask from tables that are still readable.",
        _masks,
    ),
    Check(
        "ingest has enough memory",
        "Cloud Run counts the memory of the whole container, including the file system.",
        _memory,
        patience=300,
    ),
    Check(
        "Exactly one Dataflow job runs",
        "It needs the image, the account, the network and the staging bucket; two jobs would share the events.",
        _job,
        patience=300,
    ),
    Check(
        "The Dataflow job logs its flushes",
        "Workers send text to Cloud Logging; metrics, alerts and objectives are derived from its JSON.",
        _job_logs,
        patience=300,
    ),
    Check(
        "The Dataflow job reports its counters",
        "Dataflow collects the Beam counters of all workers.",
        _job_counts,
        patience=300,
    ),
    Check(
        "The Dataflow job keeps up",
        "Only Dataflow computes the system lag and the age of the watermark.",
        _job_keeps_up,
        patience=300,
    ),
    Check(
        "The drain runs on schedule",
        "It needs the account and the token of Cloud Scheduler and the ingress of the function.",
        _drained,
    ),
    Check(
        "The drain loads what it has written",
        "BigQuery checks permissions and quotas of load jobs only when they run.",
        _drain_logs,
        patience=300,
    ),
    Check(
        "The compaction runs on schedule",
        "Only Cloud Storage checks whether its account may replace objects, and whether the bucket allows it.",
        _compacted,
    ),
)
"""All checks in the order in which they run. A check comes after those that it depends on."""


def findings(
    project: Project, sleep: Callable[[float], object] = time.sleep, checks: Sequence[Check] = CHECKS
) -> Iterator[Finding]:
    """Run checks, and yield each finding when it is available."""
    started = time.monotonic()
    for check in checks:
        yield check.run(project, started, sleep)


def _needs(project: Project, *engines: Engine) -> None:
    """Check which engine receives the events.

    Raises:
        NotThere: Another engine does.
    """
    if project.engine not in engines:
        raise NotThere(f"{project.engine} receives the events")


def _without_terraform(what: str) -> NoReturn:
    raise NotThere(f"the gcloud commands of docs/deploy.md create no {what}")
