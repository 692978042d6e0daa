"""Charts of rows, as the templates draw them: SVG with a table under it.

Places and lengths are percents of the chart, whose size is for the style sheet to say.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from sluice.formatting import readable
from sluice.queries import ChartColumns, ChartKind

MAX_BARS = 20
"""Maximum number of bars; the table has the other rows too."""

_MAX_DOTS = 100
"""Maximum number of points of a line that are drawn as dots with their value."""
_TICKS = 4
_SHORT_LABEL = 26
_STEP_FACTORS = (1, 2, 5, 10)

type Row = Mapping[str, Any]


class Bar(msgspec.Struct, frozen=True):
    """A bar.

    Attributes:
        label: Its label.
        short: The same, cut to fit beside the bar.
        text: Its value, in a funnel with the share of the step before.
        x: Its beginning.
        width: Its length.
    """

    label: str
    short: str
    text: str
    x: float
    width: float


class Tick(msgspec.Struct, frozen=True):
    """A labelled place of an axis.

    Attributes:
        text: Its label.
        at: Place from the left or from the top.
    """

    text: str
    at: float


class Line(msgspec.Struct, frozen=True):
    """A line of a series.

    Attributes:
        name: Its name; empty if there is only one.
        segments: Points of each part without a gap, `x,y x,y`.
        dots: Points with their text; empty if there are too many.
    """

    name: str
    segments: Sequence[str]
    dots: Sequence[tuple[float, float, str]]


class Cell(msgspec.Struct, frozen=True):
    """A cell of a matrix.

    Attributes:
        column: Index of its column.
        row: Index of its row.
        text: Its value.
        share: Its value from 0 to 1.
    """

    column: int
    row: int
    text: str
    share: float


class Chart(msgspec.Struct, frozen=True):
    """A chart.

    Attributes:
        kind: Its kind.
        title: What it shows.
        bars: Bars of bars and of a funnel.
        left_out: Number of bars that are not drawn.
        lines: Lines of a series.
        y: Ticks of the values of a series.
        x: Ticks of the times of a series.
        rows: Labels of the rows of a matrix.
        columns: Labels of its columns.
        cells: Its cells.
    """

    kind: ChartKind
    title: str
    bars: Sequence[Bar] = ()
    left_out: int = 0
    lines: Sequence[Line] = ()
    y: Sequence[Tick] = ()
    x: Sequence[Tick] = ()
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    cells: Sequence[Cell] = ()


def chart_of(columns: ChartColumns | None, rows: Sequence[Row]) -> Chart | None:
    """Return the chart of rows; None if they have no value to draw.

    Args:
        columns: The columns that it shows; None for no chart.
        rows: The rows. Those whose value is NULL are left out, in a series they are gaps.
    """
    if columns is None or all(row[columns.value] is None for row in rows):
        return None
    title = f"{_words(columns.value)} by {' and '.join(map(_words, columns.labels))}"
    match columns.kind:
        case ChartKind.BARS:
            return _bars(title, columns, rows)
        case ChartKind.FUNNEL:
            return _funnel(title, columns, rows)
        case ChartKind.SERIES:
            return _series(title, columns, rows)
        case ChartKind.MATRIX:
            return _matrix(title, columns, rows)


def cell(value: object) -> str:
    """Return a value as the cell of a table."""
    return _number(value) if isinstance(value, int | Decimal) else readable(value).plain


def size(value: int | None) -> str:
    """Return a number of bytes for people."""
    if value is None:
        return ""
    unit = min(int(math.log(value, 1024)), 4) if value else 0
    return f"{value / 1024**unit:,.{1 if unit else 0}f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def _words(column: str) -> str:
    return column.replace("_", " ")


def _number(value: float | Decimal) -> str:
    """Return a number for people: of a fraction at most four digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}".rstrip("0").rstrip(".")


def _label(row: Row, labels: Sequence[str]) -> str:
    return ", ".join("(none)" if row[label] is None else readable(row[label]).plain for label in labels)


def _short(label: str) -> str:
    return label if len(label) <= _SHORT_LABEL else f"{label[: _SHORT_LABEL - 1]}…"


def _bars(title: str, columns: ChartColumns, rows: Sequence[Row]) -> Chart:
    """Return a bar for each label in the order of the rows. If rows share a label, the largest sum is the first."""
    totals: dict[str, Any] = {}
    count = 0
    for row in rows:
        if (value := row[columns.value]) is not None:
            label = _label(row, columns.labels)
            totals[label] = totals.get(label, 0) + value
            count += 1
    if count > len(totals):
        totals = dict(sorted(totals.items(), key=lambda total: total[1], reverse=True))
    drawn = dict(list(totals.items())[:MAX_BARS])
    least, most = min(0.0, *map(float, drawn.values())), max(0.0, *map(float, drawn.values()))
    length = most - least or 1.0
    bars = [
        Bar(
            label,
            _short(label),
            _number(value),
            x=_percent((min(float(value), 0.0) - least) / length),
            width=_percent(abs(float(value)) / length),
        )
        for label, value in drawn.items()
    ]
    return Chart(columns.kind, title, bars=bars, left_out=len(totals) - len(drawn))


