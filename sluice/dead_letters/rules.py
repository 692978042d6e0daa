"""The rules that events break: what each means, and how a producer fixes it.

docs/errors.md and the console show them. The texts are Markdown with code and links only; links are relative to docs/.
"""

import dataclasses
import textwrap
from collections.abc import Sequence

from functions.core.dead_letters import Stage


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a stage.

    Attributes:
        names: Its names, as the errors of dead letters have them. Empty for all names that a stage gets from others.
        meaning: What is wrong, which completes `StageRules.subject`.
        fix: What to do.
        title: Words for the names where there are none.
    """

    names: Sequence[str]
    meaning: str
    fix: str
    title: str = ""

    @property
    def heading(self) -> str:
        """The names, or the words for them."""
        return " ".join(f"`{name}`" for name in self.names) or self.title


@dataclasses.dataclass(frozen=True, slots=True)
class StageRules:
    """The rules of a stage.

    Attributes:
        stage: The stage.
        text: Meaning of a rejection by this stage.
        subject: Beginning of the sentence that the meaning of each rule completes.
        rules: The rules.
        note: Meaning of rules that are not in `rules`.
    """

    stage: Stage
    text: str
    subject: str
    rules: Sequence[Rule]
    note: str = ""

    def markdown(self) -> str:
        """Return the section of docs/errors.md."""
        table = [f"| rule | {self.subject} | fix |", "|---|---|---|"]
        table += [f"| {rule.heading} | {rule.meaning} | {rule.fix} |" for rule in self.rules]
        parts = (
            f"### {self.stage}",
            textwrap.fill(self.text, 130, break_on_hyphens=False),
            "\n".join(table),
            self.note,
        )
        return "".join(f"{part}\n\n" for part in parts if part)

    def find(self, name: str) -> Rule | None:
        """Return the rule with a name; None if it is not listed."""
        return next((rule for rule in self.rules if name in rule.names or not rule.names), None)


RULES: Sequence[StageRules] = (
    StageRules(
        Stage.DECODE,
        "The payload is not one usable JSON object. Fix the producer; `replay --transform` repairs what it has sent.",
        "the event has",
        (
            Rule(("json",), "no valid JSON: empty, cut off, `NaN`, a lone surrogate", "Encode with a JSON library."),
            Rule(("utf-8",), "bytes that are not UTF-8", "Encode as UTF-8."),
            Rule(("type",), "an array, a string or a number instead of an object", "Send one object for each message."),
            Rule(
                ("number",),
                "an integer of thousands of digits, or an exponent beyond all bounds",
                "Send the value as a string.",
            ),
            Rule(("uniqueKeys",), "a key twice in one object", "Send each key once."),
            Rule(("maxBytes",), "more than 2 MiB", "Send less, or a link to the rest."),
            Rule(("maxDepth",), "more than 100 levels", "Flatten it."),
            Rule(("maxValues",), "more than 50 000 values", "Split it into several events."),
            Rule(
                ("maxLength",),
                "an attribute `event_id` of more than 128 characters",
                "Shorten it, for example by a hash.",
            ),
            Rule(("reserved",), "an `event_id` that only `sluice smoke` may use", "Use any other id."),
        ),
    ),
    StageRules(
        Stage.CONTRACT,
        "The event breaks its contract `jsonschemas/TYPE.vN.json`. The rule is the keyword of JSON Schema. Fix the"
        " producer, or [change the contract](add-an-event-type.md#change-an-event-type).",
        "the field",
        (
            Rule(("required",), "is missing; at `$.event_type`, the type", "Send it."),
            Rule(("type",), "has another JSON type", "Send the type of the contract."),
            Rule(
                ("enum",),
                "has none of the allowed values; at `$.event_type`, an unknown type; at"
                " `attributes.schema_version`, an unknown version",
                "Send one that the message lists, or deploy the new type or version first.",
            ),
            Rule(("const",), "is not the one allowed value", "Send that value."),
            Rule(
                ("format",),
                "is no date, address or other format, or no time that TIMESTAMP can hold",
                "Send RFC 3339 times, with a time zone.",
            ),
            Rule(("minimum", "maximum"), "is out of its range", "Correct the value, or widen the range."),
            Rule(("minLength", "maxLength"), "is too short or too long", "Correct the value, or change the bounds."),
            Rule(
                ("minItems", "maxItems"),
                "has too few or too many items",
                "Send as many as the contract allows, or change the bounds.",
            ),
            Rule(("anyOf",), "fits none of the alternatives; the message says what each expects", "Send one of them."),
            Rule(
                ("maxBytes",),
                "belongs to unknown fields that take more than 3 MiB, their paths included",
                "Add them to the contract, or do not send them.",
            ),
        ),
        "A contract may use further keywords, such as `pattern` or `uniqueItems`; their rule has the same name.",
    ),
    StageRules(
        Stage.ENRICH,
        "The handler of the event type failed. It is a defect of `functions/events/TYPE.py`, not of the event.",
        "means",
        (
            Rule(
                (),
                "the handler, or an unforeseen error, raised it",
                "Correct the handler, deploy, replay.",
                "the name of an exception, such as `KeyError`",
            ),
        ),
    ),
    StageRules(
        Stage.TIME_BOUNDS,
        "",
        "the event's own time is",
        (
            Rule(
                ("minimum",),
                "older than `RETENTION_DAYS`",
                "[Backfill](backfill.md) or replay: both write old events into the historical dataset.",
            ),
            Rule(("maximum",), "more than a day ahead", "Correct the producer's clock or time zone."),
        ),
    ),
    StageRules(
        Stage.WAREHOUSE,
        "BigQuery itself rejected the row.",
        "means",
        (
            Rule(
                (),
                "contract and table disagree, or a value does not fit the column",
                "Run `sluice contract check`; add the missing bound to the contract.",
                "BigQuery's reason, mostly `invalid`",
            ),
        ),
    ),
)


def rules_of(stage: str) -> StageRules:
    """Return the rules of a stage.

    Raises:
        KeyError: There is no such stage.
    """
    return _BY_STAGE[stage]


_BY_STAGE: dict[str, StageRules] = {rules.stage: rules for rules in RULES}
