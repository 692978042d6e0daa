"""`terraform/monitoring/` as Terraform reads it: the same files, rendered in the same order.

Terraform's templates are used for names only, `${name}`, which `string.Template` understands; anything more fails here.
"""

import pathlib
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from functions.core.dead_letters import Stage
from functions.events import event_types
from tests.support.configuration import configuration

TERRAFORM = pathlib.Path(__file__).parents[2] / "terraform"

type Engine = Literal["functions", "batch", "dataflow"]

ENGINES: Sequence[Engine] = ("functions", "batch", "dataflow")
"""Engines that receive the events: those of the variable `engine`, or batch mode of the functions."""

FLUSHES: Mapping[Engine, tuple[str, str]] = {
    "functions": ("flush", "of_ingest"),
    "batch": ("flush_of_drain", "of_drain"),
    "dataflow": ("flush_of_dataflow", "of_job"),
}
"""Source of the flush lines of each engine, and the selector of their metrics."""

LATENESS: Mapping[Engine, Mapping[str, str]] = {"functions": {}, "batch": {"lag_seconds": "300"}, "dataflow": {}}
"""Thresholds that an engine raises, with the default interval of batch mode."""

EACH = "${each}"

KEYS: Mapping[str, Sequence[str]] = {
    "tables": sorted({event_type.table for event_type in event_types().values()}),
    "stages": sorted(Stage),
}

NAMES = {
    "project_id": "project",
    "job": "sluice-test-ingest",
    "ingest": "sluice-test-ingest",
    "bootstrap": "sluice-test-bootstrap",
    "bootstrap_job": "sluice-test-bootstrap",
    "reconcile": "sluice-test-reconcile",
    "reconcile_job": "sluice-test-reconcile",
    "compact": "sluice-test-compact",
    "compact_job": "sluice-test-compact",
    "drain": "sluice-test-drain",
    "drain_job": "sluice-test-drain",
    "drain_window_minutes": "15",
    "no_drain_for": "360s",
    "topic": "sluice-test-events",
    "subscription": "sluice-test-ingest",
    "dead_letter_subscription": "sluice-test-dead-letters",
    "dataset": "events",
    "region": "us-central1",
    "backup_ids": "config-1|config-2|config-3",
    "backup_count": "3",
    "metrics": "logging_googleapis_com:user_sluice_test",
    "runbook": "docs/operate.md",
    "each": EACH,
}


class Metric(msgspec.Struct, frozen=True):
    """A log-based metric.

    Attributes:
        name: After the environment's prefix: `rows/orders`.
        filter: Which log entries, in the Logging query language.
        value: The field whose numbers are distributed; None counts entries.
        extractor: How the number is got from an entry.
        bounds: Of the buckets.
    """

    name: str
    filter: str
    value: str | None
    extractor: str | None
    bounds: Sequence[float] | None

    @property
    def promql(self) -> set[str]:
        """Its names in PromQL (https://cloud.google.com/monitoring/promql/promql-mapping)."""
        name = f"{NAMES['metrics']}_{re.sub(r'\W', '_', self.name)}"
        return {name} if self.value is None else {f"{name}_{suffix}" for suffix in ("sum", "count", "bucket")}


def thresholds() -> dict[str, str]:
    """Defaults of the thresholds and objectives, from their variables."""
    return configuration().defaults("alert_thresholds") | configuration().defaults("objectives")


def read(file: str, names: Mapping[str, str]) -> Any:
    """A file of `terraform/monitoring/` with its names filled in."""
    text = (TERRAFORM / "monitoring" / file).read_text()
    return msgspec.yaml.decode(string.Template(text).substitute(names).encode())


def keys(item: Mapping[str, Any]) -> Sequence[str]:
    """Return the keys that an item with `each` is repeated for."""
    return KEYS[item["each"]] if "each" in item else [""]


def is_of(item: Mapping[str, Any], engine: Engine) -> bool:
    """Return whether an item is there for an engine."""
    return engine in item.get("engine", engine)


