"""What an apply does after it has deployed the bootstrap: runs it, waits for new permissions, fails as it fails."""

import contextlib
import os
import pathlib
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "terraform" / "run_bootstrap.sh"

GCLOUD = """#!/bin/sh
echo "$*" >> "$(dirname "$0")/asked"
[ -z "$GCLOUD_FAILS" ] || { echo "ERROR: you may not" >&2; exit 1; }
echo a-token
"""


@contextlib.contextmanager
def answering(*statuses: int) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A function that answers with each status in turn, the last one for ever; and what it was asked."""
    left = list(statuses)
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, self.headers["authorization"]))
            status = left.pop(0) if len(left) > 1 else left[0]
            body = f'{{"objects": [], "status": {status}}}'.encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.fixture
def tools(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with a gcloud that hands out a token."""
    (tmp_path / "gcloud").write_text(GCLOUD)
    (tmp_path / "gcloud").chmod(0o755)
    return tmp_path


def run(uri: str, path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": path, "URI": uri, "ACCOUNT": "caller@a", "TRIES": "3", "PAUSE": "0", **environment}
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
    assert "answered 403 (try 1 of 3)" in done.stderr


def test_a_refused_change_ends_the_apply_at_once_with_the_report(tools: pathlib.Path) -> None:
    with answering(409) as (uri, asked):
        done = run(uri, f"{tools}:{os.environ['PATH']}")
    assert (done.returncode, len(asked)) == (1, 1)
    assert "nothing was touched" in done.stderr
    assert '"status": 409' in done.stderr


@pytest.mark.parametrize("environment", [{}, {"GCLOUD_FAILS": "1"}])
def test_what_keeps_failing_ends_the_apply_with_the_last_answer(
    tools: pathlib.Path, environment: dict[str, str]
) -> None:
    with answering(500) as (uri, asked):
        done = run(uri, f"{tools}:{os.environ['PATH']}", **environment)
    assert (done.returncode, len(asked)) == (1, 0 if environment else 3)
    assert f"see the log of the function at {uri}" in done.stderr


def test_without_gcloud_it_says_so(tmp_path: pathlib.Path) -> None:
    done = run("http://127.0.0.1:1", str(tmp_path))
    assert (done.returncode, "there is no gcloud" in done.stderr) == (1, True)
