"""Tables of generated pages, as Markdown between markers, and on the screen."""

import dataclasses
import re
from collections.abc import Iterable, Sequence

from sluice.formatting import print_rows


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        name: Name of its marker in the page.
        title: Title on the screen.
        columns: Headings; those of numbers begin with `>`.
        rows: Cells as text.
        note: A paragraph below it.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """Return the table for a page."""
        heads = [column.removeprefix(">") for column in self.columns]
        marks = ["--:" if column.startswith(">") else "---" for column in self.columns]
        table = "".join(f"| {' | '.join(row)} |\n" for row in (heads, marks, *self.rows))
        return f"{table}\n{self.note}\n" if self.note else table

    def show(self) -> None:
        """Print the table to standard output."""
        print_rows([column.removeprefix(">") for column in self.columns], self.rows, title=self.title)
        if self.note:
            print(self.note)  # noqa: T201


def fill_tables(page: str, tables: Iterable[Table]) -> str:
    """Return the page with these tables at their markers.

    Raises:
        ValueError: The page has no marker for a table.
    """
    for table in tables:
        pattern = rf"(<!-- {table.name} -->\n)(.*?)(<!-- end -->)"
        if not re.search(pattern, page, re.DOTALL):
            raise ValueError(f"the page has no marker for {table.name}")
        written = table.markdown()
        page = re.sub(pattern, lambda match, written=written: f"{match[1]}{written}{match[3]}", page, flags=re.DOTALL)  # type: ignore[misc]
    return page
