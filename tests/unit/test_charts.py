"""Charts of rows."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from sluice.console.answers import QueryParameters
from sluice.console.charts import MAX_BARS, chart_of, size
from sluice.console.page import parse
from sluice.queries import ChartColumns, ChartKind, queries

STOCK = ChartColumns(ChartKind.BARS, "units", ["product"])
REVENUE = ChartColumns(ChartKind.SERIES, "revenue", ["day"])


def test_bars_begin_at_zero_on_both_sides() -> None:
    chart = chart_of(STOCK, [{"product": "CUP", "units": -5}, {"product": "TEA", "units": Decimal(15)}])
    assert chart
    assert [(bar.label, bar.text, bar.x, bar.width) for bar in chart.bars] == [
        ("CUP", "-5", 0.0, 25.0),
        ("TEA", "15", 25.0, 75.0),
    ]
    assert chart.title == "units by product"


def test_rows_of_one_label_are_one_bar_and_the_largest_is_first() -> None:
    chart = chart_of(STOCK, [{"product": name, "units": 1} for name in ("CUP", "TEA", "TEA", None)])
    assert chart
    assert [(bar.label, bar.text) for bar in chart.bars] == [("TEA", "2"), ("CUP", "1"), ("(none)", "1")]


def test_bars_beyond_the_maximum_are_counted() -> None:
    chart = chart_of(
        STOCK, [{"product": f"a product of the shop, number {number}", "units": 0} for number in range(30)]
    )
    assert chart
    assert (len(chart.bars), chart.left_out) == (MAX_BARS, 30 - MAX_BARS)
    assert chart.bars[0].short == "a product of the shop, nu…"


def test_a_series_has_round_ticks_and_gaps() -> None:
    revenues = [Decimal(0), None, Decimal("1030.5"), Decimal(500)]
    rows = [{"day": date(2026, 11, day), "revenue": revenue} for day, revenue in enumerate(revenues, 1)]
    chart = chart_of(REVENUE, list(reversed(rows)))
    assert chart
    assert [(tick.text, tick.at) for tick in chart.y] == [
        ("0", 100.0),
        ("500", 66.67),
        ("1,000", 33.33),
        ("1,500", 0.0),
    ]
    assert [tick.text for tick in chart.x] == ["Nov 1", "Nov 2", "Nov 3", "Nov 4"]
    [line] = chart.lines
    assert line.segments == ["0.0,100.0", "66.67,31.3 100.0,66.67"]
    assert line.dots[1] == (66.67, 31.3, "2026-11-03: 1,030.5")


def test_a_series_of_one_time_and_of_zeros_can_be_drawn() -> None:
    at = datetime(2026, 11, 1, 12, 30, tzinfo=UTC)
    columns = ChartColumns(ChartKind.SERIES, "rows", ["minute", "table"])
    chart = chart_of(columns, [{"minute": at, "rows": 0, "table": table} for table in ("b", "a")])
    assert chart
    assert [(line.name, line.segments) for line in chart.lines] == [("a", ["50.0,100.0"]), ("b", ["50.0,100.0"])]
    assert [tick.text for tick in chart.x] == ["12:30"]


def test_a_funnel_leaves_out_what_is_no_step() -> None:
    columns = ChartColumns(ChartKind.FUNNEL, "users", ["step"])
    rows: list[dict[str, Any]] = [{"step": step, "users": users} for step, users in (("a", 8), ("b", 2), ("c", None))]
    chart = chart_of(columns, rows)
    assert chart
    assert [(bar.label, bar.text, bar.x, bar.width) for bar in chart.bars] == [
        ("a", "8", 0.0, 100.0),
        ("b", "2 (25.0%)", 37.5, 25.0),
    ]


def test_a_matrix_has_a_cell_for_each_pair() -> None:
    columns = ChartColumns(ChartKind.MATRIX, "retention", ["cohort", "later"])
    rows = [{"cohort": date(2026, 10, 1), "later": later, "retention": 1 - later * 0.4} for later in (0, 1)]
    chart = chart_of(columns, [*rows, {"cohort": date(2026, 9, 1), "later": 0, "retention": None}])
    assert chart
    assert (chart.rows, chart.columns) == (["2026-09-01", "2026-10-01"], ["0", "1"])
    assert [(cell.row, cell.column, cell.text) for cell in chart.cells] == [(1, 0, "100%"), (1, 1, "60%")]


def test_without_values_there_is_no_chart() -> None:
    assert chart_of(REVENUE, []) is None
    assert chart_of(REVENUE, [{"day": date(2026, 11, 1), "revenue": None}]) is None
    assert chart_of(None, [{"day": 1}]) is None


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (2**51, "2,048.0 TiB")])
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert size(count) == text


def test_parameters_of_a_query_are_entries_of_one_field() -> None:
    fields = {"name": "q", "param.days": "7", "param.": "", "other.days": "8", "run": "1"}
    parameters = parse(fields.items(), QueryParameters)
    assert parameters == QueryParameters("q", run=True, param={"days": "7"})


def test_no_line_about_a_chart_is_taken_for_a_note() -> None:
    assert [query.name for query in queries().values() if "Chart:" in query.notes] == []
