"""An erased person does not come back and nobody else is erased, in any order of operations."""

import base64
import gzip
import json
import pathlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from functions.core.message import Message
from sluice.local.stack import Emulators
from tests.support import samples
from tests.support.command_line import sluice
from tests.support.datasets import Datasets, fresh_datasets

NOW = datetime.now(UTC)

PERSONS = ("ada.lovelace", "zoë")


def order(person: str, **changes: object) -> bytes:
    event = samples.event("order", customer_id=person, order_date=NOW.isoformat())
    return json.dumps(event | changes, ensure_ascii=False).encode()


def activity(person: str) -> bytes:
    return json.dumps(samples.event("user_activity", user_id=person, timestamp=NOW.isoformat())).encode()


PAYLOADS: dict[str, Callable[[str], bytes]] = {
    "an order": order,
    "an activity": activity,
    "an old order": lambda person: order(person, order_date=(NOW - timedelta(days=100)).isoformat()),
    "a wrong order": lambda person: order(person, status="lost"),
    "a broken order": lambda person: order(person)[:-9],
    "an order in UTF-16": lambda person: order(person).decode().encode("utf-16"),
    "an order in latin-1": lambda person: order(person).decode().encode("latin-1"),
    "an order in gzip": lambda person: gzip.compress(order(person)),
    "an order in base64": lambda person: base64.b64encode(order(person)),
    "a long order": lambda person: order(person, note="x" * 2**21),
    "an unknown event": lambda person: json.dumps({"event_type": "wish", "whom": [person]}).encode(),
    "only an attribute": lambda _: b"[]",
    "only an ordering key": lambda _: b"[]",
}

REPAIR = """
import base64, codecs, gzip

def transform(payload, attributes):
    if payload.startswith(codecs.BOM_UTF16):
        return payload.decode("utf-16").encode()
    for undo in (gzip.decompress, lambda data: base64.b64decode(data, validate=True)):
        try:
            return undo(payload)
        except (ValueError, OSError):
            pass
    return payload.replace(b'"lost"', b'"pending"')
"""
"""It changes nothing that it does not know: what it makes of other bytes nobody could read, and erase would say so."""


class Events(RuleBasedStateMachine):
    """Events of some persons in datasets of their own."""

    emulators: Emulators
    transform: pathlib.Path

    @initialize()
    def begin(self) -> None:
        self.context = ExitStack()
        self.datasets: Datasets = self.context.enter_context(fresh_datasets(self.emulators, views=True))
        self.kept: dict[str, str] = {}
        self.erased: set[str] = set()
        self.publish([(person, kind) for person in PERSONS for kind in PAYLOADS])

    def teardown(self) -> None:
        self.context.close()

    def run(self, *arguments: str) -> None:
        ended = sluice(arguments, {**self.datasets.environment, "FLUSH_TIMEOUT": "0.01", "COLUMNS": "160"})
        assert ended.returncode == 0, f"{arguments}: {ended.stdout} {ended.stderr}"

    @rule(messages=st.lists(st.tuples(st.sampled_from(PERSONS), st.sampled_from(sorted(PAYLOADS))), min_size=1))
    def publish(self, messages: Sequence[tuple[str, str]]) -> None:
        """Some become rows, and some are rejected."""
        sent = []
        for person, kind in messages:
            event_id = f"event {len(self.kept) + len(self.erased)}"
            self.kept[event_id] = person
            attributes = {"event_id": event_id, **({"user_id": person} if kind == "only an attribute" else {})}
            key = person if kind == "only an ordering key" else ""
            sent.append(Message(PAYLOADS[kind](person), attributes, f"m-{event_id}", NOW, ordering_key=key))
        self.datasets.stream(sent, NOW)

    @rule()
    def lose(self) -> None:
        """Rows that are gone are in the archive, from which all else brings them back."""
        self.datasets.client.query_and_wait(f"DELETE FROM `{self.datasets.settings.dataset}.orders` WHERE TRUE")

    @rule()
    def reconcile(self) -> None:
        self.run("reconcile", "--repair", "--from", "2h")

    @rule(repair=st.booleans())
    def replay_dead_letters(self, *, repair: bool) -> None:
        self.run("dead-letters", "replay", "--all", *(["--transform", str(self.transform)] if repair else []))

    @rule()
    def replay_archive(self) -> None:
        self.run("replay", "--from", "2h")

    @precondition(lambda self: self.kept)
    @rule(days=st.sampled_from([0, 95]))
    def backfill(self, days: int) -> None:
        """Later, the same events belong to the history."""
        archive = f"gs://{self.datasets.settings.archive_bucket}/raw/"
        assert not self.datasets.backfill(archive, now=NOW + timedelta(days=days)).failures

    @rule(person=st.sampled_from(PERSONS))
    def erase(self, person: str) -> None:
        self.run("erase", "--user", person, "--id", f"customer_id={person}")
        theirs = {event_id for event_id, whose in self.kept.items() if whose == person}
        self.erased |= theirs
        self.kept = {event_id: whose for event_id, whose in self.kept.items() if event_id not in theirs}

    @invariant()
    def nobody_comes_back_and_nobody_else_goes(self) -> None:
        names = self.datasets.settings.dataset, self.datasets.settings.historical_dataset
        tables = [f"{name}.{table}" for name in names for table in ("orders", "user_activity")]
        query = " UNION DISTINCT ".join(
            [
                f"SELECT event_id FROM `{names[0]}.dead_letters`",
                *(f"SELECT ingest.event_id FROM `{table}`" for table in tables),
            ]
        )
        stored = {row.event_id for row in self.datasets.client.query_and_wait(query)}
        archived = {envelope.event_id for envelopes in self.datasets.objects().values() for envelope in envelopes}
        assert archived == self.kept.keys()
        assert stored <= archived


@pytest.mark.check
def test_an_erased_person_does_not_come_back(running_emulators: Emulators, tmp_path: pathlib.Path) -> None:
    transform = tmp_path / "repair.py"
    transform.write_text(REPAIR)
    machine = type("Machine", (Events,), {"emulators": running_emulators, "transform": transform})
    bounded = settings(
        max_examples=6,
        stateful_step_count=10,
        phases=[Phase.explicit, Phase.generate],  # To shrink an example would take minutes.
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(machine, settings=bounded)
