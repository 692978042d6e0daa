"""The queries of `sql/`: questions with parameters, which `sluice sql` lists and runs.

A file begins with comment lines: the question; notes; a line for each parameter, which is a query parameter
(`@name TYPE = DEFAULT (LEAST to MOST): what it is`) or the name of a table (`${name} NAME = DEFAULT: what it is`); and
its cost class:

    -- Which customers are worth most to us?
    -- An order counts once, with its latest state.
    -- @days INT64 = 90 (0 to 3650): how many days back
    -- Cost: partitions

Defaults and bounds are optional. A TIMESTAMP may be `now` or an age: `90m`, `24h`, `7d`. A file that must not be
run alone also has the line `-- Part of: COMMAND`, with the command that runs it.

What lies between `-- Each table:` and `-- End.` is there for the table of each event type, with `${table}` for its
name, `${event_type}` for that of the type, and `${time_field}` for the column of the events' own time: joined by
UNION ALL, or one after the other where it ends with a semicolon. So a new event type is in every such query.
"""

import dataclasses
import enum
import json
import pathlib
import re
import string
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from google.cloud.bigquery import ScalarQueryParameter

from functions.events import event_types
from functions.schema.definitions import LATEST_FIRST
from functions.settings import Settings
from sluice.times import read_time

FOLDER = pathlib.Path(__file__).parent.parent / "sql"
SUBJECTS = ("analytics", "monitoring", "maintenance")


class Cost(enum.StrEnum):
    """Cost class of a query: how much of the data it reads."""

    METADATA = "metadata"
    """The query reads INFORMATION_SCHEMA or nothing: at most 10 MB are billed for each of its views."""
    PARTITIONS = "partitions"
    """The query reads the columns that it names, of the days that its parameters choose."""
    TABLE = "table"
    """The query reads the columns that it names, of all days that the live tables keep."""
    HISTORY = "history"
    """The query reads the columns that it names, of all days ever."""


class WrongParameter(ValueError):
    """Raised for a parameter that is unknown, missing, of the wrong type or out of range; has its name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter whose value the caller may choose.

    Attributes:
        name: Name of the parameter.
        type: INT64, FLOAT64, STRING, DATE, TIMESTAMP, or NAME for the name of a table or snapshot in the text.
        default: Default as text; None if the parameter is required. A DATE may be `today` or `yesterday`.
        bounds: Minimum and maximum as text; None for no bounds.
        description: Meaning of the value.
    """

    name: str
    type: str
    default: str | None
    bounds: tuple[str, str] | None
    description: str

    def __str__(self) -> str:
        default = "" if self.default is None else f" = {self.default}"
        bounds = "" if self.bounds is None else f" ({' to '.join(self.bounds)})"
        return f"{self.name}{default}{bounds}: {self.description}"

    def value(self, text: str) -> Any:  # noqa: ANN401 - of the parameter's type
        """Parse a value.

        Raises:
            WrongParameter: The value has the wrong type or is out of range.
        """
        read = _READERS[self.type]
        least = read(self.bounds[0]) if self.bounds else None  # Before the value: `7d` ago is later each time.
        try:
            value = read(text)
        except ValueError as error:
            raise WrongParameter(f"{self.name}: {text!r} is not of type {self.type}") from error
        if self.bounds and not least <= value <= read(self.bounds[1]):
            raise WrongParameter(f"{self.name}: {text} is out of range; allowed is {' to '.join(self.bounds)}")
        return value


