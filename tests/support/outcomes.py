"""Events processed by the pipeline, which must make a row, or a dead letter, of them."""

from typing import Any

from functions.core.dead_letters import DeadLetter
from functions.core.rows import Row
from tests.support.samples import NOW, message, process


def row(payload: bytes | dict[str, Any], **attributes: str) -> Row:
    """Return the row that the pipeline makes of a payload."""
    outcome = process(message(payload, **attributes), NOW)
    assert isinstance(outcome, Row), outcome
    return outcome


def dead(payload: bytes | dict[str, Any], **attributes: str) -> DeadLetter:
    """Return the dead letter that the pipeline makes of a payload."""
    outcome = process(message(payload, **attributes), NOW)
    assert isinstance(outcome, DeadLetter), outcome
    return outcome
