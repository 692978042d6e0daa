"""The queries of `sql/`: questions with parameters, which `sluice sql` lists and runs.

A file begins with comment lines: the question; notes; a line for each parameter, which is a query parameter
(`@name TYPE = DEFAULT: what it is`) or the name of a table (`${name} NAME = DEFAULT: what it is`); and what it costs:

    -- Which customers are worth most to us?
    -- An order counts once, with its latest state.
    -- @days INT64 = 90: how many days back
    -- Cost: partitions

What lies between `-- Each table:` and `-- End.` is there for the table of each event type, with `${table}` for its name
and `${time_field}` for the column of the events' own time: joined by UNION ALL, or one after the other where it ends
with a semicolon. So a new event type is in every such query.
"""

import dataclasses
import enum
import pathlib
import re
import string
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from google.cloud.bigquery import ScalarQueryParameter

from functions.events import event_types
from functions.settings import Settings

FOLDER = pathlib.Path(__file__).parent.parent / "sql"
SUBJECTS = ("analytics", "monitoring", "maintenance")


class Cost(enum.StrEnum):
    """How much of the data a query reads: its cost class."""

    METADATA = "metadata"
    """INFORMATION_SCHEMA or nothing: at most 10 MB are billed for each of its views."""
    PARTITIONS = "partitions"
    """The columns that it names, of the days that its parameters choose."""
    TABLE = "table"
    """The columns that it names, of all days that the live tables keep."""
    HISTORY = "history"
    """The columns that it names, of all days ever."""


class WrongParameter(ValueError):
    """A parameter is unknown, missing, or not of its type; names it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """What a caller may choose.

    Attributes:
        name: Its name.
        type: INT64, FLOAT64, STRING, DATE, TIMESTAMP, or NAME: of a table or a snapshot, put into the text.
        default: As text; None where the caller has to choose. A DATE may be `today` or `yesterday`.
        description: What it is.
    """

    name: str
    type: str
    default: str | None
    description: str

    def value(self, text: str) -> Any:  # noqa: ANN401 - of the parameter's type
        """The value that a text stands for.

        Raises:
            WrongParameter: It is not of the type.
        """
        try:
            return _READERS[self.type](text)
        except ValueError as error:
            raise WrongParameter(f"{self.name}: {text!r} is no {self.type}") from error


def _date(text: str) -> date:
    today = datetime.now(UTC).date()
    relative = {"today": today, "yesterday": today - timedelta(days=1)}
    return relative.get(text) or date.fromisoformat(text)


def _timestamp(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _name(text: str) -> str:
    """https://cloud.google.com/bigquery/docs/tables#table_naming, less what would have to be quoted."""
    if not re.fullmatch(r"\w{1,1024}", text):
        raise ValueError(text)
    return text


_READERS: Mapping[str, Any] = {
    "INT64": int,
    "FLOAT64": float,
    "STRING": str,
    "DATE": _date,
    "TIMESTAMP": _timestamp,
    "NAME": _name,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Bound:
    """A query that is ready to run.

    Attributes:
        sql: The text, with all names filled in.
        parameters: For the `QueryJobConfig`.
    """

    sql: str
    parameters: list[ScalarQueryParameter]


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """A file of `sql/analytics`, `sql/monitoring` or `sql/maintenance`.

    Attributes:
        subject: Its folder.
        name: Its file's name.
        question: What it answers, or does.
        notes: How; may be empty.
        parameters: By name.
        cost: Its cost class.
        sql: The text, with `${...}` for names.
    """

    subject: str
    name: str
    question: str
    notes: str
    parameters: Mapping[str, Parameter]
    cost: Cost
    sql: str

    def written_out(self) -> str:
        """The text with its blocks for each table written out."""
        return _EACH_TABLE.sub(_for_each_table, self.sql)

    def bind(self, project: str, settings: Settings, given: Mapping[str, str]) -> Bound:
        """Fill in names and parameters.

        Args:
            project: The dataset's project.
            settings: Names of datasets, location, retention.
            given: The caller's parameters; the others have their defaults.

        Raises:
            WrongParameter: A parameter is unknown, missing or wrong.
        """
        if unknown := given.keys() - self.parameters.keys():
            known = ", ".join(self.parameters) or "none"
            raise WrongParameter(f"{self.name} has no parameter {', '.join(sorted(unknown))}; it has {known}")
        values: dict[str, Any] = {}
        for parameter in self.parameters.values():
            text = given.get(parameter.name, parameter.default)
            if text is None:
                raise WrongParameter(f"{self.name} needs {parameter.name}: {parameter.description}")
            values[parameter.name] = parameter.value(text)
        names = {name: value for name, value in values.items() if self.parameters[name].type == "NAME"}
        sql = string.Template(self.written_out()).substitute(
            names,
            project=project,
            dataset=settings.dataset,
            historical_dataset=settings.historical_dataset,
            location=settings.location,
            archive_bucket=settings.archive_bucket,
            retention_days=settings.retention_days,
        )
        bound = [
            ScalarQueryParameter(name, self.parameters[name].type, value)
            for name, value in values.items()
            if name not in names
        ]
        return Bound(sql, bound)


def queries(folder: pathlib.Path = FOLDER) -> dict[str, Query]:
    """All queries by name, in the order of their subjects.

    Raises:
        ValueError: A file does not begin as it should.
    """
    files = [file for subject in SUBJECTS for file in sorted((folder / subject).glob("*.sql"))]
    return {file.stem: _read(file) for file in files}


_EACH_TABLE = re.compile(r"^ *-- Each table:\n(.*?)\n *-- End\.$", re.DOTALL | re.MULTILINE)


def _for_each_table(block: re.Match[str]) -> str:
    one = string.Template(block[1])
    all_types = sorted(event_types().values(), key=lambda event_type: event_type.table)
    texts = [one.safe_substitute(table=each.table, time_field=each.time_field) for each in all_types]
    return ("\n" if block[1].endswith(";") else "\nUNION ALL\n").join(texts)


_PARAMETER = re.compile(r"(?:@(\w+) (INT64|FLOAT64|STRING|DATE|TIMESTAMP)|\$\{(\w+)\} (NAME))(?: = ([^:]+))?: (.+)")
_COST = re.compile(r"Cost: (\w+)")


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
    for line in rest:
        if match := _PARAMETER.fullmatch(line):
            name = match[1] or match[3]
            parameters[name] = Parameter(name, match[2] or match[4], match[5], match[6])
        elif match := _COST.fullmatch(line):
            cost = Cost(match[1])
        else:
            notes.append(line)
    if not question or cost is None:
        raise ValueError(f"{file}: must begin with its question and have a line '-- Cost: CLASS'")
    return Query(file.parent.name, file.stem, question, " ".join(notes), parameters, cost, text)
