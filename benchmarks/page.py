"""`docs/performance.md`, and the README: what stands between their markers is written from the results."""

import pathlib
import re
from collections.abc import Iterable

from benchmarks.tables import Table

README = pathlib.Path(__file__).parents[1] / "README.md"
FILE = README.parent / "docs" / "performance.md"


def filled(page: str, tables: Iterable[Table]) -> str:
    """The page with these tables in their places.

    Raises:
        ValueError: The page has no place for one.
    """
    for table in tables:
        pattern = rf"(<!-- {table.name} -->\n)(.*?)(<!-- end -->)"
        if not re.search(pattern, page, re.DOTALL):
            raise ValueError(f"the page has no place for {table.name}")
        written = table.markdown()
        page = re.sub(pattern, lambda found, written=written: f"{found[1]}{written}{found[3]}", page, flags=re.DOTALL)  # type: ignore[misc]
    return page
