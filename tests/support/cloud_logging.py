"""Cloud Logging, as far as the metrics of `terraform/monitoring/metrics.yaml` and `sluice smoke` need it.

Log entries from lines of standard output, and exactly the subset of the Logging query language that the filters use;
it rejects what it does not know.
"""

import json
import operator
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

type Entry = Mapping[str, Any]

SEVERITIES = ["DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"]

_SPECIAL = {"severity", "time", "httpRequest"}

_LOG = re.compile(r'log_id\("([^"]+)"\)')
_TEXT = re.compile(r'([\w.]+)(=|=~)"([^"\\]*)"')
_TEXTS = re.compile(r'([\w.]+)=\(("[^"]*"(?: OR "[^"]*")*)\)')
_TIME = re.compile(r'timestamp>="([^"]*)"')
_EXTRACT = re.compile(r"EXTRACT\(([\w.]+)\)")
_REGEXP_EXTRACT = re.compile(r'REGEXP_EXTRACT\(([\w.]+), "([^"\\]*)"\)')
_NUMBER = re.compile(r"([\w.]+)(>=|>|<=|<|=)(\d+)")
_SEVERITY = re.compile(r"severity(>=|>|<=|<|=)([A-Z]+)")

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "=": operator.eq,
}


class Unknown(ValueError):
    """The filter uses what nobody has taught this module."""


def entry(line: str, service: str) -> Entry:
    """Return the log entry that Cloud Run makes of a line on a function's standard output.

    Fields that Cloud Logging knows leave the payload (https://cloud.google.com/logging/docs/structured-logging).

    Args:
        line: The line.
        service: Name of the function's Cloud Run service.
    """
    written: dict[str, Any] = json.loads(line)
    payload = {
        name: value
        for name, value in written.items()
        if name not in _SPECIAL and not name.startswith("logging.googleapis.com/")
    }
    body: dict[str, Any] = (
        {"textPayload": payload["message"]} if payload.keys() == {"message"} else {"jsonPayload": payload}
    )
    return {
        "logName": "projects/project/logs/run.googleapis.com%2Fstdout",
        "resource": {"type": "cloud_run_revision", "labels": {"service_name": service, "project_id": "project"}},
        "severity": written.get("severity", "DEFAULT"),
        "timestamp": written.get("time"),
        "labels": written.get("logging.googleapis.com/labels", {}),
        **body,
    }


def worker_entry(message: str, severity: str, job: str, time: str = "2026-11-23T12:00:00Z") -> Entry:
    """Return the log entry that Dataflow makes of a worker's line: its text, and where it comes from.

    Args:
        message: The text.
        severity: Its severity, in the names of Cloud Logging.
        job: Name of the job.
        time: When it was logged.
    """
    labels = {
        "job_name": job,
        "job_id": "2026-11-28_1",
        "project_id": "project",
        "region": "us-central1",
        "step_id": "",
    }
    return {
        "logName": "projects/project/logs/dataflow.googleapis.com%2Fworker",
        "resource": {"type": "dataflow_step", "labels": labels},
        "severity": severity,
        "timestamp": time,
        "jsonPayload": {"message": message, "worker": "worker-1"},
    }


def extracted(log_entry: Entry, extractor: str) -> float | None:
    """The number that a value extractor gets; None where there is none, and nothing is recorded.

    Regular expressions have RE2's syntax, of which the filters use what Python's has, too.

    Raises:
        Unknown: The extractor is written in another way.
    """
    if field := _EXTRACT.fullmatch(extractor):
        actual = value(log_entry, field[1])
        return actual if isinstance(actual, int | float) else None
    if parts := _REGEXP_EXTRACT.fullmatch(extractor):
        match = re.search(parts[2], str(value(log_entry, parts[1])))
        return float(match[1]) if match else None
    raise Unknown(extractor)


def value(log_entry: Entry, path: str) -> Any:
    """A field of an entry; None where there is none.

    A field's name may have a dot only in quotes, which no metric needs.
    """
    at: Any = log_entry
    for name in path.split("."):
        if not isinstance(at, Mapping) or name not in at:
            return None
        at = at[name]
    return at


def matches(text: str, log_entry: Entry) -> bool:
    """Whether an entry meets a filter, as https://cloud.google.com/logging/docs/view/logging-query-language has it.

    Raises:
        Unknown: The filter has something else than comparisons joined by AND.
    """
    # Each is looked at, so that an unknown field is rejected even after a comparison that fails.
    holds = [_holds(comparison, log_entry) for comparison in text.split(" AND ")]
    return all(holds)


def _holds(comparison: str, log_entry: Entry) -> bool:
    if log := _LOG.fullmatch(comparison):
        return bool(log_entry["logName"].endswith(f"/logs/{log[1].replace('/', '%2F')}"))
    if severity := _SEVERITY.fullmatch(comparison):
        compare = _COMPARE[severity[1]]
        return compare(SEVERITIES.index(log_entry["severity"]), SEVERITIES.index(severity[2]))
    if text := _TEXT.fullmatch(comparison):
        # An equals sign compares whole strings without regard to case; a regular expression may match anywhere.
        actual = value(log_entry, text[1])
        equal = text[2] == "="
        return isinstance(actual, str) and (
            actual.casefold() == text[3].casefold() if equal else re.search(text[3], actual) is not None
        )
    if texts := _TEXTS.fullmatch(comparison):
        return any(_holds(f"{texts[1]}={text}", log_entry) for text in texts[2].split(" OR "))
    if time := _TIME.fullmatch(comparison):
        return datetime.fromisoformat(log_entry["timestamp"]) >= datetime.fromisoformat(time[1])
    if number := _NUMBER.fullmatch(comparison):
        actual = value(log_entry, number[1])
        return isinstance(actual, int | float) and _COMPARE[number[2]](actual, int(number[3]))
    raise Unknown(comparison)
