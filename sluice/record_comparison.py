"""Comparison of a row or a dead letter with its envelope in the archive."""

from typing import Any

import msgspec

from functions.archive.envelope import Envelope
from functions.core.contracts import Contracts
from functions.core.dead_letters import EventRejected
from functions.core.decode import decode
from functions.core.privacy import Privacy
from functions.reconcile.records import StoredRecord


class ContentComparison:
    """Compares the columns that a contract derives from a payload, except enriched columns.

    Args:
        contracts: All contracts, as each row is compared by its contract version.
        privacy: Privacy settings, which determine the enriched columns.
    """

    def __init__(self, contracts: Contracts, privacy: Privacy) -> None:
        self._contracts = contracts
        self._privacy = privacy

    def __call__(self, envelope: Envelope, record: StoredRecord) -> bool:
        """Return whether a record matches its envelope; for a dead letter without payload, by length."""
        message, stored = envelope.message(), record.columns
        if record.is_dead_letter:
            same = stored["payload"] in {None, message.data}
            return same and stored["payload_bytes"] == len(message.data)
        version = {"schema_version": str(stored["ingest"]["schema_version"])}
        try:
            event = decode(message.data)
            contract = self._contracts.choose(event, {**message.attributes, **version})
            columns, extras = contract.validate(event, len(message.data))
        except EventRejected:
            return False
        enriched = contract.event_type.enrich(columns, self._privacy)
        own = {name: value for name, value in columns.items() if name not in enriched}
        return _is_same(own, {name: stored[name] for name in own}) and _is_same(
            msgspec.json.decode(msgspec.json.encode(extras)), stored["extras"] or {}
        )


def _is_same(expected: Any, stored: Any) -> bool:  # noqa: ANN401 - values of all types
    match expected, stored:
        case dict(), dict():
            names = expected.keys() | stored.keys()
            return all(_is_same(expected.get(name), stored.get(name)) for name in names)
        case list(), list():
            return len(expected) == len(stored) and all(map(_is_same, expected, stored))
        case str(), dict() | list():  # a JSON column
            return bool(msgspec.json.decode(expected) == stored)
        case _:
            return bool(expected == stored or (expected is None and stored == []))
