"""The bootstrap: brings the dataset and its tables into being from `sql/schema/`, as often as one likes."""

import dataclasses
import enum
import pathlib
import string
from collections.abc import Iterator

from google.api_core.exceptions import Conflict, GoogleAPICallError, NotFound
from google.cloud import bigquery

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
        error: BigQuery's words, where there was an error.
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
        return [Step(name, Change.UNCHANGED if self._exists(name) else Change.CREATE) for name, _ in self.statements()]

    def run(self) -> list[Step]:
        """Make what is missing. Several runs at once do no harm: one of them creates, the others find."""
        return [self._make(name, ddl) for name, ddl in self.statements()]

    def _exists(self, name: str) -> bool:
        dataset = bigquery.DatasetReference(self.client.project, self.settings.dataset)
        try:
            if name == _DATASET:
                self.client.get_dataset(dataset)
            else:
                self.client.get_table(dataset.table(name))
        except NotFound:
            return False
        return True

    def _make(self, name: str, ddl: str) -> Step:
        try:
            job = self.client.query(ddl)
            job.result()
        except Conflict:
            return Step(name, Change.UNCHANGED)
        except GoogleAPICallError as error:
            return Step(name, Change.ERROR, str(error))
        return Step(name, Change.CREATED if job.ddl_operation_performed == "CREATE" else Change.UNCHANGED)