def _funnel(title: str, columns: ChartColumns, rows: Sequence[Row]) -> Chart:
    steps = [(_label(row, columns.labels), row[columns.value]) for row in rows if row[columns.value] is not None]
    most = max(float(value) for _, value in steps) or 1.0
    bars = []
    before = None
    for label, value in steps:
        share = f" ({float(value) / float(before):.1%})" if before else ""
        width = float(value) / most
        bars.append(Bar(label, _short(label), _number(value) + share, _percent((1 - width) / 2), _percent(width)))
        before = value
    return Chart(columns.kind, f"{title}; in brackets the share of the step before", bars=bars)


def _series(title: str, columns: ChartColumns, rows: Sequence[Row]) -> Chart:
    over, *by = columns.labels
    names = sorted({_label(row, by) for row in rows})
    times = sorted({_time(row[over]) for row in rows})
    first, length = times[0], (times[-1] - times[0]) / timedelta(seconds=1) or 1.0
    values = [float(row[columns.value]) for row in rows if row[columns.value] is not None]
    ticks = _steps(min(0.0, *values), max(0.0, *values))
    least, height = ticks[0], ticks[-1] - ticks[0]

    def x(moment: datetime) -> float:
        return _percent((moment - first) / timedelta(seconds=1) / length) if len(times) > 1 else 50.0

    def y(value: float) -> float:
        return _percent(1 - (value - least) / height)

    lines = []
    for name in names:
        points = sorted((_time(row[over]), row) for row in rows if _label(row, by) == name)
        lines.append(_line(name, [(x(at), row, row[columns.value]) for at, row in points], over, y))
    return Chart(
        columns.kind,
        title,
        lines=lines,
        y=[Tick(_number(tick), y(tick)) for tick in ticks],
        x=[Tick(_short_time(at, times), x(at)) for at in _spread(times)],
    )


def _line(name: str, points: Sequence[tuple[float, Row, Any]], over: str, y: Callable[[float], float]) -> Line:
    segments: list[list[str]] = [[]]
    dots = []
    for x, row, value in points:
        if value is None:
            segments.append([])
            continue
        segments[-1].append(f"{x},{y(float(value))}")
        dots.append((x, y(float(value)), f"{_label(row, [over])}: {_number(value)}"))
    return Line(name, [" ".join(segment) for segment in segments if segment], dots if len(dots) <= _MAX_DOTS else ())


def _matrix(title: str, columns: ChartColumns, rows: Sequence[Row]) -> Chart:
    down, across = columns.labels
    row_values = sorted({row[down] for row in rows})
    column_values = sorted({row[across] for row in rows})
    cells = [
        Cell(
            column_values.index(row[across]),
            row_values.index(row[down]),
            f"{float(row[columns.value]):.0%}",
            min(max(float(row[columns.value]), 0.0), 1.0),
        )
        for row in rows
        if row[columns.value] is not None
    ]
    labels = [_label(row, [down]) for row in ({down: value} for value in row_values)]
    return Chart(
        columns.kind, title, rows=labels, columns=[readable(value).plain for value in column_values], cells=cells
    )


def _percent(share: float) -> float:
    return round(100 * share, 2)


def _steps(least: float, most: float) -> list[float]:
    """Return round numbers in equal steps, from at most the least to at least the largest value."""
    length = most - least or 1.0
    magnitude = 10 ** math.floor(math.log10(length / _TICKS))
    step = next(factor * magnitude for factor in _STEP_FACTORS if factor * magnitude * _TICKS >= length * 0.999)
    first, last = math.floor(least / step), math.ceil(most / step)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _time(value: date | datetime) -> datetime:
    return value if isinstance(value, datetime) else datetime.combine(value, time(), UTC)


def _spread(times: Sequence[datetime]) -> list[datetime]:
    """Return up to five of the times, in equal distances."""
    count = min(len(times), 5)
    return [times[round(index * (len(times) - 1) / max(count - 1, 1))] for index in range(count)]


def _short_time(at: datetime, times: Sequence[datetime]) -> str:
    is_days = all(moment.time() == time() for moment in times)
    return f"{at:%b %-d}" if is_days else f"{at:%H:%M}" if times[-1] - times[0] < timedelta(1) else f"{at:%b %-d %H:%M}"
