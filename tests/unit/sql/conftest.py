"""The analyzer takes a quarter of a minute to load, and so is loaded once."""

import pytest

from functions.settings import Settings
from tests.support.sql_analyzer import Analyzer

PROJECT = "a-project"
"""Project of the tests of Terraform, which renders SQL too."""

SETTINGS = Settings(archive_bucket="the-archive")


@pytest.fixture(scope="session")
def analyzer() -> Analyzer:
    """Knows all tables and views."""
    return Analyzer.of_the_warehouse(PROJECT, SETTINGS)
