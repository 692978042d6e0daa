"""An apply that has deployed the bootstrap runs it, waits for new permissions, and fails as it fails."""

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from fake_google.http_server import Connection, Request, response, serving

SCRIPT = pathlib.Path(__file__).parents[2] / "terraform" / "run_bootstrap.sh"

GCLOUD = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/asked"
[ "$1 $2" != "$GCLOUD_FAILS" ] || { echo "ERROR: you may not" >&2; exit 1; }
case "$1 $2" in
  "functions describe") printf '%s\t%s\tsluice-dev-bootstrap-00002-abc\n' "$URI" "$INGRESS" ;;
  "auth print-identity-token") echo a-token ;;
  "scheduler jobs") echo 1 >> "$here/runs" ;;
  "logging read")
    case "$*" in
      *jsonPayload*) printf 'refused\tevents.orders\tthe column a would be lost\n' ;;
      *) tail -n 1 "$here/requests" ; [ ! -f "$here/runs" ] || cat "$here/next" >> "$here/requests" ;;
    esac ;;
esac
"""
"""Hands out a token; after the job has run, the log of requests has another line at the second look."""


@contextlib.contextmanager
def answering(*statuses: int) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A function that answers with each status in turn, the last one for ever; and what it was asked."""
    remaining = list(statuses)
    asked: list[tuple[str, str | None]] = []

    def answer(request: Request, connection: Connection) -> None:
        authorization = request.headers.get(b"authorization")
        asked.append((request.path.decode(), None if authorization is None else authorization.decode()))
        status = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        connection.answer(response(f'{{"objects": [], "status": {status}}}'.encode(), status))

    with serving(answer) as url:
        yield url, asked


@pytest.fixture
def tools(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with a gcloud that hands out a token."""
    (tmp_path / "gcloud").write_text(GCLOUD)
    (tmp_path / "gcloud").chmod(0o755)
    return tmp_path


def run(uri: str, path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    function = {
        "PROJECT": "p",
        "REGION": "us-central1",
        "FUNCTION": "sluice-dev-bootstrap",
        "JOB": "sluice-dev-bootstrap",
    }
    limits = {"TRIES": "3", "PAUSE": "0", "WAITS": "3"}
    stand_in = {"URI": uri, "INGRESS": "ALLOW_ALL"}
    variables = {"PATH": path, "ACCOUNT": "caller@a", **function, **limits, **stand_in, **environment}
    return subprocess.run(["/bin/sh", str(SCRIPT)], env=variables, capture_output=True, text=True, check=False)


def test_the_bootstrap_is_run_as_the_caller_s_account(tools: pathlib.Path) -> None:
    with answering(200) as (uri, asked):
        done = run(uri, f"{tools}:{os.environ['PATH']}")
    assert (done.returncode, asked) == (0, [("/", "Bearer a-token")]), done.stderr
    assert '"objects"' in done.stdout
    command = (tools / "asked").read_text()
    assert "--impersonate-service-account=caller@a" in command
    assert f"--audiences={uri}" in command
    assert "a-token" not in done.stdout + done.stderr


def test_a_permission_that_is_on_its_way_is_waited_for(tools: pathlib.Path) -> None:
    with answering(403, 200) as (uri, asked):
        done = run(uri, f"{tools}:{os.environ['PATH']}")
    assert (done.returncode, len(asked)) == (0, 2), done.stderr
    assert "responded with 403 (attempt 1 of 3)" in done.stderr


def test_rejected_change_ends_the_apply_with_the_report(tools: pathlib.Path) -> None:
    with answering(409) as (uri, asked):
        done = run(uri, f"{tools}:{os.environ['PATH']}")
    assert (done.returncode, len(asked)) == (1, 1)
    assert "nothing was changed" in done.stderr
    assert '"status": 409' in done.stderr


@pytest.mark.parametrize("fails", ["", "auth print-identity-token", "functions describe"])
def test_permanent_failure_ends_the_apply_with_the_last_response(tools: pathlib.Path, fails: str) -> None:
    with answering(500) as (uri, asked):
        done = run(uri, f"{tools}:{os.environ['PATH']}", GCLOUD_FAILS=fails)
    assert (done.returncode, len(asked)) == (1, 0 if fails else 3)
    assert "see the log of the function sluice-dev-bootstrap" in done.stderr


@pytest.mark.parametrize("ingress", ["ALLOW_INTERNAL_ONLY", "ALLOW_INTERNAL_AND_GCLB"])
def test_unreachable_function_is_called_by_the_scheduler(tools: pathlib.Path, ingress: str) -> None:
    (tools / "requests").write_text("of-last-night\t500\n")
    (tools / "next").write_text("of-now\t200\n")
    with answering(200) as (uri, asked):
        done = run(uri, f"{tools}:{os.environ['PATH']}", INGRESS=ingress)
    assert (done.returncode, asked) == (0, []), done.stderr
    commands = (tools / "asked").read_text()
    assert commands.count("scheduler jobs run sluice-dev-bootstrap --project=p --location=us-central1") == 1
    assert 'resource.labels.revision_name="sluice-dev-bootstrap-00002-abc"' in commands, (
        "no run of the older code counts"
    )
    assert "print-identity-token" not in commands


def test_rejection_via_the_scheduler_prints_the_log_of_the_function(tools: pathlib.Path) -> None:
    (tools / "requests").write_text("")
    (tools / "next").write_text("of-now\t409\n")
    done = run("https://unused", f"{tools}:{os.environ['PATH']}", INGRESS="ALLOW_INTERNAL_ONLY")
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert "the column a would be lost" in done.stderr
    assert (tools / "runs").read_text() == "1\n", "it is not run again"


@pytest.mark.parametrize("fails", ["", "scheduler jobs", "logging read"])
def test_unobserved_run_is_a_failure(tools: pathlib.Path, fails: str) -> None:
    (tools / "requests").write_text("of-last-night\t200\n")
    (tools / "next").write_text("")
    environment = {"INGRESS": "ALLOW_INTERNAL_ONLY", "GCLOUD_FAILS": fails}
    done = run("https://unused", f"{tools}:{os.environ['PATH']}", **environment)
    assert done.returncode == 1
    assert "responded with 000 (attempt 3 of 3)" in done.stderr


def test_without_gcloud_it_says_so(tmp_path: pathlib.Path) -> None:
    done = run("http://127.0.0.1:1", str(tmp_path))
    assert (done.returncode, "there is no gcloud" in done.stderr) == (1, True)
