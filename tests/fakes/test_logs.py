"""The functions' log lines, read from a stand-in for Cloud Logging."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import google.auth
import pytest
import urllib3
from google.auth.credentials import AnonymousCredentials
from google.oauth2.credentials import Credentials

from fake_google.answers import error
from sluice import cloud_logging
from sluice.cloud_logging import EMULATOR, CloudLogs, NotReadable
from tests.support import logging_server
from tests.support.logging_server import LoggingServer

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
URIS = [f"gs://archive/raw/{number}.ndjson.gz" for number in range(3)]


def line(uri: str, *, message: str = "flush", time: datetime = NOW) -> str:
    return json.dumps({"severity": "INFO", "message": message, "time": time.isoformat(), "archive_uri": uri})


@pytest.fixture
def logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoggingServer]:
    with logging_server.running() as server:
        monkeypatch.setenv(EMULATOR, server.url)
        yield server


def test_flushes_are_read_from_all_pages(logging: LoggingServer) -> None:
    before = NOW - timedelta(minutes=1)
    logging.lines = lambda: [line(URIS[0]), line(URIS[1]), line(URIS[2], time=before), line(URIS[2], message="other")]
    assert CloudLogs.connect("project").flushes(URIS, NOW) == {*URIS[:2]}
    assert CloudLogs.connect("project").flushes(URIS[:1], NOW) == {URIS[0]}
    assert logging.requests[0]["resourceNames"] == ["projects/project"]
    logging.lines = list
    assert CloudLogs.connect("project").flushes(URIS, NOW) == set()


def test_flushes_of_functions_and_dataflow_are_read(logging: LoggingServer) -> None:
    logging.lines = lambda: [line(URIS[0])]
    logging.worker_lines = lambda: [
        f'flush {{"archive_uri":"{URIS[1]}","events":3}}',
        f'flush {{"archive_uri":"gs://archive/raw/another","errors":["{URIS[2]}"]}}',
        f"read {URIS[2]}",
    ]
    assert CloudLogs.connect("project").flushes(URIS, NOW) == {*URIS[:2]}


def test_missing_permission_to_read_the_log_is_named(logging: LoggingServer) -> None:
    logging.error = error(403, "forbidden")
    with pytest.raises(NotReadable, match=r"^forbidden \(logging\.logEntries\.list is in roles/logging\.viewer\)$"):
        CloudLogs.connect("project").flushes(URIS, NOW)


def test_where_nothing_answers_the_log_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATOR, "http://127.0.0.1:1")
    monkeypatch.setattr(cloud_logging, "_SECONDS", 0.1)
    with pytest.raises(NotReadable, match="Connection refused"):
        CloudLogs.connect("project").flushes(URIS, NOW)


def test_emulators_have_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")
    with pytest.raises(NotReadable, match="the emulators have no Cloud Logging"):
        CloudLogs.connect("project")


def test_quota_project_defaults_to_that_of_the_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[object] = []

    def authorized(credentials: object, pool: urllib3.PoolManager) -> urllib3.PoolManager:
        used.append(credentials)
        return pool

    monkeypatch.setattr(cloud_logging, "AuthorizedHttp", authorized)
    for credentials in (Credentials("token"), Credentials("token", quota_project_id="own"), AnonymousCredentials()):  # type: ignore[no-untyped-call]
        monkeypatch.setattr(google.auth, "default", lambda *_, default=credentials: (default, None))
        CloudLogs.connect("project")
    assert [getattr(credentials, "quota_project_id", None) for credentials in used] == ["project", "own", None]
