"""Logs as Cloud Logging reads them: one JSON object a line on standard output."""

import logging
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import msgspec
import urllib3
from google.auth.exceptions import GoogleAuthError

from functions.ingest.http_client import ApiError
from functions.settings import Settings

_TRACE_HEADER = "x-cloud-trace-context"
_REASON = re.compile(r"[A-Za-z]\w{0,50}")


@runtime_checkable
class _CallError(Protocol):
    """`google.api_core.exceptions.GoogleAPICallError`, which `ingest` does not import."""

    code: int | None
    errors: Sequence[object]


@runtime_checkable
class _RetryError(Protocol):
    """`google.api_core.exceptions.RetryError`."""

    cause: BaseException | None


def safe_message(error: BaseException) -> str:
    """Return the part of an exception's message that quotes no payload.

    BigQuery and Cloud Storage quote payloads in the messages of rejected requests: of these it is the code and the
    reasons. It is the whole message of a connection error, and type and place of any other exception.
    """
    name = type(error).__name__
    match error:
        case ApiError():
            return str(error)
        case _RetryError():
            return f"{name}: {safe_message(error.cause)}" if error.cause else name
        case _CallError():
            reasons = [str(detail.get("reason", "")) for detail in error.errors if isinstance(detail, Mapping)]
            safe = dict.fromkeys(reason for reason in reasons if _REASON.fullmatch(reason))
            return f"{name}: {' '.join([str(int(error.code or 0)), *safe])}"
        case urllib3.exceptions.HTTPError() | GoogleAuthError() | OSError():
            return f"{name}: {error}"
        case _:
            frames = traceback.extract_tb(error.__traceback__)
            return f"{name}, {frames[-1].filename}:{frames[-1].lineno}" if frames else name


class ExecutionContext(Protocol):
    """The context of a request in functions-framework: `functions_framework.execution_id.ExecutionContext`."""

    execution_id: str | None


class JsonFormatter(logging.Formatter):
    """Formats a record by https://cloud.google.com/logging/docs/structured-logging.

    `extra={"fields": {...}}` becomes the entry's own fields; `extra={"trace": ...}` ties it to its request.

    Args:
        labels: Written to every entry.
        execution: Returns the context of the request that is being answered, whose id becomes a label.
    """

    def __init__(
        self, labels: Mapping[str, str], execution: Callable[[], ExecutionContext | None] = lambda: None
    ) -> None:
        super().__init__()
        self._labels = dict(labels)
        self._execution = execution

    def formatException(  # noqa: N802 - logging's own name
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        """Return where an exception was raised, and the part of its message that quotes no payload."""
        _, error, at = ei
        return "".join(traceback.format_tb(at)) + (safe_message(error) if error else "")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}\n{self.formatException(record.exc_info)}"
        entry: dict[str, Any] = {
            "severity": record.levelname,
            "message": message,
            "time": datetime.fromtimestamp(record.created, UTC),
            "logger": record.name,
            "logging.googleapis.com/labels": self._labels,
        }
        if (execution := self._execution()) and execution.execution_id:
            entry["logging.googleapis.com/labels"] = {**self._labels, "execution_id": execution.execution_id}
        if trace := getattr(record, "trace", None):
            entry["logging.googleapis.com/trace"] = trace
        entry.update(getattr(record, "fields", {}))
        return msgspec.json.encode(entry, enc_hook=str).decode()


class Logs:
    """The logs of this process, libraries and framework included: JSON on standard output.

    functions-framework reconfigures logging after it has loaded `main.py`, where the platform sets
    `LOG_EXECUTION_ID=true`: it replaces the handler and disables all loggers. So each function calls `restore` first.

    Args:
        settings: Labels and level.
        execution: Returns the context of the request that is being answered.
    """

    def __init__(self, settings: Settings, execution: Callable[[], ExecutionContext | None] = lambda: None) -> None:
        # While a request is answered, the framework puts a stream of its own in the place of `sys.stdout`.
        self._handler = logging.StreamHandler(sys.__stdout__)
        labels = {"environment": settings.environment, "code_version": settings.code_version}
        self._handler.setFormatter(JsonFormatter(labels, execution))
        self._level = settings.log_level
        self.restore()

    def restore(self) -> None:
        """Configure logging, unless it is configured already."""
        if logging.root.handlers == [self._handler]:
            return
        logging.basicConfig(level=logging.WARNING, handlers=[self._handler], force=True)
        for logger in logging.root.manager.loggerDict.values():
            if isinstance(logger, logging.Logger):
                logger.disabled = False
        logging.getLogger("functions").setLevel(self._level)


def trace(headers: Mapping[str, str], project: str) -> str | None:
    """Return the trace of a request, as Cloud Logging names it; None outside Google Cloud.

    Args:
        headers: The request's headers.
        project: The project of the function.
    """
    context = headers.get(_TRACE_HEADER)
    return f"projects/{project}/traces/{context.partition('/')[0]}" if context else None
