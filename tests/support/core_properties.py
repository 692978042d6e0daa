"""Properties of all messages, whatever their bytes."""

import json
import re
import time
from typing import Any

import msgspec

from functions.archive.envelope import Envelope, read_envelopes
from functions.core.contracts import Contracts
from functions.core.dead_letters import MAX_ERRORS, DeadLetter, EventRejected, Stage
from functions.core.decode import decode
from functions.core.message import Message
from functions.core.pipeline import EventPipeline
from functions.core.privacy import Privacy
from functions.core.rows import Row
from functions.events import event_types
from tests.support.row_checks import declared_columns, misfits
from tests.support.samples import NOW

URI = "gs://archive/raw/dt=2026-11-23/hr=12/20261123T120000.000000Z-0123456789ab-00000001.ndjson.gz"

INSERT_ALL_BYTES = 10 * 10**6
"""Maximum bytes of a request (https://cloud.google.com/bigquery/quotas#streaming_inserts)."""

_CONTRACTS = Contracts.load()
PROCESSES = [
    EventPipeline(_CONTRACTS, Privacy(), 90, "fuzz"),
    EventPipeline(_CONTRACTS, Privacy("truncate"), 1825, "fuzz"),
    EventPipeline(_CONTRACTS, Privacy("hash", "k" * 16), 1, "fuzz"),
]
_TABLES = {DeadLetter.table, *(event_type.table for event_type in event_types().values())}
_COLUMNS = {table: declared_columns(table) for table in _TABLES}


def check(message: Message, process: EventPipeline = PROCESSES[0]) -> float:
    """Take a message the whole way to the two requests that make it durable; the seconds of CPU of `process`.

    Raises:
        AssertionError: What does not hold.
    """
    started = time.thread_time()
    outcome = process(message, NOW)
    seconds = time.thread_time() - started
    assert process(message, NOW) == outcome, "not pure"
    record = outcome.record(URI)
    body = json.dumps({"rows": [{"insertId": message.event_id, "json": record}]}, allow_nan=False).encode()
    assert len(body) < INSERT_ALL_BYTES, len(body)
    assert misfits(json.loads(body)["rows"][0]["json"], _COLUMNS[outcome.table]) == []
    match outcome:
        case Row():
            assert outcome.unknown_fields == len(json.loads(outcome.columns["extras"] or "{}"))
        case DeadLetter():
            check_errors(outcome)
            assert 0 < len(outcome.fingerprint) == 16
    check_envelope(message, outcome.event_type)
    return seconds


def check_errors(letter: DeadLetter) -> None:
    """Each error says what is wrong, and where: in a place that is there, or where one is missing."""
    assert 0 < len(letter.errors) <= MAX_ERRORS
    event: Any = ...
    try:
        event = decode(letter.message.data)
    except EventRejected:
        assert letter.stage is Stage.DECODE
    for path, rule, text in letter.errors:
        assert rule
        assert text
        if path.startswith("attributes."):
            continue
        assert path.startswith("$"), path
        steps = steps_of(path)
        if event is ... or path == "$":
            continue
        *way, last = steps
        place = event
        for step in way:
            place = place[step]
        if rule == "required":
            assert isinstance(place, dict), path
            assert last not in place, path
        else:
            place[last]


_STEP = re.compile(r"\.([^\W\d]\w*)|\[(\d+)\]|\['((?:[^'\\]|\\.)*)'\]", re.DOTALL)


def steps_of(path: str) -> list[str | int]:
    """The keys and indexes of a JSON path; the reverse of `json_path.from_root`."""
    steps: list[str | int] = []
    position = 1
    while position < len(path):
        step = _STEP.match(path, position)
        assert step, path
        name, index, quoted = step.groups()
        steps.append(name if name is not None else int(index) if index is not None else unquoted(quoted))
        position = step.end()
    return steps


def unquoted(text: str) -> str:
    """The name that is quoted in a JSON path: a string of JSON, but for the quotes."""
    name: str = json.loads('"' + text.replace("\\'", "'").replace('"', '\\"') + '"')
    return name


def check_envelope(message: Message, event_type: str | None) -> None:
    """The archive gives back exactly what went in, as one line, and seals it the same again."""
    line = msgspec.json.Encoder().encode_lines([Envelope.from_message(message, event_type)])
    assert line.count(b"\n") == 1
    [envelope] = read_envelopes(line)
    again = envelope.message()
    assert (again.data, again.attributes, again.message_id) == (message.data, message.attributes, message.message_id)
    assert (again.publish_time, again.ordering_key) == (message.publish_time, message.ordering_key)
    assert (envelope.event_id, envelope.event_type) == (message.event_id, event_type)
    assert msgspec.json.Encoder().encode_lines([Envelope.from_message(again, event_type)]) == line
