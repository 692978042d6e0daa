"""New event types, from the templates beside this module."""

import keyword
import pathlib
import re
import string

from ops.contract.project import CONTRACTS, ROOT, TABLES

_TEMPLATES = pathlib.Path(__file__).parent / "templates"

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_MAX_NAME = 40
"""Characters: so that no line of the templates is longer than ours may be."""


class Unfit(ValueError):
    """A name cannot be that of an event type or its table; says why."""


class Taken(Exception):
    """There is such a file already; names it."""


def files(name: str, table: str) -> dict[str, str]:
    """The files of a new event type: text by path, relative to the project's folder.

    Args:
        name: Of the type, in snake_case.
        table: Of its rows, in snake_case.

    Raises:
        Unfit: A name is none.
    """
    for one in (name, table):
        if not _NAME.fullmatch(one) or len(one) > _MAX_NAME:
            raise Unfit(f"{one!r} is no snake_case name of at most {_MAX_NAME} characters: a-z, 0-9 and _ between them")
    if keyword.iskeyword(name):
        raise Unfit(f"{name!r} is a word of Python, and names a module here")
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


def free(made: dict[str, str], table: str, root: pathlib.Path = ROOT) -> None:
    """Make sure that nothing is in the way of new files.

    Raises:
        Taken: A file is there already, or a view has the table's name.
    """
    for path in (*made, f"sql/views/{table}.sql"):
        if (root / path).exists():
            raise Taken(f"{path} is there already")


def write(made: dict[str, str], root: pathlib.Path = ROOT) -> None:
    """Write new files; none of them may be there yet."""
    for path, text in made.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        with (root / path).open("x", encoding="utf-8") as file:
            file.write(text)
