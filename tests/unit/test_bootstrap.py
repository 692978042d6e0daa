"""The bootstrap where BigQuery is away, slow, or changed by somebody else at the same time."""

import time
from typing import Any

import pytest
from google.cloud.bigquery import DEFAULT_RETRY

from functions import bootstrap
from functions.bootstrap import Bootstrap, Change
from functions.clients import bigquery_client
from functions.retry import within
from tests.unit.cloud import Answer, Cloud, error
from tests.unit.conftest import settings

NAMES = ["dataset", "dead_letters", "inventory", "orders", "user_activity"]


@pytest.fixture
def made(cloud: Cloud) -> Bootstrap:
    del cloud
    chosen = settings()
    return Bootstrap(bigquery_client(chosen), chosen)


def test_the_dataset_is_made_first_and_all_parameters_are_filled_in(made: Bootstrap) -> None:
    statements = dict(made.statements())
    assert list(statements) == NAMES
    assert all("${" not in ddl for ddl in statements.values())
    assert "`project.dev_events_dataset.orders`" in statements["orders"]
    assert "partition_expiration_days = 90" in statements["orders"]


def test_an_object_that_somebody_else_has_just_made_is_unchanged(made: Bootstrap, cloud: Cloud) -> None:
    def already_exists(job: dict[str, Any]) -> Answer:
        reason = {"reason": "duplicate", "message": "Already Exists: Table"}
        return 200, {"jobReference": job["jobReference"], "status": {"state": "DONE", "errorResult": reason}}

    cloud.on_job = already_exists
    assert {step.change for step in made.run()} == {Change.UNCHANGED}


@pytest.mark.parametrize("status", [403, 500])
def test_what_bigquery_answers_is_told_for_each_object(
    made: Bootstrap, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(bootstrap, "_ATTEMPTS", within(0.3, DEFAULT_RETRY))
    cloud.on_job = lambda _: error(status, "accessDenied" if status == 403 else "internalError")
    for steps in (made.run(), made.plan()):
        assert [step.name for step in steps] == NAMES
        assert {step.change for step in steps} == {Change.ERROR}
        assert all(step.error for step in steps)


def test_where_nothing_listens_each_object_is_an_error_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setattr(bootstrap, "_ATTEMPTS", within(0.5, DEFAULT_RETRY))
    chosen = settings()
    absent = Bootstrap(bigquery_client(chosen), chosen)
    started = time.monotonic()
    for steps in (absent.run(), absent.plan()):
        assert {step.change for step in steps} == {Change.ERROR}
    assert time.monotonic() - started < 2 * len(NAMES) * 0.5 + 3
