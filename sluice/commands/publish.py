"""The commands `sluice publish` and `sluice generate`."""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sluice.commands.command_settings import check_stack, check_topic, read_settings
from sluice.commands.exit_codes import ExitCode, print_error
from sluice.commands.options import IdFieldPaths, Seed, Topic, check_version, id_fields
from sluice.local.names import TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sluice.publish import Publication
    from sluice.shop.generator import Generated, Scenario

console = Console(stderr=True)

_DAY = 86_400
_RATE = 50.0
"""Default messages per second of `sluice generate`."""


def publish(
    file: Annotated[
        typer.FileBinaryRead,
        typer.Argument(
            metavar="FILE", help="NDJSON with one event per line, compressed with gzip or not; - for standard input."
        ),
    ],
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="Messages per second; default: as fast as Pub/Sub accepts them.", show_default=False
        ),
    ] = None,
    shift_to_now: Annotated[
        bool,
        typer.Option("--shift-to-now", help="Shift the times of all events so that the newest event is now."),
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum lines to publish.")] = None,
    skip: Annotated[
        int, typer.Option(min=0, help="Skip the first lines, which are published already. Empty lines do not count.")
    ] = 0,
    id_field: IdFieldPaths = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Attribute of all messages; repeatable.", show_default=False),
    ] = None,
    schema_version: Annotated[
        int | None,
        typer.Option(min=1, help="Contract version of the events; default: that of the type.", show_default=False),
    ] = None,
    topic: Topic = TOPIC,
) -> None:
    """Publish the events of a file.

    The event id is the value of --id-field, or derived from the line, so that a line that is published again is no
    second event. An interrupted run prints the --skip with which the command publishes the rest.

    Examples:
        sluice publish events.ndjson
        sluice publish events.ndjson --shift-to-now --rate 100
        sluice publish events.ndjson --skip 40 --attribute source=web
        zcat events.ndjson.gz | sluice publish - --id-field '$.order_id'

    Exit code 0: all events are published; 1: an event is not published or has no id; 2: an option is wrong;
    130: interrupted.
    """
    check_version(schema_version)
    fields = id_fields(id_field)
    check_stack()
    check_topic(topic)
    from functions.files.id_fields import WithoutId
    from functions.files.sources import Source
    from sluice.commands.progress import print_lines_without_id
    from sluice.publish import from_lines, shift_to

    without_id = WithoutId()
    attributes = _attributes(attribute or (), schema_version)
    if fields and "event_id" in attributes:
        raise typer.BadParameter("event_id is given by --id-field already", param_hint="--attribute")
    # The unbuffered file returns each line as soon as it is available, and is what a source expects.
    source = Source(getattr(file, "name", "standard input"), 0, lambda: getattr(file, "raw", file))
    with contextlib.closing(source.lines()) as all_lines:
        lines = itertools.islice(all_lines, limit and skip + limit)
        publications = from_lines(lines, fields, without_id, attributes, skip)
        if shift_to_now:
            publications = shift_to(datetime.now(UTC), publications)
        _publish(publications, topic, rate, _Resumption(skip, limit))
    if without_id.count:
        print_lines_without_id("Not published:", without_id)
        raise typer.Exit(1)


_RESERVED = ("data", "ordering_key", "retry", "timeout", "topic")
"""Names of attributes for which Google's client has an argument."""


