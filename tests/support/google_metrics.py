"""Google's own metrics that alerts, dashboard and objectives may name, each with where it is documented.

The lists of all metrics are at https://cloud.google.com/monitoring/api/metrics_gcp.
"""

import dataclasses
import re

_A_TO_B = "https://cloud.google.com/monitoring/api/metrics_gcp_a_b"
_D_TO_H = "https://cloud.google.com/monitoring/api/metrics_gcp_d_h"
_P_TO_Z = "https://cloud.google.com/monitoring/api/metrics_gcp_p_z"


@dataclasses.dataclass(frozen=True, slots=True)
class GoogleMetric:
    """A metric of Google Cloud.

    Attributes:
        type: Its name.
        resource: What writes it, as our selectors must say.
        labels: Its own labels that our queries use.
        distribution: Whether its values are distributions.
        source: Page of the documentation.
    """

    type: str
    resource: str
    source: str
    labels: frozenset[str] = frozenset()
    distribution: bool = False

    @property
    def promql(self) -> set[str]:
        """Its names in PromQL (https://cloud.google.com/monitoring/promql/promql-mapping)."""
        domain, _, path = self.type.partition("/")
        name = f"{re.sub(r'\W', '_', domain)}:{re.sub(r'\W', '_', path)}"
        return {f"{name}_{suffix}" for suffix in ("sum", "count", "bucket")} if self.distribution else {name}


def _pubsub(path: str, resource: str) -> GoogleMetric:
    return GoogleMetric(f"pubsub.googleapis.com/{path}", resource, f"{_P_TO_Z}#gcp-pubsub")


def _dataflow(path: str) -> GoogleMetric:
    return GoogleMetric(f"dataflow.googleapis.com/{path}", "dataflow_job", f"{_D_TO_H}#gcp-dataflow")


def _run(path: str, *labels: str, distribution: bool = False) -> GoogleMetric:
    source = f"{_P_TO_Z}#gcp-run"
    return GoogleMetric(
        f"run.googleapis.com/{path}", "cloud_run_revision", source, frozenset(labels), distribution=distribution
    )


def _bigquery(path: str, resource: str, *labels: str) -> GoogleMetric:
    return GoogleMetric(f"bigquery.googleapis.com/{path}", resource, f"{_A_TO_B}#gcp-bigquery", frozenset(labels))


GOOGLE_METRICS = [
    _dataflow("job/aggregated_worker_utilization"),
    _dataflow("job/current_num_vcpus"),
    _dataflow("job/data_watermark_age"),
    _dataflow("job/system_lag"),
    _pubsub("subscription/ack_message_count", "pubsub_subscription"),
    _pubsub("subscription/num_undelivered_messages", "pubsub_subscription"),
    _pubsub("subscription/oldest_unacked_message_age", "pubsub_subscription"),
    _pubsub("subscription/push_request_count", "pubsub_subscription"),
    _pubsub("topic/send_message_operation_count", "pubsub_topic"),
    _run("request_count", "response_code", "response_code_class"),
    _run("container/instance_count", "state"),
    _run("container/max_request_concurrencies", distribution=True),
    _run("container/cpu/utilizations", distribution=True),
    _run("container/memory/utilizations", distribution=True),
    _run("container/startup_latencies", distribution=True),
    # Of the project, not of a dataset: its resource is `global`, unlike that of statement_scanned_bytes_billed.
    _bigquery("query/scanned_bytes_billed", "global"),
    _bigquery("storage/stored_bytes", "bigquery_dataset", "table"),
    GoogleMetric(
        "bigquerydatatransfer.googleapis.com/transfer_config/completed_runs",
        "bigquery_dts_config",
        "https://cloud.google.com/bigquery/docs/dts-monitor",
        frozenset({"completion_state", "config_id"}),
    ),
]
