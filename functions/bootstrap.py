"""The bootstrap: brings the dataset and its tables into being from `sql/schema/`, as often as one likes."""

import dataclasses
import enum
import functools
import pathlib
import string
from collections.abc import Callable, Iterator

import requests
from google.api_core.exceptions import Conflict, GoogleAPIError, NotFound
from google.cloud import bigquery
from google.cloud.bigquery import DEFAULT_RETRY

from functions.retry import within
from functions.settings import Settings

FOLDER = pathlib.Path(__file__).parent.parent / "sql" / "schema"

_DATASET = "dataset"


class Change(enum.StrEnum):
    """What happened to an object of the warehouse, or would."""

    CREATE = "create"
    CREATED = "created"
    UNCHANGED = "unchanged"
    ERROR = "error"


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One object of the warehouse.

    Attributes:
        name: `dataset`, or the name of the table: the name of its file.
        change: What happened, or would.
        error: What went wrong, where something did.
    """

    name: str
    change: Change
    error: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Bootstrap:
    """The DDL of a dataset.

    Attributes:
        client: Client of the dataset's project.
        settings: Names, location and retention; the DDL's `${...}` are settings in lower case.
        folder: One `CREATE ... IF NOT EXISTS` a file, named as the object; `dataset.sql` comes first.
    """

    client: bigquery.Client
    settings: Settings
    folder: pathlib.Path = FOLDER

    def statements(self) -> Iterator[tuple[str, str]]:
        """Name and DDL of each object, in the order in which they are made."""
        parameters = {
            "project": self.client.project,
            "dataset": self.settings.dataset,
            "location": self.settings.location,
            "retention_days": self.settings.retention_days,
            "environment": self.settings.environment,
        }
        files = sorted(self.folder.glob("*.sql"), key=lambda file: (file.stem != _DATASET, file.stem))
        for file in files:
            yield file.stem, string.Template(file.read_text(encoding="utf-8")).substitute(parameters)

    def plan(self) -> list[Step]:
        """Say what `run` would do, and do nothing."""
        return [_attempt(name, functools.partial(self._look, name)) for name, _ in self.statements()]

    def run(self) -> list[Step]:
        """Make what is missing. Several runs at once do no harm: one of them creates, the others find."""
        return [_attempt(name, functools.partial(self._make, ddl)) for name, ddl in self.statements()]

    def _look(self, name: str) -> Change:
        dataset = bigquery.DatasetReference(self.client.project, self.settings.dataset)
        try:
            if name == _DATASET:
                self.client.get_dataset(dataset, retry=_ATTEMPTS.retry, timeout=_ATTEMPTS.timeout)
            else:
                self.client.get_table(dataset.table(name), retry=_ATTEMPTS.retry, timeout=_ATTEMPTS.timeout)
        except NotFound:
            return Change.CREATE
        return Change.UNCHANGED

    def _make(self, ddl: str) -> Change:
        try:
            job = self.client.query(ddl, retry=_ATTEMPTS.retry, timeout=_ATTEMPTS.timeout, job_retry=None)
            job.result(retry=_ATTEMPTS.retry, timeout=_ATTEMPTS.timeout, job_retry=None)
        except Conflict:
            return Change.UNCHANGED
        return Change.CREATED if job.ddl_operation_performed == "CREATE" else Change.UNCHANGED


_ATTEMPTS = within(30, DEFAULT_RETRY)


def _attempt(name: str, look_or_make: Callable[[], Change]) -> Step:
    try:
        return Step(name, look_or_make())
    except (GoogleAPIError, requests.RequestException, TimeoutError) as error:
        return Step(name, Change.ERROR, f"{type(error).__name__}: {error}")
