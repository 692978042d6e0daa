"""`terraform/watching/` as Terraform reads it: the same files, rendered in the same order.

Terraform's templates are used for names only, `${name}`, which `string.Template` understands; anything more fails here.
"""

import pathlib
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from functions.dead_letter import Stage
from functions.events import event_types

TERRAFORM = pathlib.Path(__file__).parents[2] / "terraform"

EACH = "${each}"

KEYS: Mapping[str, Sequence[str]] = {
    "tables": sorted({event_type.table for event_type in event_types().values()}),
    "stages": sorted(Stage),
}

NAMES = {
    "project_id": "project",
    "ingest": "sluice-test-ingest",
    "bootstrap": "sluice-test-bootstrap",
    "bootstrap_job": "sluice-test-bootstrap",
    "reconcile": "sluice-test-reconcile",
    "reconcile_job": "sluice-test-reconcile",
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
        bounds: Of the buckets.
    """

    name: str
    filter: str
    value: str | None
    bounds: Sequence[float] | None

    @property
    def promql(self) -> set[str]:
        """Its names in PromQL (https://cloud.google.com/monitoring/promql/promql-mapping)."""
        name = f"{NAMES['metrics']}_{re.sub(r'\W', '_', self.name)}"
        return {name} if self.value is None else {f"{name}_{suffix}" for suffix in ("sum", "count", "bucket")}


def thresholds() -> dict[str, str]:
    """Defaults of the thresholds and objectives, from their variables."""
    variables = (TERRAFORM / "variables-watching.tf").read_text()
    return dict(re.findall(r"(\w+)\s+= optional\(number, ([\d.]+)\)", variables))


def read(file: str, names: Mapping[str, str]) -> Any:
    """A file of `terraform/watching/` with its names filled in."""
    text = (TERRAFORM / "watching" / file).read_text()
    return msgspec.yaml.decode(string.Template(text).substitute(names).encode())


def keys(item: Mapping[str, Any]) -> Sequence[str]:
    """What an item with `each` is repeated for."""
    return KEYS[item["each"]] if "each" in item else [""]


def metrics() -> dict[str, Metric]:
    """All log-based metrics by name."""
    measured = read("metrics.yaml", NAMES)
    found = [
        Metric(
            f"{name}/{key}".rstrip("/"),
            " AND ".join(
                filter(None, [measured["sources"][metric["source"]], metric.get("where", "").replace(EACH, key)])
            ),
            metric["value"].replace(EACH, key) if "value" in metric else None,
            measured["buckets"][metric["buckets"]] if "buckets" in metric else None,
        )
        for name, metric in measured["metrics"].items()
        for key in keys(metric)
    ]
    return {metric.name: metric for metric in found}


def watched() -> dict[str, str]:
    """Everything that alerts and dashboard may name."""
    selectors = {**NAMES, **read("selectors.yaml", NAMES)}
    queries = {
        name: " + ".join(asked["query"].replace(EACH, key) for key in keys(asked))
        for name, asked in read("queries.yaml", selectors).items()
    }
    given = thresholds()
    failing_share = float(given["fast_burn_rate"]) * (1 - float(given["availability"]))
    return {**selectors, **queries, **given, "failing_share": f"{failing_share:.6f}"}


def alerts() -> dict[str, dict[str, Any]]:
    """All alerts by key."""
    found: dict[str, dict[str, Any]] = read("alerts.yaml", watched())
    return found


def tiles() -> list[dict[str, Any]]:
    """All tiles of the dashboard."""
    return [tile for row in read("dashboard.yaml", watched()) for tile in row["tiles"]]


def queries() -> dict[str, str]:
    """Every PromQL query by whose it is."""
    found = {f"alert {key}": alert["condition"] for key, alert in alerts().items() if "condition" in alert}
    for tile in tiles():
        if "query" in tile:
            found[f"tile {tile['title']}"] = tile["query"]
        for line in tile.get("lines", ()):
            for key in keys(line):
                found[f"tile {tile['title']}: {line['name'].replace(EACH, key)}"] = line["query"].replace(EACH, key)
    return found
