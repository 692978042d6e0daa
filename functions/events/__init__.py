"""The event types: one module each, found by its name.

A type `NAME` is three files: `jsonschemas/NAME.v1.json`, `sql/schema/TABLE.sql`, and `functions/events/NAME.py`
with an `EVENT_TYPE`. Nothing else lists them.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from functions.core.privacy import Privacy
from functions.source_files import InvalidFile

type Columns = dict[str, Any]
"""Values by column name, as Python has them: Decimal, datetime, a dict for a STRUCT, a list for an ARRAY."""


@dataclasses.dataclass(frozen=True, slots=True)
class EventType:
    """An event type, without its contract and the columns of its table.

    Attributes:
        table: The table of its rows.
        time_field: The field with the event's own time, a required `date-time` of the contract.
        enrich: Takes the columns of a valid event; gives the columns to add or replace. Pure. What it raises
            makes the event a dead letter of stage `enrich`.
        person_field: The field, and column, with the id of the person whom the event is about, if of any.
    """

    table: str
    time_field: str
    enrich: Callable[[Columns, Privacy], Columns]
    person_field: str | None = None


def event_types() -> dict[str, EventType]:
    """Return all event types by name.

    Raises:
        InvalidFile: A module cannot be imported, or has no EVENT_TYPE.
    """
    return {module.name: _event_type(module.name) for module in sorted(pkgutil.iter_modules(__path__))}


def _event_type(name: str) -> EventType:
    file = f"functions/events/{name}.py"
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except Exception as error:
        place = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        raise InvalidFile(f"{file}: {place}{type(error).__name__}: {getattr(error, 'msg', error)}") from error
    event_type = getattr(module, "EVENT_TYPE", None)
    if not isinstance(event_type, EventType):
        raise InvalidFile(f"{file}: an event type's module has an EVENT_TYPE")
    return event_type


NAMES = frozenset(globals())
"""Names of this package, which no module of it may take away, and so no event type may have."""
