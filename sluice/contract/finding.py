"""Findings: what a check has to say."""

import dataclasses
import enum


class Breaks(enum.StrEnum):
    """Whom a finding breaks."""

    PRODUCERS = "producers"
    """An event that was valid is rejected from now on."""
    READERS = "readers"
    """A fact that queries rely on holds no longer."""
    ROWS = "rows"
    """An event is valid, and cannot become a row of its table, or not with all that it says."""
    PERSONS = "persons"
    """`sluice erase` does not find all events of a person."""
    BOOTSTRAP = "bootstrap"
    """A table that is live does not follow its DDL any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """A problem, or a notice that is worth reading.

    Attributes:
        path: The field, as a JSON path (`$.items[*].price`), or the column (`ingest.event_id`).
        problem: The problem, as text.
        breaks: Whom.
        is_notice: Nothing has to change; it is for `breaks` to know.
        file: The file with the field, relative to the project's folder.
    """

    path: str
    problem: str
    breaks: Breaks
    is_notice: bool = False
    file: str = ""