def _attributes(pairs: Sequence[str], schema_version: int | None) -> dict[str, str]:
    """Parse `--attribute`, and add the attribute of `--schema-version`.

    Raises:
        typer.BadParameter: An attribute is not KEY=VALUE, cannot be sent, or is given twice.
    """
    attributes = {"schema_version": f"{schema_version}"} if schema_version else {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            problem = f"{pair!r} is not KEY=VALUE"
        elif key in _RESERVED or key.startswith("goog"):
            problem = f"{key} cannot be an attribute here; neither can names that begin with goog"
        elif key in attributes:
            problem = f"{key} is given twice"
        else:
            attributes[key] = value
            continue
        raise typer.BadParameter(problem, param_hint="--attribute")
    return attributes


class _Resumption:
    """Follows which lines Pub/Sub has accepted, to say where a run that ended early continues.

    Args:
        skip: Number of lines that the run skips.
        limit: Maximum lines of the run; None for all.
    """

    def __init__(self, skip: int, limit: int | None) -> None:
        self._skip, self._end = skip, limit and skip + limit
        self._last = skip
        self._pending: set[int] = set()

    def follow(self, publications: Iterable[Publication]) -> Iterator[Publication]:
        """Yield the publications of a file in their order."""
        for publication in publications:
            self._pending.add(publication.position)
            self._last = publication.position
            yield publication

    def published(self, publication: Publication) -> None:
        """Note that Pub/Sub has accepted a publication."""
        self._pending.discard(publication.position)

    def rest(self) -> str:
        """Return what to do to publish the rest; empty if Pub/Sub has not accepted the first line."""
        skip = min(self._pending) - 1 if self._pending else self._last
        if skip == self._skip:
            return ""
        limit = f" --limit {self._end - skip}" if self._end and self._end > skip else ""
        return f"To publish the rest, run the command again with --skip {skip}{limit}."


def generate(
    seed: Seed = 1,
    bad_share: Annotated[float, typer.Option(min=0, max=1, help="Share of invalid messages.")] = 0.0,
    duplicate_share: Annotated[float, typer.Option(min=0, max=1, help="Share of duplicate messages.")] = 0.0,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Messages per second; default: 50, or 3 000 per day with --stdout --limit.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Number of messages; default: endless.")] = None,
    stdout: Annotated[
        bool,
        typer.Option(
            "--stdout",
            help="Write NDJSON without attributes to standard output instead. With --limit, the events are those of the"
            " last days up to now, written at once.",
        ),
    ] = False,
    topic: Topic = TOPIC,
) -> None:
    """Publish realistic events of a simulated shop until Ctrl-C.

    No event is dated in the future or older than RETENTION_DAYS. If the requested number of events needs more days, the
    command increases the number of events per day.

    Examples:
        sluice generate --rate 20
        sluice generate --bad-share 0.05 --duplicate-share 0.02 --limit 200
        sluice generate --stdout --limit 10000 > events.ndjson

    Exit code 0: all messages are published; 1: Pub/Sub rejected a message or did not answer; 2: an option or a setting
    is wrong; 130: interrupted.
    """
    if bad_share + duplicate_share >= 1:
        raise typer.BadParameter("--bad-share and --duplicate-share must be below 1 together")
    if not stdout:
        check_stack()
        check_topic(topic)
    from sluice.shop import generator
    from sluice.shop.timeline import live

    scenario = functools.partial(generator.Scenario, seed, bad_share, duplicate_share)
    if stdout and limit is not None:
        _write(_until_now(scenario(generator.EVENTS_PER_DAY if rate is None else round(rate * _DAY)), limit))
        return
    rate = rate or _RATE
    messages = itertools.islice(live(scenario(round(rate * _DAY))), limit)
    from sluice.publish import Publication, paced

    if stdout:
        _write(paced(messages, rate))
    else:
        if limit is None:
            console.print(f"Publishing {rate:g} messages per second to {topic} until Ctrl-C.", soft_wrap=True)
        _publish((Publication(message.data, message.attributes) for message in messages), topic, rate)


def _until_now(scenario: Scenario, count: int) -> Iterator[Generated]:
    """Return events whose last one is now and none of which is older than the retention."""
    from sluice.shop.timeline import history_until, stretch_pace
    from sluice.smoke import oldest_midnight

    retention_days = read_settings(archive=False).retention_days
    now = datetime.now(UTC)
    earliest = oldest_midnight(now, retention_days)
    per_day = stretch_pace(scenario, count, earliest, now).events_per_day
    if per_day > scenario.events_per_day:
        console.print(
            f"{per_day} events per day instead of {scenario.events_per_day}: RETENTION_DAYS is {retention_days}."
        )
    with console.status("searching the start of the history"):
        return history_until(scenario, count, now, earliest)


def _write(messages: Iterable[Generated]) -> None:
    for message in messages:
        sys.stdout.buffer.write(message.data + b"\n")
        sys.stdout.buffer.flush()


@contextlib.contextmanager
def _counting() -> Iterator[Callable[[], None]]:
    """Count messages while the context lasts, shown on a terminal meanwhile, and print their number at its end."""
    columns = (SpinnerColumn(), TextColumn("{task.completed} published"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task("", total=None)
        [task] = progress.tasks
        try:
            yield lambda: progress.advance(task.id)
        finally:
            console.print(f"{task.completed} published in {task.elapsed or 0:.1f} s", highlight=False)


def _publish(
    publications: Iterable[Publication], topic: str, rate: float | None, resumption: _Resumption | None = None
) -> None:
    from functions.files.sources import Unreadable
    from sluice.publish import FAILURES
    from sluice.publish import publish as publish_all

    follow = resumption or _Resumption(0, None)
    try:
        with _counting() as count:

            def published(publication: Publication) -> None:
                follow.published(publication)
                count()

            publish_all(follow.follow(publications), topic, rate=rate, published=published)
    except Unreadable as error:
        print_error("Cannot read the events.", error)
        raise typer.Exit(ExitCode.FAILED) from error
    except FAILURES as error:
        print_error(f"Not published to {topic}:", error)
        if rest := resumption and resumption.rest():
            console.print(rest, soft_wrap=True)
        raise typer.Exit(ExitCode.FAILED) from error
    except KeyboardInterrupt as interrupt:
        console.print(f"[bold]Interrupted.[/] {resumption.rest() if resumption else ''}", soft_wrap=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from interrupt
