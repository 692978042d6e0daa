"""Logs as Cloud Logging reads them."""

import contextvars
import io
import json
import logging
import logging.config
import re
import sys
import types
from collections.abc import Callable, Iterator

import pytest
import requests
from google.api_core.exceptions import BadRequest, GoogleAPICallError, RetryError

from functions.log import JsonFormatter, Logs, safe_message, trace
from tests.support.settings import settings


def line(**extra: object) -> dict[str, object]:
    record = logging.getLogger("functions.test").makeRecord(
        "functions.test", logging.WARNING, "test.py", 1, "refused: %s", ("why",), None, extra=extra
    )
    formatted = JsonFormatter({"environment": "dev"}).format(record)
    assert "\n" not in formatted
    entry: dict[str, object] = json.loads(formatted)
    return entry


def test_a_record_has_severity_message_time_and_labels() -> None:
    entry = line()
    assert entry["severity"] == "WARNING"
    assert entry["message"] == "refused: why"
    assert str(entry["time"]).endswith("Z")
    assert entry["logging.googleapis.com/labels"] == {"environment": "dev"}


def test_fields_are_the_entrys_own_and_a_trace_ties_it_to_its_request() -> None:
    entry = line(fields={"rows": {"orders": 3}}, trace=trace({"x-cloud-trace-context": "abc/1;o=1"}, "p"))
    assert entry["rows"] == {"orders": 3}
    assert entry["logging.googleapis.com/trace"] == "projects/p/traces/abc"
    assert trace({}, "p") is None


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("functions")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:], root.level = before[:2]
    own.setLevel(before[2])


@pytest.fixture
def stdout(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "__stdout__", stream)
    return stream


@pytest.mark.usefixtures("logging_as_before")
def test_log_level_filters_and_libraries_log_only_warnings(stdout: io.StringIO) -> None:
    Logs(settings(log_level="ERROR", environment="test", code_version="7"))
    logging.getLogger("functions.ingest.group_commit").info("hidden")
    logging.getLogger("functions.ingest.group_commit").error("shown")
    logging.getLogger("urllib3").info("hidden")
    logging.getLogger("urllib3").warning("shown too")
    entries = [json.loads(entry) for entry in stdout.getvalue().splitlines()]
    assert [entry["message"] for entry in entries] == ["shown", "shown too"]
    assert entries[0]["logging.googleapis.com/labels"] == {"environment": "test", "code_version": "7"}


@pytest.mark.usefixtures("logging_as_before")
def test_logs_that_another_configuration_replaced_are_restored(stdout: io.StringIO) -> None:
    logger = logging.getLogger("functions.test")
    logs = Logs(settings())
    logging.config.dictConfig({"version": 1, "root": {"handlers": []}})
    logger.warning("lost")
    logs.restore()
    logger.warning("shown")
    assert [json.loads(entry)["message"] for entry in stdout.getvalue().splitlines()] == ["shown"]


def test_an_entry_has_the_execution_id_of_its_request_as_a_label() -> None:
    record = logging.makeLogRecord({"msg": "x"})
    context = contextvars.ContextVar[types.SimpleNamespace | None]("context", default=None)
    formatter = JsonFormatter({"a": "b"}, context.get)
    for execution, labels in (
        (types.SimpleNamespace(execution_id="abc"), {"a": "b", "execution_id": "abc"}),
        (None, {"a": "b"}),
    ):
        context.set(execution)
        entry = json.loads(formatter.format(record))
        assert entry["logging.googleapis.com/labels"] == labels


bad_request: Callable[..., GoogleAPICallError] = BadRequest
retry_error: Callable[..., Exception] = RetryError
QUOTING = bad_request("Could not convert value: 'secret'", errors=[{"reason": "invalid", "message": "'secret'"}])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (QUOTING, "BadRequest: 400 invalid"),
        (retry_error("secret", QUOTING), "RetryError: BadRequest: 400 invalid"),
        (retry_error("secret", None), "RetryError"),
        (bad_request("secret"), "BadRequest: 400"),
        (bad_request("secret", errors=[{"reason": "a secret"}, {"message": "secret"}]), "BadRequest: 400"),
        (requests.ConnectionError("refused"), "ConnectionError: refused"),
        (TimeoutError("too late"), "TimeoutError: too late"),
        (ValueError("secret"), "ValueError"),
    ],
)
def test_safe_message_quotes_nothing_of_an_event(error: BaseException, message: str) -> None:
    assert safe_message(error) == message


def test_internal_error_is_logged_with_its_place() -> None:
    try:
        dict[str, str]()["secret"]
    except KeyError as error:
        message = safe_message(error)
    assert re.fullmatch(r"KeyError, .*test_log.py:\d+", message)


def test_exception_is_logged_in_the_same_line() -> None:
    try:
        int("broken")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "failed", (), sys.exc_info())
    line = JsonFormatter({}).format(record)
    assert "\n" not in line
    message = json.loads(line)["message"]
    assert "test_log.py" in message
    assert "ValueError" in message
    assert "invalid literal" not in message
