"""The log lines of functions and of a Dataflow job's workers, as Cloud Logging has them."""

import os
from collections.abc import Collection
from datetime import datetime
from typing import Self

import certifi
import google.auth
import msgspec
import urllib3
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.urllib3 import AuthorizedHttp

from functions.ingest.http_client import Api, ApiError
from sluice.quota_project import with_quota_project

EMULATOR = "LOGGING_EMULATOR_HOST"
"""Environment variable with the URL of a stand-in. Google has no emulator of Cloud Logging."""

PERMISSION = "logging.logEntries.list"
"""Permission that the caller needs; `roles/logging.viewer` has it."""

_ROOT = "https://logging.googleapis.com"
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_SECONDS = 20.0
_PAGE = 1000

_FLUSHES = (
    'resource.type="cloud_run_revision" AND log_id("run.googleapis.com/stdout") AND timestamp>="{since}"'
    ' AND jsonPayload.message="flush" AND jsonPayload.archive_uri=({uris})'
)
"""Filter of the lines that `functions.ingest.group_commit` logs for some objects, by
https://cloud.google.com/logging/docs/view/logging-query-language."""

_FLUSHES_OF_WORKERS = (
    'resource.type="dataflow_step" AND log_id("dataflow.googleapis.com/worker") AND timestamp>="{since}"'
    ' AND jsonPayload.message=~"^flush [{{].*({uris})"'
)
"""Filter of the lines of `dataflow.write`, whose fields are JSON in a text."""


class NotReadable(Exception):
    """The log cannot be read; says why."""


class _LoggedFlush(msgspec.Struct):
    archive_uri: str


class _Payload(msgspec.Struct):
    message: str
    archive_uri: str | None = None

    @property
    def uri(self) -> str:
        """The object that a flush has written."""
        return self.archive_uri or _decode_flush(self.message.removeprefix("flush ")).archive_uri


class _Entry(msgspec.Struct, rename="camel"):
    json_payload: _Payload


class _Page(msgspec.Struct, rename="camel"):
    entries: list[_Entry] = []
    next_page_token: str | None = None


_decode_flush = msgspec.json.Decoder(_LoggedFlush).decode
_decode_page = msgspec.json.Decoder(_Page).decode


class CloudLogs:
    """Reads the log of a project.

    Args:
        api: Cloud Logging.
        project: Project of the functions.
    """

    def __init__(self, api: Api, project: str) -> None:
        self._api = api
        self._project = project

    @classmethod
    def connect(cls, project: str) -> Self:
        """Read with Application Default Credentials, or from a stand-in.

        Raises:
            NotReadable: There are no credentials, or the functions run on emulators, where no log is collected.
        """
        pool = urllib3.PoolManager(ca_certs=certifi.where())
        if root := os.environ.get(EMULATOR):
            return cls(Api(root, pool.urlopen), project)
        if "BIGQUERY_EMULATOR_HOST" in os.environ:
            raise NotReadable("the emulators have no Cloud Logging")
        try:
            credentials, _ = google.auth.default(_SCOPES)
        except GoogleAuthError as error:
            raise NotReadable(str(error)) from error
        return cls(Api(_ROOT, AuthorizedHttp(with_quota_project(credentials, project), pool).urlopen), project)  # type: ignore[no-untyped-call]

    def flushes(self, archive_uris: Collection[str], since: datetime) -> set[str]:
        """Return the archive objects whose flush is in the log.

        Args:
            archive_uris: The objects, as rows name them.
            since: A time before their flushes.

        Raises:
            NotReadable: Cloud Logging rejects the request or does not answer.
        """
        uris = sorted(archive_uris)
        uris_found = self._uris(_FLUSHES.format(since=since.isoformat(), uris=" OR ".join(f'"{uri}"' for uri in uris)))
        if missing := [uri for uri in uris if uri not in uris_found]:
            uris_found |= self._uris(_FLUSHES_OF_WORKERS.format(since=since.isoformat(), uris="|".join(missing)))
        return uris_found.intersection(uris)

    def _uris(self, text: str) -> set[str]:
        """Return the objects of the flushes that meet a filter."""
        request: dict[str, object] = {
            "resourceNames": [f"projects/{self._project}"],
            "filter": text,
            "orderBy": "timestamp desc",
            "pageSize": _PAGE,
        }
        uris: set[str] = set()
        while True:
            page = self._list(request)
            uris |= {entry.json_payload.uri for entry in page.entries}
            if not page.next_page_token:  # A page may be empty, and not the last one.
                return uris
            request["pageToken"] = page.next_page_token

    def _list(self, request: dict[str, object]) -> _Page:
        """https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list."""
        try:
            body = self._api.post("/v2/entries:list", "application/json", msgspec.json.encode(request), _SECONDS)
        except ApiError as error:
            raise NotReadable(f"{error.unsafe_message or error} ({PERMISSION} is in roles/logging.viewer)") from error
        except (urllib3.exceptions.HTTPError, GoogleAuthError) as error:
            raise NotReadable(f"{type(error).__name__}: {error}") from error
        try:
            return _decode_page(body)
        except msgspec.DecodeError as error:  # whoever answered, it was not Cloud Logging
            raise NotReadable(f"the answer is none of Cloud Logging: {error}") from error
