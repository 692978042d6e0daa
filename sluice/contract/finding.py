"""Findings of the check of contracts."""

import dataclasses
import enum


class Breaks(enum.StrEnum):
    """Whom a finding breaks."""

    PRODUCERS = "producers"
    """An event that was valid is rejected from now on."""
    READERS = "readers"
    """A property that queries rely on no longer holds."""
    ROWS = "rows"
    """A valid event cannot become a row of its table, or not with all its values."""
    PERSONS = "persons"
    """`sluice erase` does not find all events of a person."""
    BOOTSTRAP = "bootstrap"
    """A deployed table no longer follows its DDL."""


@dataclasses.dataclass(frozen=True, slots=True)
class ContractFinding:
    """A problem, or a notice.

    Attributes:
        path: The field, as a JSON path (`$.items[*].price`), or the column (`ingest.event_id`).
        problem: The problem, as text.
        breaks: Whom the problem breaks.
        is_notice: Whether it only informs `breaks`, and requires no change.
        file: The file with the field, relative to the project's folder.
    """

    path: str
    problem: str
    breaks: Breaks
    is_notice: bool = False
    file: str = ""
