"""The page on which a person tries an event: an example, the verdict of the core on what is typed, and its way."""

import difflib
import functools
import json
import shlex
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
import msgspec
from msgspec import Meta

from functions.core.contracts import FOLDER, Contract
from functions.core.message import MAX_EVENT_ID, Message
from functions.core.pipeline import EventPipeline
from functions.core.rows import Row
from functions.settings import Settings
from functions.tables import Tables
from sluice.console.events import TEST_ID
from sluice.console.page import WrongInput
from sluice.console.sources import LocalStack, Sources
from sluice.contract.example import example
from sluice.dead_letters.payload_view import Marked, marked, pretty
from sluice.publish import FAILURES, Publication, publish, shift_to
from sluice.shop.generator import Scenario, simulate

_SEARCHED = 3_000
"""Maximum number of the shop's events among which that of a type is searched."""

_MESSAGE_ID = "1"
"""Id of a message that is not published."""


class TrialParameters(msgspec.Struct, frozen=True):
    """Parameters of the page.

    Attributes:
        type: Event type of the example.
        number: Number of the example; another one is another example.
    """

    type: str | None = None
    number: Annotated[int, Meta(ge=1)] = 1


class Trial(msgspec.Struct, frozen=True):
    """An example to edit.

    Attributes:
        type: Its event type.
        types: All event types.
        versions: Versions of its contract.
        number: Its number.
        payload: Its payload.
        event_id: An id that no event has.
    """

    type: str
    types: Sequence[str]
    versions: Sequence[int]
    number: int
    payload: str
    event_id: str


def trial(sources: Sources, parameters: TrialParameters) -> Trial:
    """Return an example.

    Raises:
        WrongInput: There is no such event type.
    """
    pipeline = _pipeline(sources.settings)
    types = sorted(pipeline.contracts.event_types)
    event_type = parameters.type or types[0]
    if event_type not in types:
        raise WrongInput(f"type: {event_type} is no event type; there are {', '.join(types)}")
    versions = sorted(int(file.stem.rpartition(".v")[2]) for file in FOLDER.glob(f"{event_type}.v*.json"))
    payload = _example(pipeline, event_type, parameters.number, datetime.now(UTC))
    return Trial(event_type, types, versions, parameters.number, "\n".join(pretty(payload)), new_id())


def new_id() -> str:
    """Return an id that no event has."""
    return f"try-{uuid.uuid4()}"


@functools.lru_cache(1)
def _pipeline(settings: Settings) -> EventPipeline:
    """Load the contracts of this process: a change of them starts another one."""
    return EventPipeline.from_settings(settings)


def _example(pipeline: EventPipeline, event_type: str, number: int, now: datetime) -> bytes:
    """Return an event of the shop that is dated now; of a type that the shop has not, the least that is valid."""
    for generated, _ in zip(simulate(Scenario(number), now), range(_SEARCHED), strict=False):
        if json.loads(generated.data)["event_type"] == event_type:
            break
    else:
        version = pipeline.contracts.choose({"event_type": event_type}, {}).version
        schema = json.loads((FOLDER / f"{event_type}.v{version}.json").read_text(encoding="utf-8"))
        return json.dumps(example(schema, f"example-{number}")).encode()
    return next(iter(shift_to(now, [Publication(generated.data, {})]))).data


class TriedEvent(msgspec.Struct, frozen=True):
    """An event as it is typed.

    Attributes:
        payload: The payload.
        event_id: Attribute `event_id`; without one the id of the message is the id of the event.
        schema_version: Attribute `schema_version`; without one the default version of the type counts.
        test_id: Attribute `test_id`, by which the list of events can be filtered.
    """

    payload: str = ""
    event_id: str | None = None
    schema_version: str | None = None
    test_id: str | None = None

    @property
    def publication(self) -> Publication:
        """The message."""
        attributes = {"event_id": self.event_id, "schema_version": self.schema_version, TEST_ID: self.test_id}
        given = {name: value for name, value in attributes.items() if value}
        return Publication(self.payload.encode(), given)


class Column(msgspec.Struct, frozen=True):
    """A column of the row that the event would be.

    Attributes:
        name: Its name.
        value: Its value as JSON.
    """

    name: str
    value: str


class Snippets(msgspec.Struct, frozen=True):
    """The event as text that can be copied and run.

    Attributes:
        shell: A command that publishes it: curl, or `sluice publish` where the emulator has no HTTP.
        python: A program that publishes it.
        sql: A query that finds it.
    """

    shell: str
    python: str
    sql: str


class Judged(msgspec.Struct, frozen=True):
    """The verdict on an event, and the row or dead letter that it would be.

    Attributes:
        verdict: `good` for a row, `bad` for a dead letter.
        table: The table that it would be in.
        contract: Type and version of the contract that it passed, or was checked against.
        columns: Columns of the row.
        extras: Fields that the contract does not know; they are kept in the column `extras`.
        warnings: What may be a mistake, and what to do.
        stage: Stage that rejects it.
        errors: Errors: path, rule and message of each.
        lines: Lines of the payload of a dead letter, each with its errors.
        snippets: The event as text.
    """

    verdict: str
    table: str
    contract: str
    warnings: Sequence[str]
    snippets: Snippets
    columns: Sequence[Column] = ()
    extras: Sequence[Column] = ()
    stage: str | None = None
    errors: Sequence[Mapping[str, str]] = ()
    lines: Sequence[Marked] = ()


