"""Logs as Cloud Logging reads them: one JSON object a line on standard output."""

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from functions.settings import Settings

_TRACE_HEADER = "x-cloud-trace-context"


class JsonFormatter(logging.Formatter):
    """Formats a record by https://cloud.google.com/logging/docs/structured-logging.

    `extra={"fields": {...}}` becomes the entry's own fields; `extra={"trace": ...}` ties it to its request.

    Args:
        labels: Written to every entry.
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        super().__init__()
        self._labels = dict(labels)

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
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
        if trace := getattr(record, "trace", None):
            entry["logging.googleapis.com/trace"] = trace
        entry.update(getattr(record, "fields", {}))
        return msgspec.json.encode(entry, enc_hook=str).decode()


def configure(settings: Settings) -> None:
    """Send the logs of this process, libraries and framework included, to standard output as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    labels = {"environment": settings.environment, "code_version": settings.code_version}
    handler.setFormatter(JsonFormatter(labels))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("functions").setLevel(settings.log_level)


def trace(headers: Mapping[str, str], project: str) -> str | None:
    """The trace of a request, as Cloud Logging names it; None outside Google Cloud.

    Args:
        headers: The request's headers.
        project: The project of the function.
    """
    context = headers.get(_TRACE_HEADER)
    return f"projects/{project}/traces/{context.partition('/')[0]}" if context else None
