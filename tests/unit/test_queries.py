"""`sluice.queries` renders the files of `sql/`, and these files follow its rules."""

import pathlib
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from functions.settings import Settings
from functions.source_files import InvalidFile
from sluice.queries import Cost, Query, WrongParameter, queries

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
        "-- {{ copy }} NAME: of the table\n-- Cost: partitions\nSELECT @days FROM {{ copy }} -- @other\n"
    )
    assert (query.subject, query.name, query.question) == ("maintenance", "example", "Who came?")
    assert (query.notes, query.cost) == ("Bots did not. Nor did others.", Cost.PARTITIONS)
    days, copy = query.parameters.values()
    assert (days.name, days.type, days.default, days.description) == ("days", "INT64", "90", "how many: at most")
    assert (copy.name, copy.type, copy.default, copy.description) == ("copy", "NAME", None, "of the table")
    assert (days.bounds, copy.bounds, query.part_of) == (None, None, None)


@pytest.mark.parametrize("text", ["SELECT 1", "-- What?\nSELECT 1", "-- Cost: table\nSELECT 1", ""])
def test_a_file_without_question_or_cost_is_named(write: Write, text: str) -> None:
    with pytest.raises(ValueError, match=r"example\.sql"):
        write(text)


def test_unknown_cost_class_is_rejected(write: Write) -> None:
    with pytest.raises(ValueError, match="cheap"):
        write("-- What?\n-- Cost: cheap\nSELECT 1")


@pytest.mark.parametrize(
    ("line", "default", "bounds", "text"),
    [
        ("@a INT64 = 30 (1 to 3650): it", "30", ("1", "3650"), "a = 30 (1 to 3650): it"),
        ("@a INT64 (-5 to 5): it", None, ("-5", "5"), "a (-5 to 5): it"),
        (
            "@a DATE = today (2000-01-01 to today): it",
            "today",
            ("2000-01-01", "today"),
            "a = today (2000-01-01 to today): it",
        ),
        ("@a STRING = x (y): it", "x (y)", None, "a = x (y): it"),
        ("@a STRING: it", None, None, "a: it"),
    ],
)
def test_a_parameter_may_have_bounds(
    write: Write, line: str, default: str | None, bounds: tuple[str, str] | None, text: str
) -> None:
    [it] = write(with_parameter(line)).parameters.values()
    assert (it.default, it.bounds, it.description, str(it)) == (default, bounds, "it", text)


@pytest.mark.parametrize(("text", "is_within"), [("1", True), ("30", True), ("0", False), ("31", False), ("-7", False)])
def test_value_out_of_bounds_is_rejected_with_the_rule(write: Write, text: str, *, is_within: bool) -> None:
    query = write(with_parameter("@days INT64 = 7 (1 to 30): how many"))
    if is_within:
        assert query.bind("project", SETTINGS, {"days": text}).parameters == {"days": ("INT64", int(text))}
    else:
        with pytest.raises(WrongParameter, match=f"^days: {text} is out of range; allowed is 1 to 30$"):
            query.bind("project", SETTINGS, {"days": text})


@pytest.mark.parametrize("text", ["nan", "inf", "-0.1"])
def test_infinite_and_nan_values_are_out_of_bounds(write: Write, text: str) -> None:
    query = write(with_parameter("@usd FLOAT64 = 6.25 (0 to 1000): a price"))
    with pytest.raises(WrongParameter, match=r"usd: .+ is out of range; allowed is 0 to 1000"):
        query.bind("project", SETTINGS, {"usd": text})


def test_a_file_may_be_part_of_a_command(write: Write) -> None:
    assert write(with_parameter("Part of: sluice restore")).part_of == "sluice restore"


def test_missing_parameter_has_its_default(write: Write) -> None:
    query = write("-- What?\n-- @a INT64 = 1: one\n-- @b STRING = x y: two\n-- Cost: table\nSELECT @a, @b\n")
    parameters = query.bind("project", SETTINGS, {"a": "-5"}).parameters
    assert parameters == {"a": ("INT64", -5), "b": ("STRING", "x y")}


def test_parameter_without_a_default_is_required(write: Write) -> None:
    query = write(with_parameter("@day DATE: which day"))
    with pytest.raises(WrongParameter, match="needs day: which day"):
        query.bind("project", SETTINGS, {})


def test_unknown_parameter_is_named_with_the_existing_ones(write: Write) -> None:
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
    assert bound.parameters == {"it": (type_, value)}
    [parameter] = bound.config().query_parameters
    assert (parameter.name, parameter.type_, parameter.value) == ("it", type_, value)
    assert bound.sql.endswith("SELECT @it\n")


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        ("INT64", f"{2**63}"),
        ("INT64", "1.5"),
        ("FLOAT64", "x"),
        ("DATE", "tomorrow"),
        ("TIMESTAMP", "noon"),
        ("INT64", ""),
    ],
)
def test_value_of_another_type_is_rejected(write: Write, type_: str, text: str) -> None:
    query = write(with_parameter(f"@it {type_} = 1: it"))
    with pytest.raises(WrongParameter, match=f"it: '{text}' is not of type {type_}"):
        query.bind("project", SETTINGS, {"it": text})


