"""The writer's own HTTP: credentials, attempts, and the report of a rejection."""

import contextlib
import copy
import gc
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import urllib3
from google.auth.transport.urllib3 import Request

from fake_google import http_server
from fake_google.answers import error
from fake_google.http_server import Connection, response, serving
from fake_google.scripted import Cloud
from functions.ingest.http_client import Api, ApiError, _Connections, bigquery_api, project, storage_api
from functions.settings import InvalidSettings, Settings
from tests.support import metadata_server
from tests.support.settings import settings
from tests.support.waiting import PATIENCE

ROOT = pathlib.Path(__file__).parents[2]
INSERT_ALL = "/bigquery/v2/projects/project/datasets/live/tables/orders/insertAll"
BODY = b'{"rows": []}'


class Guarded:
    """A server that takes some tokens, and remembers what it was shown."""

    def __init__(self, *valid: str) -> None:
        self.valid = set(valid)
        self.shown: list[str] = []
        self.url = ""


def test_a_request_says_its_type_and_who_sends_it() -> None:
    seen: list[dict[bytes, bytes]] = []

    def answer(request: http_server.Request, connection: Connection) -> None:
        seen.append(dict(request.headers))
        connection.answer(response(b"{}"))

    with serving(answer) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGQUERY_EMULATOR_HOST", url)
        bigquery_api().post(INSERT_ALL, "application/json", BODY, PATIENCE)
    assert [(headers[b"content-type"], headers[b"user-agent"]) for headers in seen] == [
        (b"application/json", b"sluice")
    ]


@contextlib.contextmanager
def guarded(*valid: str) -> Iterator[Guarded]:
    guard = Guarded(*valid)

    def answer(request: http_server.Request, connection: Connection) -> None:
        guard.shown.append(request.headers[b"authorization"].decode().removeprefix("Bearer "))
        connection.answer(response(b"{}", 200 if guard.shown[-1] in guard.valid else 401))

    with serving(answer) as guard.url:
        yield guard


