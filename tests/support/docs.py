"""The pages of the documentation, and the fenced blocks in them."""

import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
DOCS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]

BLOCK = re.compile(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
"""A fenced block: its language, title and text."""


def blocks(file: pathlib.Path) -> Iterator[tuple[str, str, str]]:
    """Yield language, title and text of each fenced block."""
    yield from BLOCK.findall(file.read_text())


def anchors(file: pathlib.Path) -> set[str]:
    """Return the anchors that GitHub and GitLab make of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", file.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
