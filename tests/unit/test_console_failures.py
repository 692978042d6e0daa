"""Parts of the pages of failures that need no data."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings

from functions.core.dead_letters import Stage
from sluice.console.failures import RuleParameters, rule, scale_until
from sluice.console.page import NotThere, WrongInput, parse
from sluice.console.replays import ReplayParameters
from sluice.dead_letters.payload_view import editable
from tests.support import hostile_events

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(("ago", "seconds"), [(0, 10), (86_400, 3_600), (86_401, 3_601)])
def test_a_trend_has_all_events_since_the_first(ago: int, seconds: int) -> None:
    scale = scale_until(NOW, NOW - timedelta(seconds=ago))
    assert scale.seconds == seconds
    assert scale.starts[0] == scale.start <= NOW - timedelta(seconds=ago)
    assert scale.starts[-1] + timedelta(seconds=scale.seconds) == NOW


def test_a_replay_needs_a_selection_and_has_a_command() -> None:
    with pytest.raises(WrongInput, match="all=true"):
        ReplayParameters().choice()
    assert ReplayParameters(all=True).command() == "sluice dead-letters replay --all"
    parameters = ReplayParameters(type="an order", stage=Stage.CONTRACT, since=NOW, event_id="7", message_id="1")
    several = ReplayParameters(fingerprint=("a", "b"))
    assert several.command() == "sluice dead-letters replay --fingerprint a --fingerprint b"
    assert parse([("fingerprint", "a"), ("fingerprint", "b"), ("all", "")], ReplayParameters) == several
    options = "--event 7 --type 'an order' --stage contract --since 2026-11-29T12:00:00Z"
    assert parameters.command() == f"sluice dead-letters replay {options}"


@settings(max_examples=100, deadline=None)
@given(hostile_events.payloads())
def test_a_payload_to_edit_is_the_payload(payload: bytes) -> None:
    text = editable(payload)
    try:
        payload.decode()
    except UnicodeDecodeError:
        assert text is None
    else:
        assert text is not None


def test_a_payload_is_formatted_where_this_changes_nothing() -> None:
    assert editable(b'{"a":1.50,"b":[]}') == '{\n  "a": 1.50,\n  "b": []\n}'
    assert editable(b'{"a": "\\u202e"}') == '{"a": "\\u202e"}'
    assert editable(b'{"a": ') == '{"a": '


def test_a_rule_that_no_stage_has_is_not_there() -> None:
    with pytest.raises(NotThere, match="the stage decode has no rule nothing"):
        rule(None, RuleParameters("nothing", Stage.DECODE))  # type: ignore[arg-type]
