"""A shop's events, in the tables of the emulator and in Python, to compare what both say of them."""

import contextlib
import dataclasses
import io
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from google.cloud import bigquery

from functions.core.dead_letters import DeadLetter
from functions.core.message import Message
from functions.core.pipeline import EventPipeline
from functions.core.rows import Row
from functions.settings import Settings
from sluice.queries import queries
from sluice.shop.generator import Generated, Story
from sluice.shop.timeline import history_until
from tests.support.boundary_events import edges
from tests.support.dataset_fixtures import made

LIVE_DAYS = 20
LIVE_EVENTS = 3_000
HISTORICAL_DAYS = 150
HISTORICAL_EVENTS = 600

_JSON_COLUMNS = ("extras", "attributes")


type Record = Mapping[str, Any]
"""A row as `insertAll` takes it."""


def instant(text: str) -> datetime:
    """Return the time that a row has as text."""
    return datetime.fromisoformat(text)


def age(record: Record) -> tuple[datetime, datetime, str, str]:
    """Return what orders the rows of an event: the last one counts."""
    ingest = record["ingest"]
    times = instant(record["processed_timestamp"]), instant(ingest["publish_time"])
    return *times, ingest["message_id"], ingest["archive_uri"]


def once(records: Iterable[Record]) -> list[Record]:
    """Return each event once: the row of it that counts."""
    return list(
        {(record["event_date"], record["ingest"]["event_id"]): record for record in sorted(records, key=age)}.values()
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Shop:
    """The content of the datasets.

    Attributes:
        client: Client of the emulator.
        settings: Names of the datasets.
        live: Rows of each live table as `insertAll` takes them, with duplicates; in no order.
        historical: Rows of the historical dataset's tables; a few of the events are in the live tables too.
        dead_letters: Rows of the table of this name.
        now: When the last of all this was processed.
    """

    client: bigquery.Client
    settings: Settings
    live: Mapping[str, Sequence[Mapping[str, Any]]]
    historical: Mapping[str, Sequence[Mapping[str, Any]]]
    dead_letters: Sequence[Mapping[str, Any]]
    now: datetime

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a query; tables without a dataset are those of the live one."""
        dataset = bigquery.DatasetReference(self.client.project, self.settings.dataset)
        config = bigquery.QueryJobConfig(default_dataset=dataset)
        return [dict(row) for row in self.client.query_and_wait(sql, job_config=config)]

    def ask(self, name: str, **given: str) -> list[dict[str, Any]]:
        """Rows of a file of `sql/analytics`, `sql/monitoring` or `sql/maintenance`."""
        bound = queries()[name].bind(self.client.project, self.settings, given)
        return [dict(row) for row in self.client.query_and_wait(bound.sql, job_config=bound.config())]


@contextlib.contextmanager
def open_shop(client: bigquery.Client, settings: Settings, seed: int = 1) -> Iterator[Shop]:
    """Both datasets full of events, while the context lasts."""
    with made(client, settings):
        yield _filled(client, settings, seed)


def _filled(client: bigquery.Client, settings: Settings, seed: int) -> Shop:
    now = datetime.now(UTC)
    process = EventPipeline.from_settings(settings)
    odd = [
        Generated(msgspec.json.encode(event), {"event_id": f"edge-{number}"}, "good")
        for number, event in enumerate(edges(now))
    ]
    live = _outcomes(process, now, seed, [*_story(now, seed, LIVE_DAYS, LIVE_EVENTS), *odd])
    without_retention = dataclasses.replace(process, retention_days=10_000)
    older = [*_story(now, seed + 1, HISTORICAL_DAYS, HISTORICAL_EVENTS), *odd]
    history = _outcomes(without_retention, now, seed + 1, older)
    border = now.date() - timedelta(days=settings.retention_days)
    old = [row for row in history if isinstance(row, Row) and row.columns["event_date"] <= border.isoformat()]
    live_rows = _records(row for row in live if isinstance(row, Row))
    old_rows = _records(old)
    shop = Shop(
        client,
        settings,
        live_rows,
        {table: [*rows, *_copies(live_rows[table])] for table, rows in old_rows.items()},
        [letter.record("gs://archive/raw/1") for letter in live if isinstance(letter, DeadLetter)],
        now,
    )
    for dataset, tables in ((settings.dataset, shop.live), (settings.historical_dataset, shop.historical)):
        for table, rows in tables.items():
            load(client, f"{dataset}.{table}", rows)
    load(client, f"{settings.dataset}.dead_letters", shop.dead_letters)
    return shop


def _story(now: datetime, seed: int, days: int, events: int) -> Iterable[Generated]:
    """So many events of so many days until now."""
    return history_until(Story(seed, 0.02, 0.03, events // days), events, now)


def _outcomes(
    process: EventPipeline, now: datetime, seed: int, messages: Iterable[Generated]
) -> list[Row | DeadLetter]:
    """Return the outcomes of the messages, processed within some milliseconds, and in no order."""
    outcomes = [
        process(
            Message(message.data, message.attributes, f"{seed}-{number}", now),
            now - timedelta(milliseconds=number % 7),
        )
        for number, message in enumerate(messages)
    ]
    random.Random(seed).shuffle(outcomes)
    return outcomes


def _copies(rows: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows in both datasets: rows as they were copied, and events that were processed before or after."""
    for number, row in enumerate(rows[::20]):
        if number % 3:
            earlier_or_later = timedelta(hours=1 if number % 3 == 1 else -1)
            processed = datetime.fromisoformat(row["processed_timestamp"]) + earlier_or_later
            ingest = {**row["ingest"], "message_id": f"{row['ingest']['message_id']}-copy"}
            yield {**row, "processed_timestamp": processed.isoformat(), "ingest": ingest}
        else:
            yield row


def _records(rows: Any) -> dict[str, list[Mapping[str, Any]]]:
    records: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        records.setdefault(row.table, []).append(row.record(f"gs://archive/raw/{row.message.message_id}"))
    return records


def load(client: bigquery.Client, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows by load job."""
    lines = msgspec.json.Encoder().encode_lines([_with_json(row) for row in rows])
    config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON,
        write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
        create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
    )
    client.load_table_from_file(io.BytesIO(lines), table, job_config=config).result()


def _with_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A load job takes a JSON column's value as it is, `insertAll` takes its text."""
    texts = {name: row[name] for name in _JSON_COLUMNS if row.get(name) is not None}
    return {**row, **{name: msgspec.Raw(text.encode()) for name, text in texts.items()}}
