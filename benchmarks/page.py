"""The pages with tables of the benchmark."""

import pathlib

from sluice.doc_tables import fill_tables

__all__ = ["BEAM", "FILE", "LIMITS", "OVERLOAD", "README", "fill_tables"]

README = pathlib.Path(__file__).parents[1] / "README.md"
FILE = README.parent / "docs" / "performance.md"
BEAM = FILE.with_name("performance-beam.md")
OVERLOAD = FILE.with_name("performance-overload.md")
LIMITS = FILE.with_name("performance-limits.md")
