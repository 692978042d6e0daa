"""docs/errors.md: each rule and each HTTP status is one that the code gives, and each that it gives is there."""

import json
import os
import pathlib
import re
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from starlette.requests import ClientDisconnect, Request

from functions.core.contracts import FOLDER
from functions.core.dead_letters import DeadLetter, Stage
from functions.core.message import MAX_EVENT_BYTES, Message, NotAMessage
from functions.ingest.admission import Admission, Overloaded
from functions.ingest.app import IngestApp
from functions.ingest.batch_writer import NotDurable
from functions.settings import Settings
from functions.system import SYSTEM
from sluice.dead_letters import rules as rules_module
from tests.support import hostile_events
from tests.support.samples import NOW, event, message, process

FILE = pathlib.Path(__file__).parents[2] / "docs" / "errors.md"
PAGE = FILE.read_text()

NAMED_BY_OTHERS = {Stage.ENRICH, Stage.WAREHOUSE}
"""Stages whose rules are the names of exceptions and the reasons of BigQuery."""


RULES = {
    rules.stage: {name for rule in rules.rules for name in rule.names}
    for rules in rules_module.RULES
    if rules.stage not in NAMED_BY_OTHERS
}


def order(**changes: Any) -> Message:
    return message(event("order", **changes))


def activity(**changes: Any) -> Message:
    return message(event("user_activity", **changes))


EXAMPLES = {
    (Stage.DECODE, "json"): message(b'{"order_id": '),
    (Stage.DECODE, "utf-8"): message(b'{"order_id": "\xff"}'),
    (Stage.DECODE, "type"): message(b"[]"),
    (Stage.DECODE, "number"): message(b'{"total_amount": 1e99999999999999999999}'),
    (Stage.DECODE, "uniqueKeys"): message(b'{"order_id": "1", "order_id": "2"}'),
    (Stage.DECODE, "maxBytes"): message(b" " * (MAX_EVENT_BYTES + 1)),
    (Stage.DECODE, "maxDepth"): message(b'{"a":' * 101 + b"1" + b"}" * 101),
    (Stage.DECODE, "maxValues"): message(json.dumps({"a": [0] * 60_000}).encode()),
    (Stage.DECODE, "maxLength"): message(event("order"), event_id="e" * 129),
    (Stage.DECODE, "reserved"): message(event("order"), event_id=f"smoke-{'0' * 32}-order"),
    (Stage.CONTRACT, "required"): message({}),
    (Stage.CONTRACT, "type"): order(total_amount="1"),
    (Stage.CONTRACT, "enum"): message({"event_type": "refund"}),
    (Stage.CONTRACT, "format"): order(order_date="yesterday"),
    (Stage.CONTRACT, "minimum"): order(total_amount=-1),
    (Stage.CONTRACT, "maximum"): order(total_amount=1e20),
    (Stage.CONTRACT, "minLength"): order(order_id=""),
    (Stage.CONTRACT, "maxLength"): order(order_id="o" * 129),
    (Stage.CONTRACT, "minItems"): order(items=[]),
    (Stage.CONTRACT, "maxItems"): order(items=event("order")["items"] * 1000),
    (Stage.CONTRACT, "anyOf"): activity(ip_address="localhost"),
    (Stage.CONTRACT, "maxBytes"): order(**{"'" * 1_500_000: 0}),
    (Stage.TIME_BOUNDS, "minimum"): order(order_date=(NOW - timedelta(days=91)).isoformat()),
    (Stage.TIME_BOUNDS, "maximum"): order(order_date=(NOW + timedelta(days=2)).isoformat()),
}

ONLY_BEHIND_OTHERS = {(Stage.CONTRACT, "const")}
"""Rules that no event breaks today: the contract was chosen by the `event_type` that has the `const`."""


@pytest.mark.parametrize(("stage", "rule"), EXAMPLES)
def test_an_event_breaks_the_rule_of_the_page(stage: Stage, rule: str) -> None:
    letter = process(EXAMPLES[stage, rule], NOW)
    assert isinstance(letter, DeadLetter)
    assert letter.stage == stage
    assert rule in {error.rule for error in letter.errors}


def test_each_rule_of_the_page_has_an_example() -> None:
    rules = {(stage, rule) for stage, names in RULES.items() for rule in names}
    assert rules == EXAMPLES.keys() | ONLY_BEHIND_OTHERS


def test_the_page_has_the_rules_of_all_stages() -> None:
    assert [rules.stage for rules in rules_module.RULES] == list(Stage)
    before, after = PAGE.partition("### decode\n")[0], PAGE.partition("## Answers of HTTP\n")[2]
    sections = "".join(rules.markdown() for rules in rules_module.RULES)
    expected = f"{before}{sections}## Answers of HTTP\n{after}"
    if "UPDATE_DOCS" in os.environ:
        FILE.write_text(expected)
    assert FILE.read_text() == expected, "run UPDATE_DOCS=1 make test"


def test_rules_are_looked_up_by_stage_and_name() -> None:
    bounds = rules_module.rules_of("contract").find("maximum")
    assert bounds is not None
    assert bounds.heading == "`minimum` `maximum`"
    assert rules_module.rules_of("contract").find("pattern") is None
    assert rules_module.rules_of("enrich").find("KeyError") is not None


def test_each_keyword_of_the_contracts_is_on_the_page() -> None:
    text = "".join(file.read_text() for file in FOLDER.iterdir())
    asserted = (
        "required type enum const format minimum maximum minLength maxLength minItems maxItems anyOf oneOf pattern"
    )
    used = {keyword for keyword in asserted.split() if f'"{keyword}":' in text}
    assert used <= RULES[Stage.CONTRACT]


@settings(max_examples=100, deadline=None)
@given(hostile_events.payloads(), hostile_events.ATTRIBUTES)
def test_no_event_breaks_a_rule_that_is_not_on_the_page(payload: bytes, attributes: dict[str, str]) -> None:
    outcome = process(Message(payload, attributes, "1", NOW), NOW)
    if isinstance(outcome, DeadLetter) and outcome.stage in RULES:
        assert {error.rule for error in outcome.errors} <= RULES[outcome.stage]


def statuses(function: str) -> set[int]:
    return {int(status) for status in re.findall(rf"^\| `{function}` \| (\d+) \|", PAGE, re.MULTILINE)}


class Commit:
    """Ends each event in one way."""

    system = SYSTEM

    def __init__(self, error: Exception | None) -> None:
        self.admission = Admission(Settings(archive_bucket="archive"))
        self._error = error

    async def __call__(self, message: Message) -> None:
        del message
        if self._error:
            raise self._error


async def receive() -> dict[str, Any]:
    """Return the only part of a request's body, as ASGI servers do."""
    return {"type": "http.request", "body": b'{"message": {"messageId": "1"}}'}


async def test_each_answer_of_ingest_is_on_the_page() -> None:
    ends = [None, NotAMessage(), Overloaded(), NotDurable(), ClientDisconnect(), RuntimeError()]
    answers = set()
    for error in ends:
        commit: Any = Commit(error)
        request = Request({"type": "http", "method": "POST", "headers": []}, receive)
        answers.add((await IngestApp(commit, "project", "7")(request)).status_code)
    health = Request({"type": "http", "method": "GET", "headers": []}, receive)
    answers.add((await IngestApp(commit, "project", "7")(health)).status_code)
    assert answers == statuses("ingest")
