"""The queries of `sql/`: questions with parameters, which `sluice sql` lists and runs.

A file begins with comment lines: the question; notes; a line for each parameter; and what it costs. A parameter is a
query parameter (`@name TYPE = DEFAULT (LEAST to MOST): what it is`) or the name of a table
(`{{ name }} NAME = DEFAULT: what it is`):

    -- Which customers are worth most to us?
    -- An order counts once, with its latest state.
    -- @days INT64 = 90 (0 to 3650): how many days back
    -- Cost: partitions

Defaults and bounds may be left out. A TIMESTAMP may be `now`, or how long ago: `90m`, `24h`, `7d`. A query that must
not be run alone also has the line `-- Part of: COMMAND`, with the command that runs it. A line
`-- Chart: KIND of VALUE by LABEL, ...` names the columns of the answer that the console draws:

    -- Chart: bars of lifetime_value by customer_id
    -- Chart: series of row_count by minute, table_name
    -- Chart: funnel of users_this_far by activity_type
    -- Chart: matrix of retention by cohort, months_later

The rest of a file is a Jinja2 template. Its names are `project`, `dataset`, `historical_dataset`, `location`,
`archive_bucket`, `retention_days`, `latest_first`, the NAME parameters, and `event_types`: the `name`, `table` and
`time_field` of each event type, in the order of their tables. A query that loops over them includes every new event
type.
"""

import dataclasses
import enum
import itertools
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from google.api_core.retry import Retry
from google.cloud.bigquery import Client, QueryJobConfig
from google.cloud.bigquery.retry import DEFAULT_RETRY
from google.cloud.bigquery.table import RowIterator

from functions.events import event_types
from functions.schema.definitions import parameters_of
from functions.settings import Settings
from functions.source_files import InvalidFile, reading
from functions.sql import Parameter as TypedValue
from functions.sql import query_config, render
from sluice.cost.prices import QUERIED_BYTES
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


def price(size: int) -> Decimal:
    """Return the price in USD of a query that scans `size` bytes."""
    return Decimal(str(QUERIED_BYTES.usd)) * size / 2**40


def short_retry() -> Retry:
    """Return a retry that ends after 20 seconds. The default would retry for ten minutes, and restart jobs."""
    return DEFAULT_RETRY.with_timeout(20)


def rows_of(client: Client, sql: str, config: QueryJobConfig | None = None) -> RowIterator:
    """Return the rows of a query. A service that does not answer is reported after 20 seconds.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected the query or did not answer.
    """
    return client.query_and_wait(sql, job_config=config, retry=short_retry(), job_retry=None)  # type: ignore[arg-type]


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


class ChartKind(enum.StrEnum):
    """Kind of a chart."""

    BARS = "bars"
    """A bar for each combination of the labels."""
    SERIES = "series"
    """A line over the first label, which is a time; one for each value of the second label, if there is one."""
    FUNNEL = "funnel"
    """A bar for each step, with its share of the step before."""
    MATRIX = "matrix"
    """A cell for each combination of two labels; the values are shares."""


@dataclasses.dataclass(frozen=True, slots=True)
class ChartColumns:
    """The chart of an answer.

    Attributes:
        kind: Kind of the chart.
        value: Column that it shows.
        labels: Columns by which it shows it.
    """

    kind: ChartKind
    value: str
    labels: Sequence[str]


@dataclasses.dataclass(frozen=True, slots=True)
class RenderedQuery:
    """A query that is ready to run.

    Attributes:
        sql: The text, with all names filled in.
        parameters: Type and value of each query parameter, by name.
    """

    sql: str
    parameters: Mapping[str, TypedValue]

    def config(self) -> QueryJobConfig:
        """Return the configuration of a job that runs the query."""
        return query_config(**self.parameters)

    def with_values(self) -> str:
        """Return the text with the values of the parameters as literals."""
        return with_literals(self.sql, {name: _literal(value) for name, (_, value) in self.parameters.items()})


def with_literals(sql: str, literals: Mapping[str, str]) -> str:
    """Return a statement with literals in the places of its query parameters; comment lines stay as they are."""
    lines = sql.splitlines(keepends=True)
    return "".join(
        line if line.lstrip().startswith("--") else _NAMED.sub(lambda named: literals.get(named[1], named[0]), line)
        for line in lines
    )


