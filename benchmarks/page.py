"""The pages with tables of the benchmark."""

import pathlib

from sluice.doc_tables import fill_tables

__all__ = ["FILE", "README", "fill_tables"]

README = pathlib.Path(__file__).parents[1] / "README.md"
FILE = README.parent / "docs" / "performance.md"
