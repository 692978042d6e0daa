"""What `ops.queries` makes of the files of `sql/`, and what these files have to be."""

import pathlib
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from functions.settings import Settings
from ops.queries import Cost, Query, WrongParameter, queries

SETTINGS = Settings(archive_bucket="raw", dataset="live", historical_dataset="old")

type Write = Callable[[str], Query]


@pytest.fixture
def write(tmp_path: pathlib.Path) -> Write:
    """Makes a query of a file's text."""

    def make(text: str) -> Query:
        folder = tmp_path / "maintenance"
        folder.mkdir()
        (folder / "example.sql").write_text(text)
        return queries(tmp_path)["example"]

    return make


def with_parameter(line: str, sql: str = "SELECT 1") -> str:
    return f"-- What?\n-- {line}\n-- Cost: table\n{sql}\n"


def test_a_header_says_question_notes_parameters_and_cost(write: Write) -> None:
    query = write(
        "-- Who came?\n-- Bots did not.\n-- Nor did others.\n-- @days INT64 = 90: how many: at most\n"
        "-- ${copy} NAME: of the table\n-- Cost: partitions\nSELECT @days FROM ${copy} -- @other\n"
    )
    assert (query.subject, query.name, query.question) == ("maintenance", "example", "Who came?")
    assert (query.notes, query.cost) == ("Bots did not. Nor did others.", Cost.PARTITIONS)
    days, copy = query.parameters.values()
    assert (days.name, days.type, days.default, days.description) == ("days", "INT64", "90", "how many: at most")
    assert (copy.name, copy.type, copy.default, copy.description) == ("copy", "NAME", None, "of the table")


@pytest.mark.parametrize("text", ["SELECT 1", "-- What?\nSELECT 1", "-- Cost: table\nSELECT 1", ""])
def test_a_file_without_question_or_cost_is_named(write: Write, text: str) -> None:
    with pytest.raises(ValueError, match=r"example\.sql"):
        write(text)


def test_a_cost_class_that_there_is_not_is_refused(write: Write) -> None:
    with pytest.raises(ValueError, match="cheap"):
        write("-- What?\n-- Cost: cheap\nSELECT 1")


def test_what_is_not_given_has_its_default(write: Write) -> None:
    query = write("-- What?\n-- @a INT64 = 1: one\n-- @b STRING = x y: two\n-- Cost: table\nSELECT @a, @b\n")
    values = {one.name: one.value for one in query.bind("project", SETTINGS, {"a": "-5"}).parameters}
    assert values == {"a": -5, "b": "x y"}


def test_what_has_no_default_has_to_be_given(write: Write) -> None:
    query = write(with_parameter("@day DATE: which day"))
    with pytest.raises(WrongParameter, match="needs day: which day"):
        query.bind("project", SETTINGS, {})


def test_a_parameter_that_there_is_not_is_named_with_those_that_there_are(write: Write) -> None:
    query = write(with_parameter("@days INT64 = 1: how many"))
    with pytest.raises(WrongParameter, match="no parameter day; it has days"):
        query.bind("project", SETTINGS, {"day": "1"})


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        ("INT64", "-7", -7),
        ("FLOAT64", "0.25", 0.25),
        ("STRING", "'; DROP TABLE orders; --", "'; DROP TABLE orders; --"),
        ("DATE", "2026-11-23", date(2026, 11, 23)),
        ("TIMESTAMP", "2026-11-23T12:00:00", datetime(2026, 11, 23, 12, tzinfo=UTC)),
        ("TIMESTAMP", "2026-11-23 12:00+05:30", datetime(2026, 11, 23, 6, 30, tzinfo=UTC)),
    ],
)
def test_values_are_of_their_parameters_type_and_not_in_the_text(
    write: Write, type_: str, text: str, value: object
) -> None:
    bound = write(with_parameter(f"@it {type_}: it", "SELECT @it")).bind("project", SETTINGS, {"it": text})
    [parameter] = bound.parameters
    assert (parameter.name, parameter.type_, parameter.value) == ("it", type_, value)
    assert bound.sql.endswith("SELECT @it\n")


@pytest.mark.parametrize(
    ("type_", "text"), [("INT64", "1.5"), ("FLOAT64", "x"), ("DATE", "tomorrow"), ("TIMESTAMP", "noon"), ("INT64", "")]
)
def test_a_value_of_another_type_is_refused(write: Write, type_: str, text: str) -> None:
    query = write(with_parameter(f"@it {type_} = 1: it"))
    with pytest.raises(WrongParameter, match=f"it: '{text}' is no {type_}"):
        query.bind("project", SETTINGS, {"it": text})


def test_a_date_may_be_today_or_yesterday_in_utc(write: Write) -> None:
    query = write("-- What?\n-- @a DATE = today: one\n-- @b DATE = yesterday: two\n-- Cost: table\nSELECT @a, @b\n")
    before = datetime.now(UTC).date()
    values: list[Any] = [one.value for one in query.bind("project", SETTINGS, {}).parameters]
    today, yesterday = values
    assert before <= today <= datetime.now(UTC).date()
    assert today - yesterday == timedelta(days=1)


def test_a_name_and_the_settings_are_put_into_the_text(write: Write) -> None:
    sql = "COPY `${project}.${dataset}.${it}` `${historical_dataset}` ${location} ${retention_days} gs://${archive_bucket}"
    bound = write(with_parameter("${it} NAME = orders: which", sql)).bind("project", SETTINGS, {"it": "copy_1"})
    assert bound.sql.splitlines()[-1] == "COPY `project.live.copy_1` `old` us-central1 90 gs://raw"
    assert bound.parameters == []


@pytest.mark.parametrize("text", ["", "a`; DROP TABLE b", "a.b", "a-b", "a\n", "a b", "${project}", "@a", "x" * 1025])
def test_nothing_but_a_name_is_put_into_the_text(write: Write, text: str) -> None:
    query = write(with_parameter("${it} NAME: which", "DROP TABLE `${it}`"))
    with pytest.raises(WrongParameter, match="is no NAME"):
        query.bind("project", SETTINGS, {"it": text})


@pytest.mark.parametrize("query", queries().values(), ids=lambda query: query.name)
def test_every_parameter_of_a_file_is_used_and_every_one_that_is_used_is_declared(query: Query) -> None:
    code = "\n".join(line for line in query.sql.splitlines() if not line.lstrip().startswith("--"))
    named = {name for name, parameter in query.parameters.items() if parameter.type == "NAME"}
    assert set(re.findall(r"(?<!@)@(\w+)", code)) == query.parameters.keys() - named
    any_of = {"NAME": "x", "TIMESTAMP": "2026-11-23T12:00:00Z"}
    chosen = {name: any_of[one.type] for name, one in query.parameters.items() if one.default is None}
    assert named <= set(re.findall(r"\$\{(\w+)\}", code))
    assert "${" not in query.bind("project", SETTINGS, chosen).sql


@pytest.mark.parametrize("query", queries().values(), ids=lambda query: query.name)
def test_every_default_is_of_its_type_and_every_question_ends_as_one(query: Query) -> None:
    for parameter in query.parameters.values():
        if parameter.default is not None:
            parameter.value(parameter.default)
    if query.subject == "analytics":
        assert query.question.endswith("?")
