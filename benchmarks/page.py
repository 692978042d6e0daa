"""The pages with tables of the benchmark."""

import pathlib

from sluice.tables import filled

__all__ = ["FILE", "README", "filled"]

README = pathlib.Path(__file__).parents[1] / "README.md"
FILE = README.parent / "docs" / "performance.md"
