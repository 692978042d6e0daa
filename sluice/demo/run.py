"""`sluice demo`: the whole pipeline on one machine, and a check that no event is lost."""

import collections
import contextlib
import dataclasses
import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from google.cloud import bigquery
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from functions.clients import bigquery_client, storage_client
from functions.settings import Settings
from sluice.dead_letters import payload_view
from sluice.demo.check import ArchiveFollower, WarehouseContents, read_warehouse
from sluice.formatting import print_rows, printable
from sluice.local.live_stack import LiveStack
from sluice.publish import Publication, publish
from sluice.queries import queries
from sluice.shop.generator import Generated, Scenario
from sluice.shop.timeline import history_until
from sluice.smoke import oldest_midnight

BAD_SHARE = 0.03
DUPLICATE_SHARE = 0.02

_QUESTIONS = ("customer_lifetime_value", "low_stock", "user_funnel")

_PATIENCE = 60.0
"""Maximum seconds without progress, after which missing events count as lost."""


@dataclasses.dataclass(frozen=True, slots=True)
class Demo:
    """Result of a demo: the published messages, and what arrived.

    Attributes:
        published: All messages, in order.
        archived: Payloads by event id, one for each time that the archive holds the event.
        objects: Number of archive objects.
        accounts: Contents of the warehouse.
        seconds: Seconds from the first message published until the last was accounted for.
    """

    published: Sequence[Generated]
    archived: dict[str, list[bytes]]
    objects: int
    accounts: WarehouseContents
    seconds: float

    def discrepancies(self) -> list[str]:
        """Descriptions of all discrepancies; empty if each event is in its table and in the archive."""
        good = {message.attributes["event_id"] for message in self.published if message.kind != "bad"}
        bad = {message.attributes["event_id"] for message in self.published if message.kind == "bad"}
        sent = {message.attributes["event_id"]: message.data for message in self.published}
        altered = [event_id for event_id, data in sent.items() if set(self.archived.get(event_id, [data])) != {data}]
        checks = {
            "published but not archived": sent.keys() - self.archived.keys(),
            "archived but never published": self.archived.keys() - sent.keys(),
            "archived with other bytes": altered,
            "good but in no table": good - self.accounts.accepted,
            "in a table but not good": self.accounts.accepted - good,
            "bad but no dead letter": bad - self.accounts.dead,
            "dead letter but not bad": self.accounts.dead - bad,
        }
        return [f"{len(ids)} events {what}" for what, ids in checks.items() if ids]


def run(console: Console, stack: LiveStack, *, events: int, rate: float, seed: int) -> bool:
    """Publish events, wait until all are accounted for, and show the result.

    Args:
        console: Console for the output.
        stack: A fresh stack.
        events: Number of messages to publish.
        rate: Messages per second.
        seed: Seed of the generator.

    Returns:
        Whether there are no discrepancies.
    """
    client = bigquery_client(stack.settings)
    now = datetime.now(UTC)
    scenario = Scenario(seed, BAD_SHARE, DUPLICATE_SHARE)
    messages = list(history_until(scenario, events, now, oldest_midnight(now, stack.settings.retention_days)))
    demo = _send(console, stack, client, messages, rate)
    _show_accounts(console, demo)
    _show_rows(console, client, stack.settings.dataset)
    _show_dead_letter(console, client, stack.settings.dataset)
    _show_analytics(console, client, stack.settings)
    _show_next(console)
    return not demo.discrepancies()


def _send(
    console: Console, stack: LiveStack, client: bigquery.Client, messages: Sequence[Generated], rate: float
) -> Demo:
    reader = ArchiveFollower(storage_client(stack.settings), stack.settings.archive_bucket)
    archived: dict[str, list[bytes]] = collections.defaultdict(list)
    wanted = {message.attributes["event_id"] for message in messages}
    accounts = read_warehouse(client, stack.settings.dataset)
    started = time.monotonic()
    with _progress(console) as progress, _in_background() as (background, stopping):
        publishing = progress.add_task("published", total=len(messages))
        settling = progress.add_task("in BigQuery and Cloud Storage", total=len(wanted))
        publications = (
            Publication(message.data, message.attributes)
            for message in itertools.takewhile(lambda _: not stopping.is_set(), messages)
        )
        all_published = background.submit(
            publish, publications, stack.topic, rate=rate, published=lambda _: progress.advance(publishing)
        )
        for settled in _until_settled(len(wanted)):
            if all_published.done():
                all_published.result()
            for envelope in reader.new_envelopes():
                archived[envelope.event_id].append(envelope.message().data)
            accounts = read_warehouse(client, stack.settings.dataset)
            settled.count = len((accounts.accepted | accounts.dead) & archived.keys() & wanted)
            progress.update(settling, completed=settled.count)
    return Demo(messages, dict(archived), reader.objects, accounts, time.monotonic() - started)


