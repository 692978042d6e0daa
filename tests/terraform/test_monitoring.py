"""Alerts, dashboard and objectives name metrics that exist and actions that can be done."""

import operator
import re
import shlex
import string
from collections.abc import Iterator, Mapping
from typing import Any

import promql_parser
import pytest
from promql_parser import Expr, VectorSelector
from typer.testing import CliRunner

from functions.schema.definitions import FOLDER
from sluice.cli import app
from tests.support import cloud_logging, monitoring
from tests.support import terraform as running
from tests.support.cloud_logging import Unknown, entry, matches
from tests.support.configuration import configuration
from tests.support.docs import anchors
from tests.support.google_metrics import GOOGLE_METRICS
from tests.support.monitoring import ENGINES, Engine
from tests.support.terraform import RUNBOOK, Planned, Terraform

ROOT = monitoring.TERRAFORM.parent
OPERATE = (ROOT / "docs" / "operate.md").read_text()

OPTIONS: Mapping[Engine, list[str]] = {
    "functions": [],
    "batch": ['-var=ingest={mode="batch"}'],
    "dataflow": ["-var=engine=dataflow", '-var=dataflow={image="us-docker.pkg.dev/a-project/sluice/dataflow:1"}'],
}
"""Options of Terraform."""

RESOURCES = {
    "cloud_run_revision": {"service_name"},
    "cloud_scheduler_job": {"job_id"},
    "dataflow_job": {"job_name"},
    "pubsub_topic": {"topic_id"},
    "pubsub_subscription": {"subscription_id"},
    "bigquery_dataset": {"dataset_id"},
    "bigquery_dts_config": {"config_id"},
    "global": set[str](),
}
"""Labels that distinguish Sluice's resources from others (https://cloud.google.com/monitoring/api/resources)."""


def selectors(query: str) -> list[VectorSelector]:
    """Each selection of time series in a query."""
    vectors: list[VectorSelector] = []

    def visit(expression: Expr) -> None:
        if isinstance(expression, VectorSelector):
            vectors.append(expression)

    promql_parser.walk(promql_parser.parse(query), visit)
    return vectors


METERED = {"dataflow_step": "dataflow_job"}
"""The resource of a metric that is made of log entries, where it is another than that of the entries."""


def metric_names(engine: Engine) -> dict[str, tuple[str, set[str]]]:
    """Each metric's names in PromQL, with its resource and its own labels."""
    metrics = {name: (metric.resource, set(metric.labels)) for metric in GOOGLE_METRICS for name in metric.promql}
    for metric in monitoring.metrics(engine).values():
        [resource] = re.findall(r'resource.type="(\w+)"', metric.filter)
        metrics |= {name: (METERED.get(resource, resource), set()) for name in metric.promql}
    return metrics


@pytest.mark.parametrize(
    ("engine", "whose", "query"),
    [(engine, whose, query) for engine in ENGINES for whose, query in monitoring.queries(engine).items()],
)
def test_every_query_selects_existing_metrics_and_its_resource(engine: Engine, whose: str, query: str) -> None:
    metrics = metric_names(engine)
    vectors = selectors(query)
    assert vectors, whose
    for selector in vectors:
        assert selector.name in metrics, whose
        resource, labels = metrics[selector.name]
        given = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
        assert given.pop("monitored_resource", None) == resource
        assert given.pop("project_id", None) == "project"
        assert RESOURCES[resource] <= given.keys() <= RESOURCES[resource] | labels
        grouped = set(re.findall(r"sum by \((?!le\))(\w+)\)", query))
        assert grouped <= labels


def test_every_metric_is_looked_at() -> None:
    """A metric that no query reads costs money and reports nothing."""
    asked: set[str] = set()
    for engine in ENGINES:
        named = {str(vector.name) for query in monitoring.queries(engine).values() for vector in selectors(query)}
        assert [metric.name for metric in monitoring.metrics(engine).values() if not metric.promql & named] == []
        asked |= named
    assert [metric.type for metric in GOOGLE_METRICS if not metric.promql & asked] == []


def test_names_of_metrics_do_not_meet_in_promql() -> None:
    names = [name for metric in monitoring.metrics().values() for name in metric.promql]
    assert len(names) == len(set(names))


def test_engines_have_the_same_metrics_except_those_of_requests() -> None:
    of_requests, of_drain = {"rejected", "wait"}, {"drain-errors", "drain-schedule-failures", "failed-loads", "pending"}
    functions, batch, dataflow = (monitoring.metrics(engine).keys() for engine in ENGINES)
    assert functions - dataflow == functions - batch == of_requests
    assert batch - functions == of_drain
    assert dataflow <= functions


