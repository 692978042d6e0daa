"""The bootstrap: creates and updates the warehouse as `sql/` defines it. It is idempotent."""

import dataclasses
import enum
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import requests
from google.api_core.exceptions import BadRequest, Conflict, GoogleAPIError, NotFound, PreconditionFailed
from google.api_core.retry import Retry
from google.cloud import bigquery
from google.cloud.bigquery import DEFAULT_RETRY

from functions.events import event_types
from functions.ingest.retry import FIRST_PAUSE, LONGEST_PAUSE, within
from functions.names import Names
from functions.schema.ddl import UnknownDdl
from functions.schema.definitions import FOLDER, Definition, Kind, definitions
from functions.schema.table_diff import TableDiff, table_diff
from functions.settings import Settings
from functions.source_files import InvalidFile

_AT_ONCE = 8
_TIMES_CHANGED_BY_OTHERS = 3

_LABEL = "definition"
_TYPES = {Kind.VIEW: {"VIEW", "MATERIALIZED_VIEW"}, Kind.EXTERNAL: {"EXTERNAL"}}
"""Types of live objects by kind of their definition."""

_NO_FILES = re.compile(
    r"cannot query hive partitioned data\b.*\bwithout any associated files", re.IGNORECASE | re.DOTALL
)
"""BigQuery's error for an external table with Hive's partitions while no object lies under its prefix."""


class SchemaChange(enum.StrEnum):
    """The change of an object of the warehouse, made or planned."""

    CREATE = "create"
    CREATED = "created"
    ALTER = "alter"
    ALTERED = "altered"
    REPLACE = "replace"
    REPLACED = "replaced"
    PENDING = "pending"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"
    ERROR = "error"


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """The result for one object of the warehouse.

    Attributes:
        name: `DATASET`, or `DATASET.TABLE`.
        change: The change, made or planned.
        diff: Differences between a live table and its DDL, a line each: `+ items.color STRING`.
        error: Reason of a rejected change, or of an error.
        pending: What a pending change waits for.
    """

    name: str
    change: SchemaChange
    diff: Sequence[str] = ()
    error: str | None = None
    pending: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Bootstrap:
    """Brings datasets, tables and views in line with their definitions.

    Attributes:
        client: Client of the datasets' project.
        settings: Names, location and retention.
        folder: Where `schema/` and `views/` are.
    """

    client: bigquery.Client
    settings: Settings
    folder: pathlib.Path = FOLDER

    def plan(self) -> list[Step]:
        """Return what `run` would do; change nothing."""
        try:
            if rejected := list(self._clashes()):
                return rejected
            wanted = self._definitions()
        except InvalidFile as error:
            return [Step("definitions", SchemaChange.REJECTED, error=str(error))]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda definition: _attempt(definition, self._look), wanted))

    def run(self) -> list[Step]:
        """Create what is missing, and update what differs. If one difference is rejected, change nothing at all.

        Concurrent runs are safe: one of them makes a change, and the others find it made.
        """
        plan = self.plan()
        if any(step.change in {SchemaChange.REJECTED, SchemaChange.ERROR} for step in plan):
            return plan
        return list(self._make_all(plan))

    def _clashes(self) -> Iterator[Step]:
        """Yield an error for each name that several tables or views have: the last of them would replace the others."""
        event_tables = {name: event_type.table for name, event_type in event_types().items()}
        for clash in Names.read(self.folder, event_tables).clashes():
            yield Step(
                f"{self.settings.dataset}.{clash.name}", SchemaChange.REJECTED, error=f"{clash}; rename all but one"
            )

    def _definitions(self) -> list[Definition]:
        return definitions(self.client.project, self.settings, self.folder)

    def _make_all(self, plan: Sequence[Step]) -> Iterator[Step]:
        makers: dict[SchemaChange, Callable[[Definition], Step]] = {
            SchemaChange.CREATE: self._create,
            SchemaChange.REPLACE: self._execute,
            SchemaChange.ALTER: self._alter,
        }
        for definition, step in zip(self._definitions(), plan, strict=True):
            make = makers.get(step.change)
            yield dataclasses.replace(_attempt(definition, make), diff=step.diff) if make else step

    def _look(self, definition: Definition) -> Step:
        try:
            match definition.kind:
                case Kind.DATASET:
                    return self._look_at_dataset(definition)
                case Kind.TABLE:
                    return self._compare_table(definition)
                case Kind.VIEW | Kind.EXTERNAL:
                    return _compare_label(definition, self._live(definition))
        except NotFound:
            return Step(definition.name, SchemaChange.CREATE)

    def _look_at_dataset(self, definition: Definition) -> Step:
        reference = bigquery.DatasetReference(self.client.project, definition.name)
        live = self.client.get_dataset(reference, retry=_ATTEMPTS.retry, timeout=_ATTEMPTS.timeout)
        if live.location.casefold() != self.settings.location.casefold():
            why = f"it is in {live.location}, and LOCATION is {self.settings.location}; a dataset cannot be moved"
            return Step(definition.name, SchemaChange.REJECTED, error=why)
        return Step(definition.name, SchemaChange.UNCHANGED)

    def _compare_table(self, definition: Definition) -> Step:
        live = self._live(definition)
        if live.table_type != "TABLE":
            return Step(definition.name, SchemaChange.REJECTED, error=f"a {live.table_type} has this name")
        return _step(definition, table_diff(live, definition.ddl, definition.policy_tags))

    def _live(self, definition: Definition) -> bigquery.Table:
        name = f"{self.client.project}.{definition.name}"
        return self.client.get_table(name, retry=_ATTEMPTS.retry, timeout=_ATTEMPTS.timeout)

    def _evolution(self, definition: Definition) -> TableDiff:
        return table_diff(self._live(definition), definition.ddl, definition.policy_tags)

    def _create(self, definition: Definition) -> Step:
        """Create an object, and set the policy tags, which DDL has not, before the table has rows."""
        step = self._execute(definition)
        if definition.policy_tags:
            altered = self._alter(definition)
            if altered.error:
                return altered
        return step

    def _execute(self, definition: Definition) -> Step:
        try:
            job = self.client.query(definition.ddl, retry=_ATTEMPTS.retry, timeout=_ATTEMPTS.timeout, job_retry=None)
            job.result(retry=_ATTEMPTS.retry, timeout=_ATTEMPTS.timeout, job_retry=None)
        except Conflict:
            return Step(definition.name, SchemaChange.UNCHANGED)
        except BadRequest as error:
            if definition.kind is Kind.EXTERNAL and _NO_FILES.search(str(error)):
                return Step(definition.name, SchemaChange.PENDING, pending=_WAITS_FOR_FILES)
            raise
        done = {"CREATE": SchemaChange.CREATED, "REPLACE": SchemaChange.REPLACED}
        return Step(definition.name, done.get(job.ddl_operation_performed or "", SchemaChange.UNCHANGED))

    def _alter(self, definition: Definition) -> Step:
        """Send all changes in one request, on the condition that the table is unchanged since it was compared."""
        for _ in range(_TIMES_CHANGED_BY_OTHERS):
            wanted = self._evolution(definition)
            step = _step(definition, wanted)
            if step.change is not SchemaChange.ALTER:
                return step
            try:
                self.client.update_table(wanted.table, wanted.fields, retry=_ATTEMPTS.retry, timeout=_ATTEMPTS.timeout)
            except PreconditionFailed:
                continue
            return dataclasses.replace(step, change=SchemaChange.ALTERED)
        return Step(
            definition.name,
            SchemaChange.ERROR,
            error="others changed the table during each attempt; run the bootstrap later",
        )


