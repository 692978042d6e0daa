"""Runs the pipeline as `dataflow.main` does, and prints a JSON line for each line that a worker logs, as it sends it.

With `--direct_running_mode=multi_processing` the workers are processes of Beam's own, whose lines go the same
way as on Dataflow. It needs Apache Beam.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.local_job_service import BeamFnLoggingServicer

from dataflow.main import main


def print_lines(_: BeamFnLoggingServicer, batches: Iterable[Any], context: Any = None) -> Iterator[Any]:
    """Take what workers log, in the place of the runner's own service."""
    del context
    yield beam_fn_api_pb2.LogControl()
    for batch in batches:
        for entry in batch.log_entries:
            severity = beam_fn_api_pb2.LogEntry.Severity.Enum.Name(entry.severity)
            line = {"message": entry.message, "severity": severity, "location": entry.log_location}
            sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    BeamFnLoggingServicer.Logging = print_lines
    try:
        main()
    except SystemExit as ended:  # A bundle failed, which this runner does not retry.
        sys.stdout.write(json.dumps({"failed": ended.code}) + "\n")