@pytest.mark.parametrize("engine", ENGINES)
def test_evaluated_filters_and_queries_are_those_of_the_plan(terraform: Terraform, engine: Engine) -> None:
    plan = running.planned(terraform, "dev", *OPTIONS[engine])
    made = {
        name[1]: (metric["filter"], metric["value_extractor"])
        for address, metric in plan.items()
        if (name := re.fullmatch(r'google_logging_metric\.this\["(.+)"\]', address))
    }
    assert {
        name: (text.replace("sluice-dev", "sluice-test"), extractor) for name, (text, extractor) in made.items()
    } == {name: (metric.filter, metric.extractor) for name, metric in monitoring.metrics(engine).items()}
    queries = {
        f"alert {key}": condition["condition_prometheus_query_language"][0]["query"]
        for key in monitoring.alerts(engine)
        for condition in plan[f'google_monitoring_alert_policy.this["{key}"]']["conditions"]
        if condition["condition_prometheus_query_language"]
    }
    assert queries.keys() == {whose for whose in monitoring.queries(engine) if whose.startswith("alert ")}
    for whose, query in queries.items():
        assert shape(query) == shape(monitoring.queries(engine)[whose]), whose


def shape(query: str) -> list[str]:
    """The names of the metrics that a query asks for."""
    return [str(selector.name).replace("sluice_dev", "sluice_test") for selector in selectors(query)]


def test_tables_in_terraform_are_those_of_the_event_types() -> None:
    """The rule of metrics.tf, on the same files."""
    rule = 'strcontains(file("${path.module}/../sql/schema/${file}"), "ingest STRUCT")'
    assert rule in configuration().local_values["repeated"]["tables"]
    tables = [file.stem for file in (FOLDER / "schema").glob("*.sql") if "ingest STRUCT" in file.read_text()]
    assert sorted(tables) == list(monitoring.KEYS["tables"])


def test_the_stages_that_terraform_lists_are_those_of_the_code() -> None:
    listed = configuration().local_values["repeated"]["stages"]
    assert sorted(re.findall(r'"(\w+)"', listed)) == list(monitoring.KEYS["stages"])


def test_buckets_rise_and_are_few_enough() -> None:
    for metric in monitoring.metrics().values():
        assert (metric.bounds is None) == (metric.value is None), metric.name
        if metric.bounds is not None:
            assert list(metric.bounds) == sorted(set(metric.bounds))
            # https://cloud.google.com/logging/docs/logs-based-metrics/distribution-metrics
            assert len(metric.bounds) <= 200


@pytest.mark.parametrize("alert", monitoring.alerts_of_engines(), ids=operator.itemgetter("title"))
def test_every_alert_has_its_section_in_the_runbook(alert: dict[str, str]) -> None:
    headings = re.findall(r"^##+ (.+)$", OPERATE, re.MULTILINE)
    assert headings.count(alert["title"]) == 1
    # Terraform makes the anchor of the title, as GitHub does of a heading, for words only.
    assert re.fullmatch(r"[A-Za-z0-9 ]+", alert["title"])
    section = OPERATE.partition(f"# {alert['title']}\n")[2].partition("\n## ")[0]
    assert "```" in section, "nothing to type"


@pytest.mark.parametrize("key", monitoring.alerts())
def test_every_alert_brings_its_runbook_and_links_to_its_section(planned: Planned, key: str) -> None:
    [documentation] = planned[f'google_monitoring_alert_policy.this["{key}"]']["documentation"]
    alert = monitoring.alerts()[key]
    for place in alert["look"]:
        assert place in documentation["content"]
    [link] = documentation["links"]
    page, _, anchor = link["url"].partition("#")
    assert page == RUNBOOK
    assert anchor in anchors(ROOT / "docs" / "operate.md")
    assert link["url"] in documentation["content"]


@pytest.mark.parametrize("alert", monitoring.alerts_of_engines(), ids=operator.itemgetter("title"))
def test_command_named_by_an_alert_exists(alert: dict[str, str]) -> None:
    program, *arguments = shlex.split(alert["type"])
    if program == "gcloud":
        assert arguments[arguments.index("--project") + 1] == "project"
        documented = [["dataflow", "jobs"], ["logging", "read"], ["pubsub", "subscriptions"], ["scheduler", "jobs"]]
        assert arguments[:2] in documented
    else:
        assert program == ".venv/bin/sluice"
        parsed = CliRunner().invoke(app, [*arguments, "--help"])
        assert parsed.exit_code == 0, parsed.output


@pytest.mark.parametrize(
    "name", re.findall(r"`sluice sql (\w+)", (monitoring.TERRAFORM / "monitoring/dashboard.yaml").read_text())
)
def test_every_query_named_by_the_dashboard_exists(name: str) -> None:
    assert list(FOLDER.glob(f"*/{name}.sql")), name