_NAMED = re.compile(r"(?<!@)@(\w+)")


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
        chart: Chart of the answer; None for none.
        header: Comment lines at the beginning, which say all of that.
        template: The statement, a template.
    """

    subject: str
    name: str
    question: str
    notes: str
    parameters: Mapping[str, Parameter]
    cost: Cost
    part_of: str | None
    chart: ChartColumns | None
    header: str
    template: str

    def names(self) -> list[str]:
        """Return the names of the parameters that are put into the text."""
        return [parameter.name for parameter in self.parameters.values() if parameter.type == "NAME"]

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
        names = {name: values.pop(name) for name in self.names()}
        with reading(f"sql/{self.subject}/{self.name}.sql"):
            sql = self.header + render(self.template, **template_names(project, settings), **names)
        return RenderedQuery(sql, {name: (self.parameters[name].type, value) for name, value in values.items()})


class EventTable(NamedTuple):
    """An event type, as templates use it.

    Attributes:
        name: Name of the event type.
        table: Name of its table.
        time_field: Column with the events' own time.
    """

    name: str
    table: str
    time_field: str


def template_names(project: str, settings: Settings) -> dict[str, Any]:
    """Return the names that the template of any query may use, with their values."""
    tables = [EventTable(name, event_type.table, event_type.time_field) for name, event_type in event_types().items()]
    return {
        **parameters_of(project, settings),
        "archive_bucket": settings.archive_bucket,
        "event_types": sorted(tables, key=lambda event_type: event_type.table),
    }


def queries(folder: pathlib.Path = FOLDER) -> dict[str, Query]:
    """Return all queries by name, in the order of their subjects.

    Raises:
        InvalidFile: A file does not begin with the required comments.
    """
    files = [file for subject in SUBJECTS for file in sorted((folder / subject).glob("*.sql"))]
    return {file.stem: _read(file) for file in files}


_PARAMETER = re.compile(
    r"(?:@(?P<value>\w+) (?P<type>INT64|FLOAT64|STRING|DATE|TIMESTAMP)|\{\{ (?P<name>\w+) \}\} NAME)"
    r"(?: = (?P<default>[^:]+?))?(?: \((?P<least>\S+) to (?P<most>\S+)\))?: (?P<description>.+)"
)
_COST = re.compile(r"Cost: (\w+)")
_PART_OF = re.compile(r"Part of: (.+)")
_CHART = re.compile(r"Chart: (\w+) of (\w+) by (\w+(?:, \w+)*)")


def _read(file: pathlib.Path) -> Query:
    text = file.read_text(encoding="utf-8")
    lines = itertools.takewhile(lambda line: line.startswith("--"), text.splitlines(keepends=True))
    header = "".join(lines)
    question, *rest = [line.removeprefix("--").strip() for line in header.splitlines()] or [""]
    notes: list[str] = []
    parameters: dict[str, Parameter] = {}
    cost: Cost | None = None
    part_of: str | None = None
    chart: ChartColumns | None = None
    for line in rest:
        if match := _PARAMETER.fullmatch(line):
            name = match["value"] or match["name"]
            bounds = (match["least"], match["most"]) if match["least"] else None
            parameters[name] = Parameter(name, match["type"] or "NAME", match["default"], bounds, match["description"])
        elif match := _PART_OF.fullmatch(line):
            part_of = match[1]
        elif match := _CHART.fullmatch(line):
            chart = ChartColumns(ChartKind(match[1]), match[2], match[3].split(", "))
        elif match := _COST.fullmatch(line):
            with reading(f"sql/{file.parent.name}/{file.name}"):
                cost = Cost(match[1])
        else:
            notes.append(line)
    if not question or cost is None:
        raise InvalidFile(
            f"sql/{file.parent.name}/{file.name}: the first comment must be a question, and a line '-- Cost: CLASS' is"
            " required"
        )
    template = text.removeprefix(header)
    described = (file.parent.name, file.stem, question, " ".join(notes))
    return Query(*described, parameters, cost, part_of, chart, header, template)
