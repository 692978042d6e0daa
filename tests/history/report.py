"""What a history says, for people: its violations, and a timeline of the events that they are about."""

import collections
import pathlib
from collections.abc import Iterator

from tests.history.check import CheckedHistory
from tests.history.records import Note, read_records

_VIOLATIONS = 5
"""Maximum number of violations in the message of an error."""

_NOTES = 40
"""Maximum number of notes in a timeline."""


def check_file(file: pathlib.Path) -> CheckedHistory:
    """Return a history without violations.

    Args:
        file: Its records.

    Raises:
        AssertionError: It has violations, or no end; names the first ones, and the file.
    """
    history = CheckedHistory(read_records(file))
    assert history.is_complete, f"{file} has no end: what is stored was not recorded"
    assert not history.violations, summary(history, file)
    return history


def summary(history: CheckedHistory, file: pathlib.Path) -> str:
    """Return the first violations, and how to see them again."""
    violations = history.violations
    lines = [f"{len(violations)} violations:", *map(str, violations[:_VIOLATIONS])]
    if len(violations) > _VIOLATIONS:
        lines.append(f"and {len(violations) - _VIOLATIONS} more")
    return "\n  ".join([*lines, f"python -m tests.history {file}"])


def timeline(file: pathlib.Path, name: str) -> Iterator[str]:
    """Yield the lines of a history that are about an event or a load file, and the notes between them.

    Args:
        file: The records.
        name: Id of the event, or address of the file.
    """
    notes: collections.deque[str] = collections.deque(maxlen=_NOTES)
    is_begun = False
    for record in read_records(file):
        if isinstance(record, Note):
            notes.append(f"{record.at:10.3f}  ({record.describe(name)})")
        elif name in record.names:
            if is_begun:
                yield from notes
            notes.clear()
            is_begun = True
            yield f"{record.at:10.3f}  {record.describe(name)}"