def metrics(engine: Engine = "functions") -> dict[str, Metric]:
    """All log-based metrics of an engine, by name."""
    measured = read("metrics.yaml", NAMES)
    listed = [
        _metric(
            f"{name}/{key}".rstrip("/"), {part: str(text).replace(EACH, key) for part, text in metric.items()}, engine
        )
        for name, metric in measured["metrics"].items()
        if is_of(metric, engine)
        for key in keys(metric)
    ]
    return {metric.name: metric for metric in listed}


def _metric(name: str, metric: Mapping[str, str], engine: Engine) -> Metric:
    measured = read("metrics.yaml", NAMES)
    source, where, value = metric["source"], metric.get("where"), metric.get("value")
    source = FLUSHES[engine][0] if source == "flush" else source
    extractor = f"EXTRACT({value})" if value else None
    if source == "flush_of_dataflow":
        where = f'jsonPayload.message=~"{_before(where.removesuffix(">0"))}[1-9]"' if where else None
        extractor = f'REGEXP_EXTRACT(jsonPayload.message, "{_before(value)}([0-9]+)")' if value else None
    bounds = measured["buckets"][metric["buckets"]] if "buckets" in metric else None
    return Metric(name, " AND ".join(filter(None, [measured["sources"][source], where])), value, extractor, bounds)


def _before(path: str) -> str:
    """Return the regular expression of what is before the number of a path in JSON."""
    names = path.removeprefix("jsonPayload.").split(".")
    return f"[^0-9A-Za-z_]{'[^0-9A-Za-z_]:[{][^}]*[^0-9A-Za-z_]'.join(names)}[^0-9A-Za-z_]:"


def values(engine: Engine = "functions") -> dict[str, str]:
    """Everything that alerts and dashboard may name."""
    selectors = {**NAMES, **read("selectors.yaml", NAMES)}
    selectors["of_flushes"] = selectors[FLUSHES[engine][1]]
    queries = {
        name: " + ".join(asked["query"].replace(EACH, key) for key in keys(asked))
        for name, asked in read("queries.yaml", selectors).items()
    }
    given = {**thresholds(), **LATENESS[engine]}
    failing_share = float(given["fast_burn_rate"]) * (1 - float(given["availability"]))
    return {**selectors, **queries, **given, "failing_share": f"{failing_share:.6f}"}


def alerts(engine: Engine = "functions") -> dict[str, dict[str, Any]]:
    """All alerts of an engine, by key."""
    written: dict[str, dict[str, Any]] = read("alerts.yaml", values(engine))
    return {key: {**alert, **alert.get(engine, {})} for key, alert in written.items() if is_of(alert, engine)}


def alerts_of_engines() -> list[dict[str, Any]]:
    """The alerts of all engines; what differs in nothing comes once."""
    of_all_engines = [alert for engine in ENGINES for alert in alerts(engine).values()]
    return [alert for position, alert in enumerate(of_all_engines) if alert not in of_all_engines[:position]]


def tiles(engine: Engine = "functions") -> list[dict[str, Any]]:
    """All tiles of the dashboard of an engine."""
    rows = [row for row in read("dashboard.yaml", values(engine)) if is_of(row, engine)]
    return [tile for row in rows for tile in row["tiles"] if is_of(tile, engine)]


def queries(engine: Engine = "functions") -> dict[str, str]:
    """Return the PromQL queries of an engine by their owner."""
    by_owner = {f"alert {key}": alert["condition"] for key, alert in alerts(engine).items() if "condition" in alert}
    for tile in tiles(engine):
        if "query" in tile:
            by_owner[f"tile {tile['title']}"] = tile["query"]
        for line in tile.get("lines", ()):
            for key in keys(line) if is_of(line, engine) else ():
                by_owner[f"tile {tile['title']}: {line['name'].replace(EACH, key)}"] = line["query"].replace(EACH, key)
    return by_owner
