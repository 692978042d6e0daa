"""Answers of Google's APIs."""

from typing import Any

type Answer = tuple[int, dict[str, Any]]
"""Status and body."""

BUCKET: Answer = (200, {"kind": "storage#bucket", "name": "archive", "projectNumber": "1", "location": "US-CENTRAL1"})
"""Answer to the client's request for the bucket's metadata: once, or with each upload while it gets 404."""
INSERTED: Answer = (200, {"kind": "bigquery#tableDataInsertAllResponse"})


def uploaded(name: str = "object") -> Answer:
    """Return the resource of a new object."""
    return 200, {"kind": "storage#object", "name": name, "bucket": "archive", "generation": "1"}


def error(status: int, reason: str, message: str | None = None) -> Answer:
    """Return an error as Google's APIs report it; its message is the reason unless there is one."""
    text = message or reason
    return status, {"error": {"code": status, "message": text, "errors": [{"reason": reason, "message": text}]}}


def insert_errors(*errors: tuple[int, str]) -> Answer:
    """Return the answer of insertAll with errors of rows: position and reason."""
    rows = [
        {"index": index, "errors": [{"reason": reason, "location": "total_amount", "message": f"row {index}"}]}
        for index, reason in errors
    ]
    return 200, {"insertErrors": rows}