@pytest.mark.parametrize("engine", ENGINES)
def test_dashboard_begins_with_the_metrics_of_the_alerts(engine: Engine) -> None:
    first = [tile["query"] for tile in monitoring.tiles(engine) if "bad" in tile]
    waking = {selector.name for alert in monitoring.alerts(engine).values() for selector in asked_by(alert)}
    assert len(first) == 4
    for query in first:
        assert {selector.name for selector in selectors(query)} <= waking


def asked_by(alert: Mapping[str, Any]) -> Iterator[VectorSelector]:
    """Return what an alert asks for; one on a burn rate asks for what its objective is of."""
    if "condition" in alert:
        yield from selectors(alert["condition"])
    else:
        query = {"availability": "${server_errors} / ${requests}", "freshness": "${lag_p99}"}[
            alert["burn"]["objective"]
        ]
        yield from selectors(string.Template(query).substitute(monitoring.values()))


def test_each_objective_has_a_fast_and_a_slow_burn_rate_alert() -> None:
    given = monitoring.thresholds()
    burning = {
        (alert["burn"]["objective"], f"{alert['burn']['rate']}"): (alert["burn"]["seconds"], alert["severity"])
        for alert in monitoring.alerts().values()
        if "burn" in alert
    }
    objectives = [name for name in given if name in {"availability", "freshness"}]
    assert burning.keys() == {(name, given[f"{speed}_burn_rate"]) for name in objectives for speed in ("fast", "slow")}
    for (_, rate), (seconds, severity) in burning.items():
        long, short = seconds
        assert long == 12 * short
        assert (severity == "WARNING") == (rate == given["slow_burn_rate"])


def test_objectives_name_metrics_that_exist() -> None:
    text = (monitoring.TERRAFORM / "objectives.tf").read_text()
    types = re.findall(r'metric\.type=\\"([^\\]+)\\"', text)
    own = {
        f'logging.googleapis.com/user/${{google_logging_metric.this["{name}"].name}}' for name in monitoring.metrics()
    }
    assert types
    assert set(types) <= own | {metric.type for metric in GOOGLE_METRICS}


def test_the_objectives_are_written_down_with_their_defaults() -> None:
    section = (ROOT / "docs" / "objectives.md").read_text().partition("## Objectives")[2]
    given = monitoring.thresholds()
    assert f"{float(given['availability']):.1%}".replace("%", " %") in section
    assert f"{float(given['freshness']):.0%}".replace("%", " %") in section
    assert f"{given['lag_seconds']} s" in section


LINE = '{"severity":"ERROR","time":"2026-11-23T12:00:00Z","message":"flush","rows":{"orders":3},"n":2}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('resource.type="cloud_run_revision"', True),
        ('resource.labels.service_name="other"', False),
        ('log_id("run.googleapis.com/stdout")', True),
        ('log_id("run.googleapis.com/stderr")', False),
        ('jsonPayload.message="FLUSH"', True),
        ('jsonPayload.message=~"^fl[u]sh$"', True),
        ('jsonPayload.message=~"FLUSH"', False),
        ("jsonPayload.rows.orders>2", True),
        ("jsonPayload.rows.orders>3", False),
        ("jsonPayload.rows.inventory>0", False),
        ("jsonPayload.severity>0", False),
        ("severity>=WARNING", True),
        ("severity>ERROR", False),
        ('severity>=ERROR AND jsonPayload.message="other"', False),
        ('jsonPayload.message=("other" OR "flush")', True),
        ('jsonPayload.message=("other" OR "others")', False),
        ('timestamp>="2026-11-23T12:00:00+00:00"', True),
        ('timestamp>="2026-11-23T13:00:00+00:00"', False),
    ],
)
def test_evaluated_filters_follow_the_rules_of_cloud_logging(text: str, expected: bool) -> None:
    assert matches(text, entry(LINE, "service")) is expected


@pytest.mark.parametrize(
    "text",
    [
        'jsonPayload.message:"flush"',
        'jsonPayload.message=~"fl\\w*"',
        'NOT jsonPayload.message="flush"',
        'jsonPayload.message="flush" OR severity>=ERROR',
        "jsonPayload.rows.orders",
        'jsonPayload.message="other" AND jsonPayload.message',
    ],
)
def test_evaluator_rejects_unknown_syntax(text: str) -> None:
    with pytest.raises(Unknown):
        matches(text, entry(LINE, "service"))


def test_a_line_of_nothing_but_its_message_is_text() -> None:
    """Cloud Logging makes text of it: a filter of jsonPayload would never match it."""
    assert "jsonPayload" not in cloud_logging.entry('{"severity":"INFO","message":"hello"}', "service")
