"""The analyzer takes a quarter of a minute to load, and so is loaded once."""

import pytest

from tests.support.sql_analyzer import Analyzer
from tests.support.sql_arguments import PROJECT, SETTINGS


@pytest.fixture(scope="session")
def analyzer() -> Analyzer:
    """Knows all tables and views."""
    return Analyzer.of_the_warehouse(PROJECT, SETTINGS)
