"""Messages of errors: a sentence that says what is wrong and, for errors of Google Cloud, what to do."""

from __future__ import annotations

import contextvars
import http
from urllib.parse import urlsplit

command = contextvars.ContextVar("command", default="")
"""Name of the command that runs, or of its group."""

_OPERATORS = "operators"

_ROLES = {
    "sql": "readers",
    "erase": "erasers",
    "publish": "publishers",
    "generate": "publishers",
    "bootstrap": "deployers",
}
"""Roles of docs/access.md whose permissions a command needs; those of `_OPERATORS` if it is not here."""

_WITHOUT_PERMISSION = {"accessDenied", "forbidden", "insufficientPermissions"}
"""Reasons of a 403 that a role prevents. Others are quotas and APIs that are not enabled."""

_BOOTSTRAP = "is DATASET right, and has the bootstrap created it (docs/deploy.md)?"

_PUBSUB = "are SLUICE_TOPIC and SLUICE_UNDELIVERABLE right?"

_SUBSCRIPTION = "is SUBSCRIPTION right?"

_PUSHED = 'SUBSCRIPTION is pushed to `ingest` (ingest.mode = "push"), so nobody can pull it'

_REMEDIES = {
    "Not found: Dataset": _BOOTSTRAP,
    "Not found: Table": _BOOTSTRAP,
    "bucket does not exist": "is ARCHIVE_BUCKET right?",
    "Resource not found": _PUBSUB,
    "Topic not found": _PUBSUB,  # Google's emulator
    "Subscription does not exist": _PUBSUB,  # Google's emulator
}
"""Checks to make, by words of a message of BigQuery, Cloud Storage or Pub/Sub about what does not exist."""


def message(error: Exception) -> str:
    """Return the message of an error; of an error of Google Cloud, what it has written and what to do."""
    from google.api_core.exceptions import RetryError
    from google.auth.exceptions import GoogleAuthError, TransportError

    from functions.files.sources import Unreadable
    from sluice.backfill.run import LoadFailed

    match error:
        case RetryError(cause=Exception() as cause) | TransportError(args=[Exception() as cause, *_]):
            return message(cause)
        case Unreadable(__cause__=Exception() as cause) | LoadFailed(__cause__=Exception() as cause) if str(cause):
            return str(error).replace(str(cause), message(cause))
        case GoogleAuthError():
            return _without_credentials(error.args[0] if error.args else error)
    return _rejection(error) or _no_answer(error) or str(error)


def _rejection(error: Exception) -> str | None:
    """Return the message of an API that has answered with an error."""
    import grpc
    from google.api_core.exceptions import GoogleAPICallError

    from functions.ingest.http_client import ApiError

    match error:
        case ApiError():
            denied = not _WITHOUT_PERMISSION.isdisjoint(error.reasons)
            return _with_remedy(str(error.unsafe_message or error), error.status, denied=denied)
        case GoogleAPICallError(errors=[{"message": text, **details}, *_]):
            return _with_remedy(str(text), error.code, denied=details.get("reason") in _WITHOUT_PERMISSION)
        case GoogleAPICallError(errors=[grpc.RpcError(), *_]):  # It has no reasons.
            return _with_remedy(str(error.message), error.code, denied=True)
    return None


def _no_answer(error: Exception) -> str | None:
    """Return a sentence about an API that has not answered. The error itself shows a pool of connections."""
    import requests
    import urllib3

    match error:
        case requests.RequestException(request=requests.PreparedRequest(url=str() as url)):
            return _unanswered(urlsplit(url).netloc, error)
        case urllib3.exceptions.PoolError(pool=urllib3.HTTPConnectionPool() as pool):
            return _unanswered(f"{pool.host}:{pool.port}", error)
    return None


def _unanswered(host: str, error: Exception) -> str:
    is_local = host.partition(":")[0] in {"127.0.0.1", "localhost"}
    return f"{host} did not answer: {type(error).__name__}" + is_local * "; does the stack still run (`sluice status`)?"


def _with_remedy(text: str, status: int | None, *, denied: bool) -> str:
    """Return a message of Google Cloud and what to do.

    Args:
        text: The message.
        status: HTTP status.
        denied: Whether a 403 is a matter of permissions, not of quotas.
    """
    remedy = None
    match status:
        case http.HTTPStatus.UNAUTHORIZED:
            return _without_credentials(text)
        case http.HTTPStatus.FORBIDDEN if denied:
            remedy = f"the role `{_ROLES.get(command.get(), _OPERATORS)}` has this permission (docs/access.md)"
        case http.HTTPStatus.NOT_FOUND:
            remedy = next((remedy for words, remedy in _REMEDIES.items() if words in text), None)
            if remedy == _PUBSUB and command.get() == "drain":
                remedy = _SUBSCRIPTION
        case http.HTTPStatus.BAD_REQUEST if "push subscriptions" in text:
            remedy = _PUSHED
    return f"{text.rstrip('.')}: {remedy}" if remedy else text


def _without_credentials(reason: object) -> str:
    from sluice.commands.command_settings import unused_stack

    text = str(reason).partition(". ")[0].rstrip(".")
    return (
        f"no credentials for Google Cloud: {text}; run `gcloud auth application-default login`, or start `sluice up`"
        f" for the local stack{unused_stack()}"
    )
