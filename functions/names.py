"""Names of event types, tables and views: which are allowed, which are reserved, and which are taken."""

import collections
import dataclasses
import keyword
import pathlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, Self

from functions import events
from functions.core import dead_letters

UNKNOWN = "unknown"
"""Type under which events are counted that name no type, or none that exists."""

SMOKE_TEST = "smoke_test"
"""Type of the event with which `sluice smoke` proves that a bad event becomes a dead letter."""

RESERVED_TYPES = {
    UNKNOWN: "counts by type have it for events of no known type",
    SMOKE_TEST: "`sluice smoke` sends an event of it, which has to become a dead letter",
}
"""Names that no event type may have, with the reasons."""

REPLAYS = "replays"

OWN_TABLES = (dead_letters.TABLE, REPLAYS)
"""Tables that belong to no event type."""

DATASETS = ("dataset", "historical_dataset")
"""Files of `sql/schema` that make a dataset, and the settings with their names; the others make tables."""

MAX_NAME = 40
"""Maximum number of characters of an event type or a table. The templates of `sluice contract new` need it to stay
within the maximum length of a line, and a table's name becomes the value of a label, which has at most 63
(https://cloud.google.com/bigquery/docs/labels-intro#requirements)."""

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
"""Pattern of a name, which is stricter than that of BigQuery (https://cloud.google.com/bigquery/docs/tables#table_naming):
it needs no quoting, is a valid Python module, and cannot be one of BigQuery's own names, such as `_SESSION`."""

_OF_BIGQUERY = {"information_schema"}

_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,299}")
_RESERVED_COLUMNS = ("_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier")
"""Prefixes that BigQuery reserves (https://cloud.google.com/bigquery/docs/schemas#column_names)."""


def type_problem(name: str) -> str | None:
    """Return why an event type cannot have a name; None if it can."""
    if problem := _problem(name):
        return problem
    if keyword.iskeyword(name):
        return f"{name} is a keyword of Python, and an event type names a module: functions/events/{name}.py"
    if name in events.NAMES:
        return f"{name} is a name of the package functions.events, in which an event type names a module"
    if name in RESERVED_TYPES:
        return f"{name} is reserved: {RESERVED_TYPES[name]}; reserved are {', '.join(RESERVED_TYPES)}"
    return None


def table_problem(name: str) -> str | None:
    """Return why a table of an event type cannot have a name; None if it can. Taken names are not checked."""
    if name in DATASETS:
        return f"{name} is reserved: sql/schema/{name}.sql creates a dataset"
    if name in _OF_BIGQUERY:
        return f"{name} is reserved by BigQuery"
    return _problem(name)


def column_problem(name: str) -> str | None:
    """Return why a column cannot have a name; None if it can."""
    if not _COLUMN.fullmatch(name):
        return "is no name of a column; allowed are at most 300 letters, digits and _, not beginning with a digit"
    if name.casefold().startswith(_RESERVED_COLUMNS):
        return f"begins with a prefix that BigQuery reserves: {', '.join(_RESERVED_COLUMNS)}"
    return None


def _problem(name: str) -> str | None:
    if _NAME.fullmatch(name) and len(name) <= MAX_NAME:
        return None
    return (
        f"{name!r} is no snake_case name; allowed are at most {MAX_NAME} of a-z, 0-9 and single _, beginning with a-z"
    )


def view_of(table: str, view: str) -> str:
    """Return the name of the view that `sql/views/each/VIEW.sql` makes for a table."""
    return f"{table}_{view}"


class Clash(NamedTuple):
    """A name that several tables and views have.

    Attributes:
        name: The name, in the spelling of the first of them.
        owners: Descriptions of the tables and views.
    """

    name: str
    owners: list[str]

    def __str__(self) -> str:
        return f"{self.name} would be the name of {' and of '.join(self.owners)}"


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """The names of the tables and views of the live dataset, of which the historical one has some.

    Attributes:
        event_tables: Table by event type.
        tables: Names of the files `sql/schema/TABLE.sql`.
        views: Names of the files `sql/views/VIEW.sql`.
        views_of_tables: Names of the files `sql/views/each/VIEW.sql`, which make a view for each event table.
        external: Names of the files `sql/external/TABLE.sql`.
    """

    event_tables: Mapping[str, str]
    tables: Collection[str]
    views: Collection[str]
    views_of_tables: Collection[str]
    external: Collection[str] = ()

    @classmethod
    def read(cls, folder: pathlib.Path, event_tables: Mapping[str, str]) -> Self:
        """Read the names of the files of a folder with `schema/` and `views/`."""
        tables, views, views_of_tables, external = (
            {file.stem for file in folder.glob(f"{inner}/*.sql")}
            for inner in ("schema", "views", "views/each", "external")
        )
        return cls(event_tables, tables, views, views_of_tables, external)

    def with_type(self, name: str, table: str) -> Self:
        """Return the names with those of a further event type and its table."""
        return dataclasses.replace(self, event_tables={**self.event_tables, name: table})

    def of_table(self, table: str) -> list[str]:
        """Return the names that an event table takes: its own and those of its views."""
        return [table, *(view_of(table, view) for view in sorted(self.views_of_tables))]

    def taken(self) -> list[str]:
        """Return all names, sorted, each once."""
        return sorted({name for name, _ in self._owners()})

    def clashes(self) -> list[Clash]:
        """Return the names that more than one table or view has.

        Case makes no difference here: in BigQuery that depends on the dataset's option `is_case_insensitive`
        (https://cloud.google.com/bigquery/docs/reference/standard-sql/data-definition-language#schema_option_list).
        """
        owners: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
        for name, owner in self._owners():
            owners[name.casefold()].append((name, owner))
        return [Clash(owned[0][0], [owner for _, owner in owned]) for owned in owners.values() if len(owned) > 1]

    def _owners(self) -> Iterator[tuple[str, str]]:
        """Yield each name with what has it."""
        event_tables = sorted(set(self.event_tables.values()))
        for name, table in sorted(self.event_tables.items()):
            yield table, f"the table of the event type {name}"
        for table in sorted({*self.tables, *OWN_TABLES} - set(DATASETS) - set(event_tables)):
            yield table, f"the table of sql/schema/{table}.sql"
        for table in sorted(set(event_tables) & set(OWN_TABLES)):
            yield table, "a table of Sluice's own"
        for table in sorted(self.external):
            yield table, f"the external table of sql/external/{table}.sql"
        for view in sorted(self.views):
            yield view, f"the view of sql/views/{view}.sql"
        for view in sorted(self.views_of_tables):
            for table in event_tables:
                yield view_of(table, view), f"the view of the table {table} by sql/views/each/{view}.sql"
