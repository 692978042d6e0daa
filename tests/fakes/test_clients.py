"""The Google Cloud clients of all but `ingest`."""

import threading

import pytest

from fake_google.answers import error
from fake_google.scripted import Cloud
from functions.clients import storage_client
from tests.support.settings import settings


def test_the_storage_client_sends_no_request_of_its_own(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", raising=False)
    paths: list[str] = []

    def answer(path: str) -> tuple[int, dict[str, object]]:
        paths.append(path)
        return error(404, "notFound")

    cloud.on_get = answer
    before = set(threading.enumerate())
    assert storage_client(settings()).bucket("archive").get_blob("x") is None
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert [path.partition("?")[0] for path in paths] == ["/storage/v1/b/archive/o/x"]