class _Attempts(NamedTuple):
    """Arguments of a client's call."""

    retry: Retry
    timeout: float


def _attempts(seconds: float) -> _Attempts:
    starts, timeout = within(seconds)
    retry = DEFAULT_RETRY.with_delay(initial=FIRST_PAUSE, maximum=LONGEST_PAUSE, multiplier=2.0)
    return _Attempts(retry.with_timeout(starts), timeout)


_ATTEMPTS = _attempts(30)

_WAITS_FOR_FILES = (
    "BigQuery creates it once the archive has an object; the next run of the bootstrap tries again. "
    "Until then the table does not exist, or is as before"
)


def _step(definition: Definition, wanted: TableDiff) -> Step:
    diff = [str(difference) for difference in wanted.differences]
    if wanted.rejected:
        by_hand = [f"by hand: {statement}" for statement in wanted.manual_statements]
        why = "; ".join([*map(str, wanted.rejected), *by_hand])
        return Step(definition.name, SchemaChange.REJECTED, diff, why)
    return Step(definition.name, SchemaChange.ALTER if diff else SchemaChange.UNCHANGED, diff)


def _compare_label(definition: Definition, live: bigquery.Table) -> Step:
    if live.table_type not in _TYPES[definition.kind]:
        return Step(definition.name, SchemaChange.REJECTED, error=f"a {live.table_type} has this name")
    before = live.labels.get(_LABEL)
    if before == definition.digest:
        return Step(definition.name, SchemaChange.UNCHANGED)
    return Step(definition.name, SchemaChange.REPLACE, [f"~ {_LABEL} {before} -> {definition.digest}"])


def _attempt(definition: Definition, look_or_make: Callable[[Definition], Step]) -> Step:
    try:
        return look_or_make(definition)
    except (GoogleAPIError, requests.RequestException, TimeoutError, UnknownDdl) as error:
        return Step(definition.name, SchemaChange.ERROR, error=f"{type(error).__name__}: {error}")
