"""The alerts on what runs by a schedule, evaluated by Prometheus itself: when each rings, and when it does not.

Cloud Monitoring's counts per interval are counters here, which PromQL's increase() treats alike.
"""

import itertools
import json
import pathlib
import shutil
import subprocess
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import pytest

from tests.support import monitoring

pytestmark = pytest.mark.check

ROOT = pathlib.Path(__file__).parents[2]

HOW_TO_GET = "promtool is not there: run `make promtool`, or get it from https://prometheus.io/download/"

SCHEDULED = (
    "reconcile_failed",
    "no_reconciliation",
    "compaction_failed",
    "bootstrap_failed",
    "no_bootstrap",
    "failed_backups",
    "no_backups",
)

HOUR = 60
DAY = 24 * HOUR
STEP = 5
"""Minutes between two samples."""
END = 6 * DAY


class Series(NamedTuple):
    """A counter.

    Attributes:
        name: Its metric, with its labels.
        at: Minutes at which it rises by one.
    """

    name: str
    at: Collection[int]

    def values(self) -> str:
        """Return a sample each `STEP` minutes, in promtool's notation."""
        counts = itertools.accumulate(
            sum(minute <= at < minute + STEP for at in self.at) for minute in range(-STEP, END, STEP)
        )
        return " ".join(map(str, counts))


def answers(function: str, code: str, at: Iterable[int]) -> Series:
    """Return the answers of a function with a class of codes."""
    labels = {
        "monitored_resource": "cloud_run_revision",
        "project_id": "project",
        "service_name": monitoring.NAMES[function],
        "response_code_class": code,
    }
    return Series(f"run_googleapis_com:request_count{selector(labels)}", list(at))


def failures(metric: str, name: str, at: Iterable[int]) -> Series:
    """Return a log-based metric of a function or of its schedule."""
    resource, label = (
        ("cloud_scheduler_job", "job_id") if name.endswith("_job") else ("cloud_run_revision", "service_name")
    )
    labels = {"monitored_resource": resource, "project_id": "project", label: monitoring.NAMES[name]}
    return Series(f"{monitoring.NAMES['metrics']}_{metric}{selector(labels)}", list(at))


def backup(config: int, state: str, at: Iterable[int]) -> Series:
    """Return the runs of a scheduled query or a copy that ended so."""
    labels = {
        "monitored_resource": "bigquery_dts_config",
        "project_id": "project",
        "config_id": f"config-{config}",
        "completion_state": state,
    }
    name = "bigquerydatatransfer_googleapis_com:transfer_config_completed_runs"
    return Series(f"{name}{selector(labels)}", list(at))


