"""Settings of the unit tests."""

from typing import Any

from functions.settings import Settings


def settings(**changes: Any) -> Settings:
    """Return the settings of the tests, some of them changed."""
    return Settings(**{"archive_bucket": "archive", "google_cloud_project": "project"} | changes)
