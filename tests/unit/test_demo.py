"""The result that `sluice demo` shows."""

import collections
import io

import pytest
from rich.console import Console

from sluice.commands import stack
from sluice.demo.check import WarehouseContents
from sluice.demo.run import Demo, _show_accounts
from sluice.shop.generator import Generated


@pytest.mark.parametrize(
    ("rows", "letters", "line"),
    [
        (1, 1, None),
        (3, 1, "2 more rows than events: a message has a row for each time that it was published or delivered"),
        (2, 2, "2 more rows than events"),
    ],
)
def test_rows_that_are_more_than_the_events_have_a_reason(rows: int, letters: int, line: str | None) -> None:
    published = [Generated(b"{}", {"event_id": "a"}, "good"), Generated(b"", {"event_id": "b"}, "bad", "empty")]
    contents = WarehouseContents({"orders": {"a": rows}}, {("decode", "json"): collections.Counter({"b": letters})})
    console = Console(file=io.StringIO(), width=200)
    _show_accounts(console, Demo(published, {"a": [b"{}"], "b": [b""]}, 1, contents, 1.0))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Every published event is accounted for: 2 of 2" in shown
    assert ("more rows than events" in shown) == (line is not None)
    assert (line or "") in shown


def test_no_answer_to_the_question_of_the_demo_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer, is_yes in (("", False), ("n\n", False), ("y\n", True)):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert stack._confirmed("Keep the stack running?") == is_yes