@contextlib.contextmanager
def _in_background() -> Iterator[tuple[ThreadPoolExecutor, threading.Event]]:
    """Return a thread, and an event that is set to end it."""
    stopping = threading.Event()
    with ThreadPoolExecutor(1) as background:
        try:
            yield background, stopping
        finally:
            stopping.set()


@dataclasses.dataclass(slots=True)
class _Settled:
    count: int = 0


def _until_settled(total: int) -> Iterator[_Settled]:
    """Repeat until all events have arrived, or none has for `_PATIENCE` seconds."""
    settled = _Settled()
    progress_at = time.monotonic()
    while settled.count < total and time.monotonic() - progress_at < _PATIENCE:
        before = settled.count
        yield settled
        if settled.count > before:
            progress_at = time.monotonic()
        time.sleep(0.5)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<30}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _show_accounts(console: Console, demo: Demo) -> None:
    kinds = collections.Counter(message.kind for message in demo.published)
    accounts = demo.accounts
    rows = [
        ("published", len(demo.published)),
        ("of these duplicates", kinds["duplicate"]),
        *((f"accepted into {name}", len(ids)) for name, ids in accounts.rows.items()),
        *(
            (f"dead letter: {stage}, {rule}", len(letters))
            for (stage, rule), letters in sorted(accounts.dead_letters.items())
        ),
        *((f"rows in {name}", sum(ids.values())) for name, ids in accounts.rows.items()),
        ("rows in dead_letters", sum(ids.total() for ids in accounts.dead_letters.values())),
        ("archived events", sum(map(len, demo.archived.values()))),
        ("archive objects", demo.objects),
    ]
    console.print()
    print_rows(("what", "events"), rows, title="Result", console=console)
    if extra := accounts.repeated:
        console.print(
            f"{extra} more rows than events: a message has a row for each time that it was published or delivered,"
            " since Pub/Sub delivers at least once. The views show each event once: sluice sql duplicate_rate",
            highlight=False,
        )
    discrepancies = demo.discrepancies()
    if discrepancies:
        console.print(Text(f"Discrepancies: {'; '.join(discrepancies)}", "bold red"), soft_wrap=True)
    else:
        distinct = len({message.attributes["event_id"] for message in demo.published})
        line = f"Every published event is accounted for: {distinct} of {distinct}, archived byte for byte."
        console.print(Text(line, "bold green"), soft_wrap=True)
    rate = len(demo.published) / demo.seconds
    console.print(f"{demo.seconds:.1f} s from the first published to the last accounted for: {rate:.0f} events/s.")


def _show(console: Console, title: str, rows: Iterable[bigquery.Row], limit: int) -> None:
    """Show the first rows of a query as a table."""
    first = list(itertools.islice(rows, limit))
    names = list(first[0].keys()) if first else ["none"]
    console.print()
    print_rows(names, [list(dict(row).values()) for row in first], title=title, console=console)


_SAMPLES = {
    "orders": "order_id, customer_id, status, total_amount, item_count",
    "inventory": "product_id, warehouse_id, quantity_change, reason, event_date",
    "user_activity": "user_id, activity_type, browser, os, is_bot, metadata.platform",
}


def _show_rows(console: Console, client: bigquery.Client, dataset: str) -> None:
    for name, columns in _SAMPLES.items():
        query = f"SELECT {columns} FROM `{dataset}.{name}` ORDER BY processed_timestamp, 1 LIMIT 3"  # noqa: S608
        _show(console, name, client.query_and_wait(query), 3)


def _show_dead_letter(console: Console, client: bigquery.Client, dataset: str) -> None:
    query = f"SELECT * FROM `{dataset}.dead_letters` ORDER BY stage = 'contract' DESC, event_id LIMIT 1"  # noqa: S608
    for letter in client.query_and_wait(query):
        text = printable(f"event {letter.event_id}\nstage {letter.stage}, fingerprint {letter.fingerprint}")
        console.print(Text.assemble(("\na dead letter\n", "bold"), text), soft_wrap=True)
        for line in payload_view.styled(letter.payload, letter.errors):
            console.print(line, soft_wrap=True)


def _show_analytics(console: Console, client: bigquery.Client, settings: Settings) -> None:
    all_queries = queries()
    for name in _QUESTIONS:
        bound = all_queries[name].bind(client.project, settings, {})
        rows = client.query_and_wait(bound.sql, job_config=bound.config())
        _show(console, f"{all_queries[name].question}  (sluice sql {name})", rows, 5)


def _show_next(console: Console) -> None:
    console.print(
        "\nNext:\n"
        "  .venv/bin/sluice up                     the stack, and it stays\n"
        "  .venv/bin/sluice generate --rate 50     endless events, from another shell\n"
        "  .venv/bin/sluice tail                   its events, as they come\n"
        "  .venv/bin/sluice sql                    more questions to its tables\n"
        "  .venv/bin/sluice publish events.ndjson  your own events\n"
        "  docs/add-an-event-type.md               an event type of your own",
        highlight=False,
        soft_wrap=True,
    )
