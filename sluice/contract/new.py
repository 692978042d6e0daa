"""New event types, from the templates beside this module."""

import pathlib
import string

from functions.events import event_types
from functions.names import Names, table_problem, type_problem
from sluice.contract.project import CONTRACTS, ROOT, SQL, TABLES

_TEMPLATES = pathlib.Path(__file__).parent / "templates"


class Unfit(ValueError):
    """Raised for an invalid name of an event type or table; has the reason."""


class Taken(Exception):
    """Raised when a file, table or view with a name already exists; has the name."""


def files(name: str, table: str) -> dict[str, str]:
    """Return the files of a new event type: text by path, relative to the project's folder.

    Args:
        name: Name of the type, in snake_case.
        table: Table of its rows, in snake_case.

    Raises:
        Unfit: A name is invalid.
    """
    if problem := type_problem(name) or table_problem(table):
        raise Unfit(problem)
    paths = {
        "contract.json": f"{CONTRACTS}/{name}.v1.json",
        "table.sql": f"{TABLES}/{table}.sql",
        "handler.py.txt": f"functions/events/{name}.py",
        "samples.ndjson": f"tests/samples/{name}.ndjson",
        "test.py.txt": f"tests/unit/events/test_{name}.py",
    }
    return {
        path: string.Template((_TEMPLATES / template).read_text(encoding="utf-8")).substitute(name=name, table=table)
        for template, path in paths.items()
    }


def free(made: dict[str, str], name: str, table: str, root: pathlib.Path = ROOT) -> None:
    """Check that the names of a new event type are free.

    Raises:
        Taken: A file already exists, or another table or view has the name of the table or of one of its views.
    """
    for path in made:
        if (root / path).exists():
            raise Taken(f"{path} already exists")
    names = Names.read(root / SQL, {other: event_type.table for other, event_type in event_types().items()})
    new = {new_name.casefold() for new_name in names.of_table(table)}
    for clash in names.with_type(name, table).clashes():
        if clash.name.casefold() in new:
            views = ", ".join(names.of_table("TABLE")[1:])
            taken = ", ".join(names.taken())
            raise Taken(f"{clash}; choose another TABLE with --table: it and {views} must not be one of {taken}")


def write(made: dict[str, str], root: pathlib.Path = ROOT) -> None:
    """Write new files, none of which may exist."""
    for path, text in made.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        with (root / path).open("x", encoding="utf-8") as file:
            file.write(text)