def selector(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def hourly(first: int = 25, end: int = END) -> range:
    return range(first, end, HOUR)


def daily(first: int, end: int = END) -> range:
    return range(first, end, DAY)


RECONCILES = answers("reconcile", "2xx", hourly())
BOOTSTRAPS = answers("bootstrap", "2xx", [5, *daily(4 * HOUR)])
BACKUPS = [backup(1, "SUCCEEDED", daily(3 * HOUR)), backup(2, "SUCCEEDED", daily(5 * HOUR))]
COPY = backup(3, "SUCCEEDED", daily(20))

STOP = 3 * DAY

CASES: Mapping[str, tuple[list[Series], Mapping[int, set[str]]]] = {
    "all is well, from the first day on": (
        [RECONCILES, BOOTSTRAPS, *BACKUPS, COPY],
        {at: set() for at in range(HOUR, END, 2 * HOUR)},
    ),
    "no reconciliation for three hours": (
        [answers("reconcile", "2xx", hourly(end=STOP)), BOOTSTRAPS, *BACKUPS, COPY],
        {STOP + HOUR: set(), STOP + 2 * HOUR: set(), STOP + 3 * HOUR: {"no_reconciliation"}},
    ),
    # The rarest schedule that terraform/alerts.tf accepts, and one that it rejects.
    "it reconciles every two hours": (
        [answers("reconcile", "2xx", range(25, END, 2 * HOUR)), BOOTSTRAPS, *BACKUPS, COPY],
        {at: set() for at in range(HOUR, END, HOUR)},
    ),
    "it reconciles every six hours": (
        [answers("reconcile", "2xx", range(25, END, 6 * HOUR)), BOOTSTRAPS, *BACKUPS, COPY],
        {STOP + 5 * HOUR: {"no_reconciliation"}, STOP + 6 * HOUR + 30: set()},
    ),
    "the reconciliation fails, and its scheduler tries four times": (
        [
            answers("reconcile", "2xx", hourly(end=STOP)),
            answers("reconcile", "5xx", sorted(at + more for at in hourly(STOP) for more in (0, 5, 10, 15))),
            BOOTSTRAPS,
            *BACKUPS,
            COPY,
        ],
        {at: {"reconcile_failed"} for at in range(STOP + 2 * HOUR, STOP + DAY, HOUR)},
    ),
    "an hour cannot be compacted for a day": (
        [RECONCILES, BOOTSTRAPS, *BACKUPS, COPY, failures("compaction_failures", "compact", hourly(STOP, STOP + DAY))],
        {STOP + 30: set(), STOP + 2 * HOUR: {"compaction_failed"}, STOP + DAY + 3 * HOUR: set()},
    ),
    "a run of the compaction fails, and its retries too": (
        [
            RECONCILES,
            BOOTSTRAPS,
            *BACKUPS,
            COPY,
            failures("compact_schedule_failures", "compact_job", (STOP, STOP + 5)),
        ],
        {STOP + HOUR: {"compaction_failed"}, STOP + 3 * HOUR: set()},
    ),
    "a run of the compaction fails, and its retry succeeds": (
        [RECONCILES, BOOTSTRAPS, *BACKUPS, COPY, failures("compact_schedule_failures", "compact_job", [STOP])],
        {at: set() for at in range(HOUR, END, HOUR)},
    ),
    "no bootstrap for two days": (
        [RECONCILES, answers("bootstrap", "2xx", daily(4 * HOUR, STOP)), *BACKUPS, COPY],
        {STOP + DAY: set(), STOP + DAY + 4 * HOUR: {"no_bootstrap"}, END - HOUR: {"no_bootstrap"}},
    ),
    "one of the backups does not run for two days": (
        [RECONCILES, BOOTSTRAPS, *BACKUPS, backup(3, "SUCCEEDED", daily(20, STOP))],
        {STOP + 23 * HOUR: set(), STOP + DAY: {"no_backups"}, END - HOUR: {"no_backups"}},
    ),
    "one of the backups fails": (
        [RECONCILES, BOOTSTRAPS, *BACKUPS, backup(3, "SUCCEEDED", daily(20, STOP)), backup(3, "FAILED", daily(STOP))],
        {at: {"failed_backups"} for at in range(STOP + HOUR, END, 2 * HOUR)},
    ),
    "a copy that is new runs for the first time within a day": (
        [RECONCILES, BOOTSTRAPS, *BACKUPS, backup(3, "SUCCEEDED", daily(STOP))],
        {at: set() for at in range(STOP + HOUR, END, 2 * HOUR)},
    ),
    "nothing ever runs": (
        [],
        {HOUR: set(), 3 * HOUR: {"no_reconciliation"}, DAY: {"no_reconciliation", "no_bootstrap", "no_backups"}},
    ),
}


def promtool() -> str:
    """Return the program; without it, the test is skipped. The workflow `ci` has to get it: `make promtool`."""
    own = ROOT / ".venv" / "promtool" / "promtool"
    if own.exists():
        return str(own)
    return shutil.which("promtool") or pytest.skip(HOW_TO_GET)


def evaluated(
    place: pathlib.Path,
    alerts: Mapping[str, Mapping[str, str]],
    series: Mapping[str, str],
    expected: Mapping[int, set[str]],
) -> None:
    """Let Prometheus evaluate alerts, and compare which of them ring in which minute."""
    rules = [{"alert": key, "expr": alert["condition"], "for": alert["for"]} for key, alert in alerts.items()]
    ringing = [
        {
            "expr": 'ALERTS{alertstate="firing"}',
            "eval_time": f"{minute}m",
            "exp_samples": [
                {"labels": f'ALERTS{{alertname="{key}",alertstate="firing"}}', "value": 1} for key in sorted(keys)
            ],
        }
        for minute, keys in expected.items()
    ]
    test = {
        "interval": f"{STEP}m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": ringing,
    }
    # JSON is YAML.
    (place / "rules.yaml").write_text(json.dumps({"groups": [{"name": "alerts", "rules": rules}]}))
    suite = {"rule_files": ["rules.yaml"], "evaluation_interval": f"{STEP}m", "tests": [test]}
    (place / "suite.yaml").write_text(json.dumps(suite))
    done = subprocess.run(
        [promtool(), "test", "rules", "suite.yaml"], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES)
def test_missing_scheduled_run_raises_one_alert(tmp_path: pathlib.Path, case: str) -> None:
    series, expected = CASES[case]
    alerts = {key: alert for key, alert in monitoring.alerts().items() if key in SCHEDULED}
    assert len(alerts) == len(SCHEDULED)
    evaluated(tmp_path, alerts, {labelled.name: labelled.values() for labelled in series}, expected)


OF_DRAIN = {"monitored_resource": "cloud_run_revision", "project_id": "project"} | {
    "service_name": monitoring.NAMES["drain"]
}


def pending(seconds: Iterable[int]) -> dict[str, str]:
    """Return the metric of the oldest load file: its age after each run, of which there is one in `STEP` minutes."""
    ages = list(seconds)
    name = f"{monitoring.NAMES['metrics']}_pending"
    return {
        f"{name}_sum{selector(OF_DRAIN)}": " ".join(map(str, itertools.accumulate(ages, initial=0))),
        f"{name}_count{selector(OF_DRAIN)}": " ".join(map(str, range(len(ages) + 1))),
    }


def runs_of_drain(code: str, at: Iterable[int]) -> dict[str, str]:
    series = answers("drain", code, at)
    return {series.name: series.values()}


def failed_runs(at: Iterable[int]) -> dict[str, str]:
    labels = {"monitored_resource": "cloud_scheduler_job", "project_id": "project"}
    labels |= {"job_id": monitoring.NAMES["drain_job"]}
    series = Series(f"{monitoring.NAMES['metrics']}_drain_schedule_failures{selector(labels)}", list(at))
    return {series.name: series.values()}


BATCH: Mapping[str, tuple[dict[str, str], Mapping[int, set[str]]]] = {
    "drain runs, and each load job ends before the next run": (
        runs_of_drain("2xx", range(0, END, STEP)) | pending([60] * 60),
        {at: set() for at in range(0, 5 * HOUR, STEP)},
    ),
    "a load job fails for an hour and a half": (
        runs_of_drain("2xx", range(0, END, STEP)) | pending([60] * 12 + list(range(300, 5700, 300)) + [60] * 40),
        {HOUR + 30: set(), 2 * HOUR: {"pending_loads"}, 3 * HOUR: set()},
    ),
    "drain is not called any more": (
        runs_of_drain("2xx", range(0, HOUR, STEP)),
        {HOUR + 10: set(), HOUR + 30: {"no_drain"}, 2 * HOUR: {"no_drain"}},
    ),
    "drain is deployed, and runs for the first time within a few minutes": (
        runs_of_drain("2xx", range(STEP, END, STEP)),
        {at: set() for at in range(0, HOUR, STEP)},
    ),
    "drain fails each time": (
        runs_of_drain("2xx", range(0, HOUR, STEP)) | failed_runs(range(HOUR, END, 1)),
        {HOUR + 15: {"drain_failed"}, 3 * HOUR: {"drain_failed"}},
    ),
    "drain fails once": (
        runs_of_drain("2xx", range(0, END, STEP)) | failed_runs([HOUR]),
        {at: set() for at in range(HOUR, 2 * HOUR, STEP)},
    ),
}


@pytest.mark.parametrize("case", BATCH)
def test_drain_that_falls_behind_raises_one_alert(tmp_path: pathlib.Path, case: str) -> None:
    series, expected = BATCH[case]
    alerts = {key: alert for key, alert in monitoring.alerts("batch").items() if alert.get("engine") == "batch"}
    assert alerts.keys() == {"pending_loads", "drain_failed", "no_drain"}
    evaluated(tmp_path, alerts, series, expected)


OF_JOB = selector(
    {"monitored_resource": "dataflow_job", "project_id": "project", "job_name": monitoring.NAMES["job"]},
)

JOBS: Mapping[str, tuple[dict[str, str], Mapping[int, set[str]]]] = {
    "a job that keeps up": (
        {"current_num_vcpus": "2x60", "system_lag": "3x60", "data_watermark_age": "4x60"},
        {at: set() for at in range(STEP, 4 * HOUR, STEP)},
    ),
    "a job that ends after an hour, in the samples of which its last ones stay for five minutes": (
        {"current_num_vcpus": "2x12 _x48", "system_lag": "3x12 _x48", "data_watermark_age": "4x12 _x48"},
        {HOUR: set(), HOUR + 15: set(), HOUR + 25: {"no_job"}, 3 * HOUR: {"no_job"}},
    ),
    "a job that never starts": ({}, {STEP: set(), 2 * STEP: set(), 3 * STEP: {"no_job"}}),
    "a batch that cannot be written for half an hour": (
        {
            "current_num_vcpus": "2x60",
            "system_lag": "3x12 300 600 900 1200 1500 1800 3x41",
            "data_watermark_age": "4x12 300 600 900 1200 1500 1800 4x41",
        },
        {HOUR: set(), HOUR + 25: {"system_lag", "data_freshness"}, HOUR + 45: set()},
    ),
}


@pytest.mark.parametrize("case", JOBS)
def test_job_that_falls_behind_raises_an_alert(tmp_path: pathlib.Path, case: str) -> None:
    series, expected = JOBS[case]
    alerts = {key: alert for key, alert in monitoring.alerts("dataflow").items() if alert.get("engine") == "dataflow"}
    assert alerts.keys() == {"system_lag", "data_freshness", "no_job"}
    named = {f"dataflow_googleapis_com:job_{name}{OF_JOB}": values for name, values in series.items()}
    evaluated(tmp_path, alerts, named, expected)
