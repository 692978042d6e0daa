"""Names of tables: `DATASET.TABLE`, as queries and clients of the datasets' project take them."""

import dataclasses

from functions.core import dead_letters
from functions.events import event_types
from functions.names import REPLAYS
from functions.settings import Settings


def event_tables() -> list[str]:
    """Return the tables of all event types without their dataset, sorted."""
    return sorted({event_type.table for event_type in event_types().values()})


@dataclasses.dataclass(frozen=True, slots=True)
class Tables:
    """Names the tables and views of a deployment.

    Attributes:
        settings: Names of the two datasets.
    """

    settings: Settings

    def live(self, table: str) -> str:
        """Return the name of a table or view in the live dataset."""
        return f"{self.settings.dataset}.{table}"

    def historical(self, table: str) -> str:
        """Return the name of a table in the historical dataset."""
        return f"{self.settings.historical_dataset}.{table}"

    def both(self, table: str) -> tuple[str, str]:
        """Return the names of an event table in the live and in the historical dataset."""
        return self.live(table), self.historical(table)

    def events(self) -> list[str]:
        """Return the names of all event tables, live and historical."""
        return [name for table in event_tables() for name in self.both(table)]

    @property
    def dead_letters(self) -> str:
        """Name of the table of dead letters."""
        return self.live(dead_letters.TABLE)

    @property
    def dead_letter_status(self) -> str:
        """Name of the view that says which dead letters are open."""
        return self.live("dead_letter_status")

    @property
    def replays(self) -> str:
        """Name of the ledger of replays."""
        return self.live(REPLAYS)
