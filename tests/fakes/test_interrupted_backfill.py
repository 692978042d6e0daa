"""An interrupted backfill reports present events, load jobs that still run, and success where all is done."""

import json
import os
import pathlib
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.schema.ddl import declared_table
from functions.schema.definitions import Kind, definitions
from sluice.commands.exit_codes import ExitCode
from tests.support import samples
from tests.support.fake_google import Answer, Cloud, error
from tests.support.settings import settings
from tests.support.waiting import PATIENCE

CHOSEN = settings(dataset="live", historical_dataset="old")
LIVE, OLD = "live.orders", "old.orders"


class Warehouse:
    """BigQuery with jobs that take as long as a test wants; it remembers the event ids that they bring.

    Attributes:
        slow: The tables whose jobs run on after the signal.
        jobs: The table of each job.
        loaded: The event ids of each table.
        signalled: Whether the signal was sent.
    """

    def __init__(self, cloud: Cloud, *slow: str) -> None:
        self.slow = slow
        self.jobs: dict[str, str] = {}
        self.loaded: dict[str, list[str]] = {LIVE: [], OLD: []}
        self.signalled = False
        self.process: subprocess.Popen[str] | None = None
        self._schemas = {
            definition.name: declared_table(definition.ddl)
            for definition in definitions("project", CHOSEN)
            if definition.kind is Kind.TABLE
        }
        cloud.on_get, cloud.on_job, cloud.on_data = self.get, self.job, self.data

    def get(self, path: str) -> Answer:
        parts = path.partition("?")[0].split("/")
        if "tables" in parts:
            dataset, table = parts[-3], parts[-1]
            schema = self._schemas[f"{dataset}.{table}"].to_api_repr()["schema"]
            reference = {"projectId": "project", "datasetId": dataset, "tableId": table}
            return 200, {"id": f"project:{dataset}.{table}", "tableReference": reference, "schema": schema}
        if parts[-1] not in self.jobs:
            return error(404, "notFound")
        # All jobs have begun; those of other tables are done.
        if not self.signalled and self.process and len(self.jobs) == 2:
            self.signalled = True
            self.process.send_signal(signal.SIGINT)
            return 200, self.resource(parts[-1], "RUNNING")
        return 200, self.resource(parts[-1])

    def job(self, request: dict[str, Any]) -> Answer:
        if "query" in request:
            return self.query(request)
        job_id = request["jobReference"]["jobId"]
        destination = request["configuration"]["load"]["destinationTable"]
        self.jobs[job_id] = f"{destination['datasetId']}.{destination['tableId']}"
        return 200, self.resource(job_id)

    def data(self, rows: list[dict[str, Any]]) -> None:
        """Take the rows of the job that was made last."""
        self.loaded[[*self.jobs.values()][-1]] += [row["ingest"]["event_id"] for row in rows]

    def query(self, request: dict[str, Any]) -> Answer:
        given = {parameter["name"]: parameter["parameterValue"] for parameter in request["queryParameters"]}
        table = LIVE if LIVE in request["query"] else OLD
        asked = {value["value"] for value in given["ids"]["arrayValues"]}
        values = [
            [event_id, given["first"]["value"], "m", None, None] for event_id in self.loaded[table] if event_id in asked
        ]
        names = ("event_id", "kind", "message_id", "content_digest", "schema_version")
        fields = [{"name": name, "type": "STRING"} for name in names]
        rows = [{"f": [{"v": value} for value in row]} for row in values]
        return 200, {"jobComplete": True, "schema": {"fields": fields}, "rows": rows, "totalRows": str(len(rows))}

    def resource(self, job_id: str, state: str | None = None) -> dict[str, Any]:
        table = self.jobs[job_id]
        is_slow = table == OLD and not self.signalled
        return {
            "jobReference": {"projectId": "project", "jobId": job_id, "location": "us-central1"},
            "configuration": {"load": {}},
            "status": {"state": state or ("RUNNING" if table in self.slow or is_slow else "DONE")},
            "statistics": {"load": {"outputRows": "1"}},
        }


def backfill(warehouse: Warehouse, cloud: Cloud, file: pathlib.Path) -> tuple[int, dict[str, Any], str]:
    """Run the command in a process of its own."""
    variables = {
        "ARCHIVE_BUCKET": "archive",
        "GOOGLE_CLOUD_PROJECT": "project",
        "DATASET": "live",
        "HISTORICAL_DATASET": "old",
        "BIGQUERY_EMULATOR_HOST": cloud.url,
        "STORAGE_EMULATOR_HOST": cloud.url,
    }
    warehouse.process = subprocess.Popen(
        [sys.executable, "-m", "sluice.cli", "backfill", str(file), "--json"],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    written, said = warehouse.process.communicate(timeout=PATIENCE)
    return warehouse.process.returncode, json.loads(written), said


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    """An event of the live dataset, and one of the historical one."""
    dates = (datetime.now(UTC) - timedelta(days=days) for days in (0, 200))
    lines = [json.dumps(samples.event("order", order_date=date.isoformat())) for date in dates]
    path = tmp_path / "orders"
    path.write_text("\n".join(lines))
    return path


def test_a_job_that_still_runs_is_named_and_the_next_run_waits_for_it(cloud: Cloud, file: pathlib.Path) -> None:
    warehouse = Warehouse(cloud, OLD)
    code, report, said = backfill(warehouse, cloud, file)
    assert code == ExitCode.INTERRUPTED, said
    assert (report["rows"], report["unfinished"], report["interrupted"]) == ({LIVE: 1}, 0, True)
    [job] = report["running"]
    assert warehouse.jobs[job["job_id"]] == OLD
    assert (job["load"], job["lines"]) == (f"{OLD}, from {file} line 2 to {file} line 2", 1)
    assert f"Still running: load job {job['job_id']}: {job['load']}, 1 lines" in said
    warehouse.slow = ()
    code, report, said = backfill(warehouse, cloud, file)
    assert code == ExitCode.DONE, said
    assert report["rows_present"] == {LIVE: 1, OLD: 1}
    assert len(warehouse.jobs) == 2


def test_where_all_jobs_are_done_nothing_was_interrupted(cloud: Cloud, file: pathlib.Path) -> None:
    code, report, said = backfill(Warehouse(cloud), cloud, file)
    assert code == ExitCode.DONE, said
    assert (report["rows"], report["interrupted"], report["running"]) == ({LIVE: 1, OLD: 1}, False, [])
    assert "nterrupted" not in said
