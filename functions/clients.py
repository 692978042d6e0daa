"""The Google Cloud clients of all but `ingest`.

With Application Default Credentials, or of the emulators if their variables are set.
"""

import io
import os
from typing import BinaryIO, cast

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.storage import Blob
from google.cloud.storage import Client as StorageClient
from requests.adapters import HTTPAdapter

from functions.settings import NO_PROJECT, InvalidSettings, Settings

LABEL = "sluice"
"""Label of Sluice's query jobs: the function that ran them, or `command`. It is in INFORMATION_SCHEMA.JOBS and on the
bill."""

_DOWNLOAD_BYTES = 8 * 2**20
"""Maximum size of an object that is downloaded at once, and size of the chunks of a larger one."""


def bigquery_client(settings: Settings) -> bigquery.Client:
    """Return a client of BigQuery; of the emulator at BIGQUERY_EMULATOR_HOST, which unlike Storage's takes no ADC.

    Raises:
        InvalidSettings: No project is set, and the credentials name none.
        google.auth.exceptions.GoogleAuthError: There are no credentials.
    """
    emulated = "BIGQUERY_EMULATOR_HOST" in os.environ
    if emulated and not settings.google_cloud_project:  # The client would search for credentials that name one.
        raise InvalidSettings(NO_PROJECT)
    labels = {LABEL: os.environ.get("FUNCTION_TARGET", "command")}
    try:
        return bigquery.Client(
            project=settings.google_cloud_project,
            location=settings.location,
            credentials=AnonymousCredentials() if emulated else None,  # type: ignore[no-untyped-call]
            default_query_job_config=bigquery.QueryJobConfig(labels=labels),
        )
    except OSError as error:
        if settings.google_cloud_project or error.errno is not None:  # It cannot read the credentials.
            raise
        raise InvalidSettings(NO_PROJECT) from error


def storage_client(settings: Settings, connections: int | None = None) -> StorageClient:
    """Return a client of Cloud Storage; of the emulator at STORAGE_EMULATOR_HOST.

    Args:
        settings: The project.
        connections: Maximum number of connections that are kept for the next requests; None for ten.
    """
    # Otherwise each client asks for its bucket in a thread of its own, for traces that nobody writes: a request that
    # most accounts may not send (https://cloud.google.com/storage/docs/client-side-tracing).
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    client = StorageClient(project=settings.google_cloud_project)
    if connections is not None:
        for scheme in ("https://", "http://"):
            client._http.mount(scheme, HTTPAdapter(pool_maxsize=connections))  # as Google's samples do
    return client


def open_blob(blob: Blob, size: int) -> BinaryIO:
    """Open an object as it is stored; a large one is downloaded in chunks.

    Args:
        blob: The object.
        size: Its size in bytes.
    """
    if size <= _DOWNLOAD_BYTES:  # A reader in chunks would send a second request, to see that there is no more.
        return io.BytesIO(blob.download_as_bytes(raw_download=True))
    return cast("BinaryIO", blob.open("rb", chunk_size=_DOWNLOAD_BYTES, raw_download=True))