def _int64(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError(text)
    return number


def _date(text: str) -> date:
    today = datetime.now(UTC).date()
    relative = {"today": today, "yesterday": today - timedelta(days=1)}
    return relative.get(text) or date.fromisoformat(text)


def _name(text: str) -> str:
    """https://cloud.google.com/bigquery/docs/tables#table_naming, less what would have to be quoted."""
    if not re.fullmatch(r"\w{1,1024}", text):
        raise ValueError(text)
    return text


_READERS: Mapping[str, Any] = {
    "INT64": _int64,
    "FLOAT64": float,
    "STRING": str,
    "DATE": _date,
    "TIMESTAMP": read_time,
    "NAME": _name,
}


@dataclasses.dataclass(frozen=True, slots=True)
class RenderedQuery:
    """A query that is ready to run.

    Attributes:
        sql: The text, with all names filled in.
        parameters: Parameters for the `QueryJobConfig`.
    """

    sql: str
    parameters: list[ScalarQueryParameter]

    def with_values(self) -> str:
        """Return the text with the values of the parameters as literals."""
        literals = {parameter.name: _literal(parameter.value) for parameter in self.parameters}
        return _in_code(self.sql, lambda code: _NAMED.sub(lambda named: literals.get(named[1], named[0]), code))


_NAMED = re.compile(r"(?<!@)@(\w+)")


def _in_code(sql: str, change: Callable[[str], str]) -> str:
    """Change all lines but comments."""
    lines = sql.splitlines(keepends=True)
    return "".join(line if line.lstrip().startswith("--") else change(line) for line in lines)


def _literal(value: Any) -> str:  # noqa: ANN401 - of the parameter's type
    """https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#literals."""
    match value:
        case datetime():
            return f"TIMESTAMP '{value.isoformat()}'"
        case date():
            return f"DATE '{value.isoformat()}'"
        case str():
            return json.dumps(value, ensure_ascii=False)
    return repr(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """A file of `sql/analytics`, `sql/monitoring` or `sql/maintenance`.

    Attributes:
        subject: Folder of the query.
        name: Name of the query's file.
        question: Question that it answers, or its effect.
        notes: Explanation of how it does so; may be empty.
        parameters: Parameters by name.
        cost: Cost class of the query.
        part_of: Command that runs it, if it must not be run alone; None otherwise.
        sql: The text, with `${...}` for names.
    """

    subject: str
    name: str
    question: str
    notes: str
    parameters: Mapping[str, Parameter]
    cost: Cost
    part_of: str | None
    sql: str

    def expand_table_blocks(self) -> str:
        """Return the text with its blocks expanded for each table."""
        return _EACH_TABLE.sub(_for_each_table, self.sql)

    def bind(self, project: str, settings: Settings, given: Mapping[str, str]) -> RenderedQuery:
        """Fill in names and parameters.

        Args:
            project: The dataset's project.
            settings: Names of datasets, location, retention.
            given: Values of parameters; the others have their defaults.

        Raises:
            WrongParameter: A parameter is unknown, missing or wrong.
        """
        if unknown := given.keys() - self.parameters.keys():
            parameters = ", ".join(self.parameters) or "none"
            raise WrongParameter(f"{self.name} has no parameter {', '.join(sorted(unknown))}; it has {parameters}")
        values: dict[str, Any] = {}
        for parameter in self.parameters.values():
            text = given.get(parameter.name, parameter.default)
            if text is None:
                raise WrongParameter(f"{self.name} needs {parameter.name}: {parameter.description}")
            values[parameter.name] = parameter.value(text)
        names = {name: value for name, value in values.items() if self.parameters[name].type == "NAME"}
        names |= {
            "project": project,
            "dataset": settings.dataset,
            "historical_dataset": settings.historical_dataset,
            "location": settings.location,
            "archive_bucket": settings.archive_bucket,
            "retention_days": settings.retention_days,
            "latest_first": LATEST_FIRST,
        }
        sql = _in_code(self.expand_table_blocks(), lambda code: string.Template(code).substitute(names))
        bound = [
            ScalarQueryParameter(name, self.parameters[name].type, value)
            for name, value in values.items()
            if self.parameters[name].type != "NAME"
        ]
        return RenderedQuery(sql, bound)


def queries(folder: pathlib.Path = FOLDER) -> dict[str, Query]:
    """Return all queries by name, in the order of their subjects.

    Raises:
        ValueError: A file does not begin with the required comments.
    """
    files = [file for subject in SUBJECTS for file in sorted((folder / subject).glob("*.sql"))]
    return {file.stem: _read(file) for file in files}


_EACH_TABLE = re.compile(r"^ *-- Each table:\n(.*?)\n *-- End\.$", re.DOTALL | re.MULTILINE)


def _for_each_table(block: re.Match[str]) -> str:
    template = string.Template(block[1])
    all_types = sorted(event_types().items(), key=lambda item: item[1].table)
    texts = [
        template.safe_substitute(event_type=name, table=each.table, time_field=each.time_field)
        for name, each in all_types
    ]
    return ("\n" if block[1].endswith(";") else "\nUNION ALL\n").join(texts)


_PARAMETER = re.compile(
    r"(?:@(?P<value>\w+) (?P<type>INT64|FLOAT64|STRING|DATE|TIMESTAMP)|\$\{(?P<name>\w+)\} NAME)"
    r"(?: = (?P<default>[^:]+?))?(?: \((?P<least>\S+) to (?P<most>\S+)\))?: (?P<description>.+)"
)
_COST = re.compile(r"Cost: (\w+)")
_PART_OF = re.compile(r"Part of: (.+)")


def _read(file: pathlib.Path) -> Query:
    text = file.read_text(encoding="utf-8")
    comment = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        comment.append(line.removeprefix("--").strip())
    question, *rest = comment or [""]
    notes: list[str] = []
    parameters: dict[str, Parameter] = {}
    cost: Cost | None = None
    part_of: str | None = None
    for line in rest:
        if match := _PARAMETER.fullmatch(line):
            name = match["value"] or match["name"]
            bounds = (match["least"], match["most"]) if match["least"] else None
            parameters[name] = Parameter(name, match["type"] or "NAME", match["default"], bounds, match["description"])
        elif match := _PART_OF.fullmatch(line):
            part_of = match[1]
        elif match := _COST.fullmatch(line):
            cost = Cost(match[1])
        else:
            notes.append(line)
    if not question or cost is None:
        raise ValueError(f"{file}: the first comment must be a question, and a line '-- Cost: CLASS' is required")
    return Query(file.parent.name, file.stem, question, " ".join(notes), parameters, cost, part_of, text)