def judge(sources: Sources, tried: TriedEvent) -> Judged:
    """Return what would become of an event if it were published now."""
    now = datetime.now(UTC)
    pipeline = _pipeline(sources.settings)
    data, attributes, _ = tried.publication
    outcome = pipeline(Message(data, dict(attributes), _MESSAGE_ID, now), now)
    tables = Tables(sources.settings)
    if isinstance(outcome, Row):
        table, event_date = tables.live(outcome.table), outcome.columns["event_date"]
        where = f"event_date = '{event_date}' AND ingest.event_id = {_sql_text(tried.event_id)}"
        columns = outcome.columns
        contract = pipeline.contracts.choose({"event_type": outcome.event_type}, attributes)
        extras = json.loads(columns.pop("extras") or "{}")
        return Judged(
            verdict="good",
            table=table,
            contract=f"{outcome.event_type}.v{outcome.schema_version}",
            warnings=[*_id_warnings(tried), *_warnings(outcome, contract, extras)],
            snippets=_snippets(sources.stack, tried, table, where),
            columns=_columns({name: value for name, value in columns.items() if value is not None}),
            extras=_columns(extras),
        )
    errors = [violation._asdict() for violation in outcome.errors]
    where = f"DATE(failed_at) = '{now.date()}' AND event_id = {_sql_text(tried.event_id)}"
    versioned = outcome.event_type in pipeline.contracts.event_types and outcome.schema_version
    return Judged(
        verdict="bad",
        table=tables.dead_letters,
        contract=f"{outcome.event_type}.v{outcome.schema_version}" if versioned else "",
        warnings=list(_id_warnings(tried)),
        snippets=_snippets(sources.stack, tried, tables.dead_letters, where),
        stage=outcome.stage,
        errors=errors,
        lines=marked(data, errors),
    )


def _columns(values: Mapping[str, Any]) -> list[Column]:
    return [Column(name, msgspec.json.encode(value).decode()) for name, value in values.items()]


def _id_warnings(tried: TriedEvent) -> Iterator[str]:
    if not tried.event_id:
        yield (
            "No event_id: if the producer sends it again, it is a second event. Send the attribute event_id with an id"
            " that stays the same."
        )
    elif len(tried.event_id) > MAX_EVENT_ID:
        yield f"The event_id is longer than {MAX_EVENT_ID} characters: send a shorter one."


def _warnings(row: Row, contract: Contract, extras: Mapping[str, Any]) -> Iterator[str]:
    file = f"jsonschemas/{row.event_type}.v{row.schema_version}.json"
    for path in extras:
        name = path.rpartition(".")[2]
        close = difflib.get_close_matches(name, contract.field_names, 1, 0.8)
        hint = f"Is it {close[0]}, misspelled? " if close else ""
        kept = f"{path} is not in the contract: it is kept in the column extras."
        yield f"{kept} {hint}To get a column, add it to {file}."
    if row.rounded_numbers:
        yield (
            f"{row.rounded_numbers} numbers have more than nine decimals and are rounded: send fewer decimals, or a"
            " string where each digit counts."
        )


def _sql_text(text: str | None) -> str:
    return json.dumps(text or "ID OF THE MESSAGE")


def _snippets(local: LocalStack, tried: TriedEvent, table: str, where: str) -> Snippets:
    emulator = local.pubsub
    publication = tried.publication
    python = (
        "import os\n\nfrom google.cloud.pubsub_v1 import PublisherClient\n\n"
        f'os.environ["PUBSUB_EMULATOR_HOST"] = "{emulator}"\n'
        f"data = {publication.data!r}\n"
        f"attributes = {dict(publication.attributes)!r}\n"
        f'PublisherClient().publish("{local.topic}", data, **attributes).result()\n'
    )
    sql = f"SELECT *\nFROM `{table}`\nWHERE {where}\n"
    return Snippets(_shell(local, publication), python, sql)


def _shell(local: LocalStack, publication: Publication) -> str:
    if _has_http(local.pubsub):
        message = msgspec.json.encode({"messages": [{"data": publication.data, "attributes": publication.attributes}]})
        url = f"http://{local.pubsub}/v1/{local.topic}:publish"
        return (
            f"curl {url} \\\n  --header 'content-type: application/json' \\\n  --data {shlex.quote(message.decode())}\n"
        )
    # A file has an event on each line, and within a string JSON has no end of a line.
    line = " ".join(publication.data.decode(errors="replace").splitlines())
    attributes = "".join(
        f" \\\n  --attribute {shlex.quote(f'{name}={value}')}" for name, value in publication.attributes.items()
    )
    return f"printf '%s\\n' {shlex.quote(line)} |\n  sluice publish -{attributes}\n"


@functools.cache
def _has_http(pubsub: str) -> bool:
    """Return whether the emulator has the REST API: that of Google has, our own stand-in has gRPC only."""
    try:
        httpx.get(f"http://{pubsub}/", timeout=1.0)
    except httpx.HTTPError:
        return False
    return True


class Sent(msgspec.Struct, frozen=True):
    """A published event.

    Attributes:
        event_id: Its id.
        next_id: An id for the next one.
    """

    event_id: str
    next_id: str


def send(sources: Sources, tried: TriedEvent) -> Sent:
    """Publish an event to the topic of the stack.

    Raises:
        WrongInput: It has no id, by which it could be followed, or Pub/Sub rejects it.
    """
    if not tried.event_id:
        raise WrongInput("event_id: give the event an id, by which this page can follow it")
    try:
        publish([tried.publication], sources.stack.topic)
    except FAILURES as error:
        raise WrongInput(str(error)) from error
    return Sent(tried.event_id, new_id())
