"""BigQuery's and Cloud Storage's JSON APIs, as `ingest` writes to them.

The google-cloud clients write the same. But their import takes longer than all else in a cold start, and their calls
cost more than the whole processing of an event (docs/performance.md).
"""

import functools
import http
import os
from collections.abc import Callable

import certifi
import google.auth
import msgspec
import urllib3
from google.auth.exceptions import DefaultCredentialsError, TransportError

from functions.ingest.references import clear_frames
from functions.ingest.retry import Call, Service
from functions.settings import NO_PROJECT, InvalidSettings, Settings
from functions.system import SYSTEM, System

CONNECTIONS = 16
"""Size of the connection pool for each service."""

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_PASSING_STATUS = {http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS}
_PASSING_REASONS = {"rateLimitExceeded", "userRateLimitExceeded"}
"""Reasons of a retryable 403; every other one is a matter of permissions or quotas."""


class _Reason(msgspec.Struct):
    reason: str = ""


class _Error(msgspec.Struct):
    """https://cloud.google.com/storage/docs/json_api/v1/status-codes; BigQuery's are the same."""

    message: str = ""
    errors: list[_Reason] = []


class _Answer(msgspec.Struct):
    error: _Error


_decode_answer = msgspec.json.Decoder(_Answer).decode


class ApiError(Exception):
    """An API answered with an error. Its text has the status and the reasons, and nothing of what was sent.

    Attributes:
        status: HTTP status.
        reasons: Google's reasons, such as `rateLimitExceeded`.
        unsafe_message: The message of the API, which may quote the request.
    """

    def __init__(self, status: int, body: bytes) -> None:
        try:
            error = _decode_answer(body).error
        except (msgspec.DecodeError, UnicodeDecodeError):  # a front end's own page
            error = _Error(body.decode(errors="replace"))
        self.status = status
        self.reasons = [detail.reason for detail in error.errors if detail.reason.isalpha()]
        self.unsafe_message = error.message
        super().__init__(" ".join([f"{_phrase(status)}: {status}", *dict.fromkeys(self.reasons)]))


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase.title().replace(" ", "")
    except ValueError:
        return "ApiError"


def is_overload(error: BaseException) -> bool:
    """Return whether a service failed to answer in time, or was unavailable: a later attempt may succeed.

    These are the errors that the google-cloud clients retry, and two more: BigQuery's client does not retry a 504, and
    Cloud Storage's does not retry a 403 for too many requests.
    """
    if isinstance(error, ApiError):
        return (
            error.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR
            or error.status in _PASSING_STATUS
            or (error.status == http.HTTPStatus.FORBIDDEN and not _PASSING_REASONS.isdisjoint(error.reasons))
        )
    return isinstance(error, (urllib3.exceptions.HTTPError, TransportError, TimeoutError))


def _has_timed_out(error: BaseException) -> bool:
    """Return whether the service may still work on a request. urllib3 counts a refused connection as a timeout."""
    is_refused = isinstance(error, urllib3.exceptions.NewConnectionError)
    return isinstance(error, urllib3.exceptions.TimeoutError) and not is_refused


_AS_ANSWERED = {"retries": False, "redirect": False}
"""Arguments of `urlopen` that leave retries to `Api`."""

type _UrlOpen = Callable[..., urllib3.BaseHTTPResponse]
"""The method of a `urllib3.PoolManager`, or of google-auth's `AuthorizedHttp` around one."""


class Api:
    """One of Google's APIs.

    Args:
        root: `https://bigquery.googleapis.com`, or an emulator.
        urlopen: Sends a request over a pool of connections, with credentials where the service wants some.
        system: The machine.

    Attributes:
        service: The timeouts and the retries that all calls share.
        system: The machine.
    """

    def __init__(self, root: str, urlopen: _UrlOpen, system: System = SYSTEM) -> None:
        self.service = Service()
        self.system = system
        self._root = root
        self._urlopen = urlopen

    def post(self, path: str, content_type: str, body: bytes, seconds: float) -> bytes:
        """Send an idempotent request; blocks.

        Args:
            path: Path and query.
            content_type: Type of the body.
            body: The body.
            seconds: Maximum seconds for all attempts.

        Returns:
            The body of the answer.

        Raises:
            ApiError: The API answered with an error.
            urllib3.exceptions.HTTPError: The API did not answer in time, or the connection failed.
            google.auth.exceptions.GoogleAuthError: No token is available.
        """
        clock = self.system.monotonic
        call = Call(self.service, seconds, clock(), self.system.uniform)
        while True:
            try:
                return self._post(self._root + path, content_type, body, call.timeout(clock()))
            except (ApiError, urllib3.exceptions.HTTPError, TransportError) as error:
                clear_frames(error)
                if not is_overload(error):
                    raise
                pause = call.pause(clock(), after_timeout=_has_timed_out(error))
                if pause is None:
                    raise
            self.system.sleep(pause)

    def _post(self, url: str, content_type: str, body: bytes, timeout: float) -> bytes:
        headers = {"content-type": content_type, "user-agent": "sluice"}
        total = urllib3.Timeout(total=timeout)  # A number would limit the connection, and then the answer again.
        started = self.system.monotonic()
        try:
            answer = self._urlopen("POST", url, body=body, headers=headers, timeout=total, **_AS_ANSWERED)
        except urllib3.exceptions.TimeoutError as error:
            if _has_timed_out(error):
                self.service.answer_time.timed_out(timeout)
            raise
        if answer.status != http.HTTPStatus.OK:
            raise ApiError(answer.status, answer.data)
        self.service.answered(self.system.monotonic() - started)
        return answer.data


def bigquery_api(system: System = SYSTEM) -> Api:
    """BigQuery, with Application Default Credentials; the emulator at BIGQUERY_EMULATOR_HOST, if that is set."""
    return _api("bigquery", os.environ.get("BIGQUERY_EMULATOR_HOST"), system)


def storage_api(system: System = SYSTEM) -> Api:
    """Cloud Storage, with Application Default Credentials; the emulator at STORAGE_EMULATOR_HOST, if that is set."""
    return _api("storage", os.environ.get("STORAGE_EMULATOR_HOST"), system)


def _api(service: str, emulator: str | None, system: System) -> Api:
    if emulator:
        return Api(emulator, _Connections().urlopen, system)
    universe = os.environ.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "googleapis.com")
    return Api(f"https://{service}.{universe}", _authorized(), system)


def project(settings: Settings) -> str:
    """Return the project of the settings, or else of the credentials.

    Raises:
        InvalidSettings: Neither has one.
    """
    if settings.google_cloud_project:
        return settings.google_cloud_project
    try:
        _, credentials_project = google.auth.default()
    except DefaultCredentialsError:
        credentials_project = None
    if not credentials_project:
        raise InvalidSettings(NO_PROJECT)
    return credentials_project


class _Connections(urllib3.PoolManager):
    """A pool that can be copied: google-auth does so for its own requests. The copy has connections of its own."""

    def __init__(self) -> None:
        super().__init__(maxsize=CONNECTIONS, ca_certs=certifi.where())

    def __deepcopy__(self, _: object) -> "_Connections":
        return _Connections()


@functools.cache
def _authorized() -> _UrlOpen:
    """Both services share a token."""
    from google.auth.transport.urllib3 import AuthorizedHttp  # noqa: PLC0415

    credentials, _ = google.auth.default(_SCOPES)
    authorized: _UrlOpen = AuthorizedHttp(credentials, _Connections()).urlopen  # type: ignore[no-untyped-call]
    return authorized
