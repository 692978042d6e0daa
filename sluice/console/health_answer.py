"""The answers of the page of health. What cannot be read is an answer, too."""

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec

from functions.settings import InvalidSettings
from sluice.commands.error_messages import message
from sluice.console.page import FAILURES
from sluice.verify.project import Failed, Unknown

type State = Literal["ok", "problem", "unknown"]

_NOT_READABLE = (*FAILURES, Failed, Unknown, InvalidSettings, msgspec.DecodeError)
"""Errors that leave one question without an answer, and the others with theirs."""


class Answer(msgspec.Struct, frozen=True):
    """The answer to a question.

    Attributes:
        question: The question.
        state: Whether it is as it should be; `unknown` if it cannot be known here.
        answer: The answer, or why there is none.
        since: Time of what it says, or since which it is so.
        todo: What to do; empty if there is nothing to do.
        runbook: The section of the documentation that says more.
    """

    question: str
    state: State
    answer: str
    since: datetime | None = None
    todo: str = ""
    runbook: str = ""


@dataclasses.dataclass(frozen=True)
class Read[T]:
    """A value that was read, or the reason why it could not be."""

    value: T | None = None
    problem: str = ""


def read[T](call: Callable[[], T]) -> Read[T]:
    """Return the result of a call, or the reason why it has failed."""
    try:
        return Read(call())
    except _NOT_READABLE as error:
        return Read(problem=str(error) if isinstance(error, (Failed, Unknown, InvalidSettings)) else message(error))
