"""Requirements of tests that this machine may lack."""

import os
from typing import NoReturn

import pytest


def missing(how_to_get: str) -> NoReturn:
    """Skip the test and say how to get what it needs; in CI, which has to have it, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(how_to_get)
    pytest.skip(how_to_get)
