"""The Google Cloud clients of all but `ingest`.

With Application Default Credentials, or of the emulators if their variables are set.
"""

import os

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from functions.settings import Settings

LABEL = "sluice"
"""Label of Sluice's query jobs: the function that ran them, or `command`. It is in INFORMATION_SCHEMA.JOBS and on the
bill."""


def bigquery_client(settings: Settings) -> bigquery.Client:
    """A client of BigQuery; of the emulator at BIGQUERY_EMULATOR_HOST, which unlike Storage's takes no ADC."""
    emulated = "BIGQUERY_EMULATOR_HOST" in os.environ
    labels = {LABEL: os.environ.get("FUNCTION_TARGET", "command")}
    return bigquery.Client(
        project=settings.google_cloud_project,
        location=settings.location,
        credentials=AnonymousCredentials() if emulated else None,  # type: ignore[no-untyped-call]
        default_query_job_config=bigquery.QueryJobConfig(labels=labels),
    )


def storage_client(settings: Settings) -> StorageClient:
    """A client of Cloud Storage; of the emulator at STORAGE_EMULATOR_HOST."""
    return StorageClient(project=settings.google_cloud_project)
