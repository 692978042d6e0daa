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
    """All event types by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").EVENT_TYPE for name in names}


NAMES = frozenset(globals())
"""Names of this package, which no module of it may take away, and so no event type may have."""