def test_a_date_may_be_today_or_yesterday_in_utc(write: Write) -> None:
    query = write("-- What?\n-- @a DATE = today: one\n-- @b DATE = yesterday: two\n-- Cost: table\nSELECT @a, @b\n")
    before = datetime.now(UTC).date()
    values = [value for _, value in query.bind("project", SETTINGS, {}).parameters.values()]
    today, yesterday = values
    assert before <= today <= datetime.now(UTC).date()
    assert today - yesterday == timedelta(days=1)


def test_rendered_query_has_literal_values(write: Write) -> None:
    header = "-- What?\n-- {{ name }} NAME: a table\n-- @days INT64 = 7: how many\n-- @who STRING: who\n"
    header += "-- @at TIMESTAMP: when\n-- @day DATE: which\n-- @usd FLOAT64 = 6.25: price\n-- Cost: table\n"
    sql = (
        "SELECT @days, @who, @at, @day, @usd, @@version, @other\n  -- not @days of {{ name }}\n"
        "FROM `{{ dataset }}.{{ name }}`\n"
    )
    given = {"name": "orders", "who": 'a "b"\n\\ü', "at": "2026-11-23T12:00:00", "day": "2026-11-23"}
    bound = write(header + sql).bind("project", SETTINGS, given)
    assert bound.with_values() == (
        f"{header}SELECT 7, \"a \\\"b\\\"\\n\\\\ü\", TIMESTAMP '2026-11-23T12:00:00+00:00', DATE '2026-11-23', 6.25, "
        "@@version, @other\n  -- not @days of orders\nFROM `live.orders`\n"
    )
    assert bound.sql == header + sql.replace("{{ dataset }}", "live").replace("{{ name }}", "orders")


def test_a_name_and_the_settings_are_put_into_the_text(write: Write) -> None:
    sql = "COPY `{{ project }}.{{ dataset }}.{{ it }}` `{{ historical_dataset }}` {{ location }} {{ retention_days }} "
    sql += "gs://{{ archive_bucket }}"
    bound = write(with_parameter("{{ it }} NAME = orders: which", sql)).bind("project", SETTINGS, {"it": "copy_1"})
    assert bound.sql.splitlines()[-1] == "COPY `project.live.copy_1` `old` us-central1 90 gs://raw"
    assert bound.parameters == {}


@pytest.mark.parametrize("text", ["", "a`; DROP TABLE b", "a.b", "a-b", "a\n", "a b", "{{ it }}", "@a", "x" * 1025])
def test_nothing_but_a_name_is_put_into_the_text(write: Write, text: str) -> None:
    query = write(with_parameter("{{ it }} NAME: which", "DROP TABLE `{{ it }}`"))
    with pytest.raises(WrongParameter, match="is not of type NAME"):
        query.bind("project", SETTINGS, {"it": text})


@pytest.mark.parametrize("query", queries().values(), ids=lambda query: query.name)
def test_parameters_are_declared_and_used(query: Query) -> None:
    code = "\n".join(line for line in query.template.splitlines() if not line.lstrip().startswith("--"))
    named = {name for name, parameter in query.parameters.items() if parameter.type == "NAME"}
    assert set(re.findall(r"(?<!@)@(\w+)", code)) == query.parameters.keys() - named
    any_of = {"NAME": "x", "TIMESTAMP": "1h"}
    chosen = {name: any_of[parameter.type] for name, parameter in query.parameters.items() if parameter.default is None}
    assert named <= set(re.findall(r"\{\{ (\w+)", code))
    bound = query.bind("project", SETTINGS, chosen)
    assert "{{" not in bound.sql.removeprefix(query.header)


@pytest.mark.parametrize("query", queries().values(), ids=lambda query: query.name)
def test_defaults_have_their_type_and_titles_are_questions(query: Query) -> None:
    for parameter in query.parameters.values():
        if parameter.default is not None:
            parameter.value(parameter.default)
        if parameter.bounds is not None:
            least, most = map(parameter.value, parameter.bounds)
            assert least < most
    if query.subject == "analytics":
        assert query.question.endswith("?")


def test_every_number_has_bounds_but_a_stock_which_may_be_anything() -> None:
    without = {
        f"{query.name}.{name}"
        for query in queries().values()
        for name, parameter in query.parameters.items()
        if parameter.type in {"INT64", "FLOAT64"} and parameter.bounds is None
    }
    assert without == {"low_stock.threshold"}


@pytest.mark.parametrize(("sql", "why"), [("SELECT {{ nothing }}", "'nothing' is undefined"), ("{% for %}", "xpected")])
def test_a_template_with_an_error_or_an_unknown_name_is_rejected(write: Write, sql: str, why: str) -> None:
    with pytest.raises(InvalidFile, match=rf"^sql/.*\.sql: .*{why}"):
        write(with_parameter("Part of: x", sql)).bind("project", SETTINGS, {})
