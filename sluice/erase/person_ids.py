"""Parsing of the ids of persons: `FIELD=ID`, one by one or a line of a file each."""

from collections.abc import Collection, Iterable, Iterator

from sluice.erase.ownership import person_fields


class InvalidId(ValueError):
    """Raised for a text that is not the id of a person; says which rule it breaks, without the id."""


def parse_id(text: str, fields: Collection[str] | None = None) -> tuple[str, str]:
    """Return field and id of `FIELD=ID`.

    Args:
        text: The text.
        fields: Fields that identify persons; None for those of all event types.

    Raises:
        InvalidId: The field does not identify persons, or the id is empty or not printable.
    """
    fields = person_fields() if fields is None else fields
    field, separator, value = text.partition("=")
    if not separator:
        raise InvalidId(f"an id is FIELD=ID; fields are {', '.join(fields)}")
    if field not in fields:
        raise InvalidId(f"field {field!r} does not identify persons; fields that do are {', '.join(fields)}")
    if not value or not value.isprintable():
        raise InvalidId(f"{field} needs an id of printable characters")
    if value != value.strip():
        raise InvalidId(f"{field} has an id with a space at its begin or end; an id has none there")
    return field, value


def read_ids(lines: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Yield field and id of each line of a file; lines that are blank or begin with `#` are skipped.

    Args:
        lines: The lines, in UTF-8.

    Raises:
        InvalidId: A line is no id; names the line.
    """
    fields = person_fields()
    for number, line in enumerate(lines, 1):
        place = f"line {number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InvalidId(f"{place}: byte {error.start + 1} is not UTF-8; a line is FIELD=ID in UTF-8") from error
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        try:
            yield parse_id(text, fields)
        except InvalidId as error:
            raise InvalidId(f"{place}: {error}") from error
