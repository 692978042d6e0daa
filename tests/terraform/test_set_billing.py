"""The billing of instances is set on the function's Cloud Run service, and only where it differs."""

import os
import pathlib
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "terraform" / "set_billing.sh"

GCLOUD = """#!/bin/sh
case "$3" in
  describe) echo "$THROTTLING" ;;
  update) echo "$*" >> "$(dirname "$0")/updates" ;;
esac
"""


@pytest.mark.parametrize(
    ("throttling", "billing", "flags"),
    [
        ("", "request", []),
        ("true", "request", []),
        ("", "instance", ["--no-cpu-throttling"]),
        ("true", "instance", ["--no-cpu-throttling"]),
        ("false", "instance", []),
        ("false", "request", ["--cpu-throttling"]),
    ],
)
def test_the_billing_is_changed_only_where_it_differs(
    tmp_path: pathlib.Path, throttling: str, billing: str, flags: list[str]
) -> None:
    (tmp_path / "gcloud").write_text(GCLOUD)
    (tmp_path / "gcloud").chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "THROTTLING": throttling, "BILLING": billing}
    variables |= {"SERVICE": "ingest", "REGION": "r", "PROJECT": "p"}
    done = subprocess.run(["/bin/sh", str(SCRIPT)], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    updates = (tmp_path / "updates").read_text().splitlines() if (tmp_path / "updates").exists() else []
    assert updates == [f"run services update ingest --region=r --project=p --quiet {flag}" for flag in flags]
