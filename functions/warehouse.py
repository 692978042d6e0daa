"""The warehouse: streaming rows into BigQuery, with a fate for each row."""

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery
from google.cloud.bigquery import DEFAULT_RETRY

from functions.dead_letter import Violation
from functions.retry import within

_TOO_LARGE = 413
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)


class Record(NamedTuple):
    """A row as `insertAll` takes it.

    Attributes:
        insert_id: BigQuery drops a second row with the same id for about a minute, as well as it can.
        columns: JSON values by column name.
    """

    insert_id: str
    columns: Mapping[str, Any]


class NotInserted(Exception):
    """BigQuery did not take some rows in time, and did not say that they are bad."""


class Warehouse:
    """The tables of a dataset.

    Args:
        client: Client of the dataset's project.
        dataset: Name of the dataset.
    """

    def __init__(self, client: bigquery.Client, dataset: str) -> None:
        self._client = client
        self._dataset = bigquery.DatasetReference(client.project, dataset)

    def insert(self, table: str, records: Sequence[Record], timeout: float) -> dict[int, Sequence[Violation]]:
        """Stream rows into a table; blocks. One bad row does not fail its neighbours.

        Args:
            table: Name of the table.
            records: The rows, at least one.
            timeout: Seconds that it may take at most, retries included.

        Returns:
            By position, the rows that BigQuery refused as invalid, and why. All others are durable.

        Raises:
            NotInserted: Rows were still refused for passing reasons at the end.
            google.api_core.exceptions.GoogleAPIError: BigQuery refused the request, or did not answer in time.
            requests.RequestException: The connection failed.
        """
        deadline = time.monotonic() + timeout
        refused: dict[int, Sequence[Violation]] = {}
        waiting = list(range(len(records)))
        for pause in itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])):
            answers = self._insert_all(table, [records[index] for index in waiting], deadline)
            again = []
            for position, errors in answers.items():
                index = waiting[position]
                if any(error.get("reason") == "invalid" for error in errors):
                    refused[index] = [_violation(error) for error in errors]
                else:
                    again.append(index)
            if not again:
                break
            if time.monotonic() + pause > deadline:
                reasons = {error.get("reason", "unknown") for errors in answers.values() for error in errors}
                raise NotInserted(f"{len(again)} of {len(records)} rows of {table}: {', '.join(sorted(reasons))}")
            if len(again) == len(waiting):
                time.sleep(pause)
            waiting = again
        return refused

    def _insert_all(self, table: str, records: Sequence[Record], deadline: float) -> dict[int, list[dict[str, str]]]:
        """One `insertAll`, or several where one is too large. The errors of each row that was not inserted."""
        attempts = within(max(deadline - time.monotonic(), 0.1), DEFAULT_RETRY)
        try:
            answers = self._client.insert_rows_json(
                self._dataset.table(table),
                [record.columns for record in records],
                row_ids=[record.insert_id for record in records],
                skip_invalid_rows=True,
                retry=attempts.retry,
                timeout=attempts.timeout,
            )
        except GoogleAPICallError as error:
            if error.code != _TOO_LARGE:
                raise
            if len(records) == 1:
                return {0: [{"reason": "invalid", "message": f"the row is too large: {error.message}"}]}
            half = len(records) // 2
            second = self._insert_all(table, records[half:], deadline)
            return self._insert_all(table, records[:half], deadline) | {
                half + position: errors for position, errors in second.items()
            }
        return {answer["index"]: list(answer["errors"]) for answer in answers}


def _violation(error: Mapping[str, str]) -> Violation:
    location = error.get("location")
    return Violation(f"$.{location}" if location else "$", error.get("reason", "invalid"), error.get("message", ""))
