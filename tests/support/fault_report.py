"""The matrix as a table, in `docs/reliability.md`."""

import dataclasses
import pathlib
import re
from collections.abc import Iterable

FILE = pathlib.Path(__file__).parents[2] / "docs" / "reliability.md"


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """The result of a case, in numbers of messages, requests, processes and rows.

    Attributes:
        what: Of which part something broke.
        name: How.
        events: Published messages.
        faults: Requests that the proxy broke.
        retries: Inserts and uploads that the function sent again.
        deliveries: Requests of Pub/Sub beyond one for each message.
        kills: Ended processes.
        duplicates: Rows and dead letters beyond one for each event, which the views do not show.
        missing: Events that are neither.
    """

    what: str
    name: str
    events: int
    faults: int
    retries: int
    deliveries: int
    kills: int
    duplicates: int
    missing: int


_TITLES = ("", "breaks", "events", "faults", "retries", "delivered again", "kills", "duplicates", "missing")


def table(seen: Iterable[Seen]) -> str:
    """Return the results as a table in Markdown."""
    lines = [_TITLES, ("---", "---", *["--:"] * 7), *map(dataclasses.astuple, seen)]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def section(name: str) -> str:
    """Return the text between the markers of a generated section."""
    match = re.search(_pattern(name), FILE.read_text(), re.DOTALL)
    assert match, f"{FILE} has no section {name}"
    return match[2]


def write(name: str, text: str) -> None:
    """Put a text between the markers of a section."""
    FILE.write_text(
        re.sub(_pattern(name), lambda match: f"{match[1]}{text}{match[3]}", FILE.read_text(), flags=re.DOTALL)
    )


def _pattern(name: str) -> str:
    return rf"(<!-- {name} -->\n)(.*?)(<!-- end -->)"