def in_google_cloud(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where credentials come from the metadata server."""
    with metadata_server.running() as variables:
        own = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        command = [sys.executable, "-c", script, *arguments]
        environment = {
            **own,
            **variables,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
            "CLOUDSDK_CONFIG": "/nowhere",
        }
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)


POST_TWICE = """
import sys
from functions.ingest import http_client
api = http_client.Api(sys.argv[1], http_client._authorized())
for _ in range(2):
    try:
        print(api.post("/x", "application/json", b"{}", 10.0))
    except http_client.ApiError as error:
        print(error)
print(http_client.bigquery_api()._root, http_client.storage_api()._root)
"""


@pytest.mark.parametrize(
    ("valid", "shown", "warnings"),
    [
        (["token-1"], ["token-1", "token-1"], ["b'{}'", "b'{}'"]),
        (["token-2"], ["token-1", "token-2", "token-2"], ["b'{}'", "b'{}'"]),
        ([], [f"token-{number}" for number in (1, 2, 3, 3, 4, 5)], ["Unauthorized: 401"] * 2),
    ],
    ids=["valid", "expired", "not wanted"],
)
def test_token_is_cached_and_refreshed_after_a_rejection(
    valid: list[str], shown: list[str], warnings: list[str]
) -> None:
    with guarded(*valid) as guard:
        done = in_google_cloud(POST_TWICE, guard.url)
    assert done.returncode == 0, done.stderr
    assert guard.shown == shown
    assert done.stdout.splitlines() == [*warnings, "https://bigquery.googleapis.com https://storage.googleapis.com"]


def test_google_auth_can_copy_its_request() -> None:
    request = Request(_Connections())  # type: ignore[no-untyped-call]
    copied = copy.deepcopy(request)
    assert copied.http is not request.http
    assert copied.http.connection_pool_kw == request.http.connection_pool_kw


PROJECT = """
from functions.ingest.http_client import project
from functions.settings import Settings
print(project(Settings(archive_bucket="archive")))
"""


def test_project_of_the_settings_precedes_that_of_the_credentials() -> None:
    assert project(settings()) == "project"
    assert in_google_cloud(PROJECT).stdout.strip() == metadata_server.PROJECT


def test_missing_project_is_reported_by_its_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    for name, value in {"NO_GCE_CHECK": "true", "CLOUDSDK_CONFIG": str(tmp_path), "PATH": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with pytest.raises(InvalidSettings, match="GOOGLE_CLOUD_PROJECT"):
        project(Settings(archive_bucket="archive"))


@pytest.mark.parametrize(
    ("answer", "message", "reasons"),
    [
        ((404, {"error": {"message": "secret", "errors": [{"reason": "notFound"}]}}), "NotFound: 404 notFound", 1),
        ((400, {"error": {"message": "secret", "errors": [{"reason": "a secret"}]}}), "BadRequest: 400", 0),
        ((403, {"error": {"message": "secret"}}), "Forbidden: 403", 0),
        ((498, {"error": "secret"}), "ApiError: 498", 0),
    ],
    ids=str,
)
def test_rejection_has_status_and_reasons_and_quotes_nothing(
    cloud: Cloud, answer: tuple[int, dict[str, object]], message: str, reasons: int
) -> None:
    cloud.on_insert = lambda *_: answer
    with pytest.raises(ApiError) as rejected:
        bigquery_api().post(INSERT_ALL, "application/json", BODY, 5.0)
    assert str(rejected.value) == message
    assert len(rejected.value.reasons) == reasons
    assert "secret" in json.dumps(rejected.value.unsafe_message)


@pytest.mark.parametrize("answer", [error(503, "backendError"), (200, {"reset": True})], ids=["503", "reset"])
def test_retries_end_and_leave_nothing_of_the_request_behind(
    cloud: Cloud, answer: tuple[int, dict[str, object]]
) -> None:
    cloud.on_insert = lambda *_: answer
    api = bigquery_api()

    def post() -> None:
        with pytest.raises((ApiError, urllib3.exceptions.HTTPError)):
            api.post(INSERT_ALL, "application/json", BODY, 1.5)
        assert len(cloud.calls) > 1

    post()
    gc.collect()
    gc.disable()
    try:
        post()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kept = [item for item in gc.garbage if isinstance(item, tuple | list | dict) and BODY in _values(item)]
        frames = [item for item in gc.garbage if type(item).__name__ == "frame" and BODY in item.f_locals.values()]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert kept == []
    assert frames == []


def test_connection_error_is_not_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    api = Api(f"http://127.0.0.1:{port}", _Connections().urlopen)
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        api.post(INSERT_ALL, "application/json", BODY, 0.3)
    assert api.service.answer_time.expected == 0


def test_timeout_costs_five_retries_and_doubles_the_next_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = Api(f"http://127.0.0.1:{silent.getsockname()[1]}", _Connections().urlopen)
        for _ in range(48):
            api.service.retries.take(time.monotonic())
        with pytest.raises(urllib3.exceptions.ReadTimeoutError):
            api.post(INSERT_ALL, "application/json", BODY, 0.9)
    assert api.service.answer_time.expected == pytest.approx(0.6)


def test_hosts_are_googles_or_those_of_another_universe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("functions.ingest.http_client._authorized", lambda: None)

    def hosts() -> list[str]:
        return [api()._root for api in (bigquery_api, storage_api)]

    assert hosts() == ["https://bigquery.googleapis.com", "https://storage.googleapis.com"]
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "example.com")
    assert hosts() == ["https://bigquery.example.com", "https://storage.example.com"]


def test_page_of_a_front_end_may_have_any_bytes() -> None:
    assert ApiError(502, b"bad gateway \xff").unsafe_message == "bad gateway \ufffd"


def _values(container: object) -> list[object]:
    return list(container.values()) if isinstance(container, dict) else list(container)  # type: ignore[call-overload]
