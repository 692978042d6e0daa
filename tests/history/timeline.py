"""A timeline of an event, for people."""

import collections
import pathlib
from collections.abc import Iterator

from tests.history.lines import is_load_file
from tests.history.records import Note, Upload, read_records

_NOTES = 40
"""Maximum number of notes between two lines of an event."""


def timeline(file: pathlib.Path, name: str) -> Iterator[str]:
    """Yield the lines of a history that are about an event or a load file, and the notes between them.

    The load files of an event are followed, too.

    Args:
        file: The records.
        name: Id of the event, or address of the file.
    """
    notes: collections.deque[str] = collections.deque(maxlen=_NOTES)
    followed, is_begun = [name], False
    for record in read_records(file):
        if isinstance(record, Note):
            notes.append(f"{record.at:10.3f}  ({record.text})")
        elif about := next((each for each in followed if each in record.names), None):
            if is_begun:
                yield from notes
            notes.clear()
            is_begun = True
            if isinstance(record, Upload) and is_load_file(record.uri):
                followed.append(record.uri)
            yield f"{record.at:10.3f}  {record.describe(about)}"
