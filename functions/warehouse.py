"""The warehouse: streaming rows into BigQuery, with a fate for each row."""

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from functions.dead_letter import Violation
from functions.retry import PASSING, within

_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)


class Record(NamedTuple):
    """A row as `insertAll` takes it.

    Attributes:
        insert_id: BigQuery drops a second row with the same id for about a minute, as well as it can.
        columns: JSON values by column name.
    """

    insert_id: str
    columns: Mapping[str, Any]


class Insertion(NamedTuple):
    """What has become of rows; those that neither attribute names are durable.

    Attributes:
        refused: By position, the rows that BigQuery says are invalid, and why.
        unfinished: By position, the rows that were not inserted for a reason that passes, and the reason.
    """

    refused: dict[int, Sequence[Violation]]
    unfinished: dict[int, str]


class Warehouse:
    """The tables of a dataset.

    Args:
        client: Client of the dataset's project.
        dataset: Name of the dataset.
    """

    def __init__(self, client: bigquery.Client, dataset: str) -> None:
        self._client = client
        self._dataset = bigquery.DatasetReference(client.project, dataset)

    def insert(self, table: str, records: Sequence[Record], timeout: float) -> Insertion:
        """Stream rows into a table; blocks. One bad row does not fail its neighbours.

        Args:
            table: Name of the table.
            records: The rows, at least one.
            timeout: Seconds that it may take at most, retries included.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery refused the request, or did not answer in time.
            requests.RequestException: The connection failed.
        """
        deadline = time.monotonic() + timeout
        insertion = Insertion({}, {})
        waiting = list(range(len(records)))
        for pause in itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])):
            answers = self._insert_all(table, [records[index] for index in waiting], deadline)
            again: dict[int, str] = {}
            for position, errors in answers.items():
                index = waiting[position]
                if missing := [error.get("location") for error in errors if _is_missing_column(error)]:
                    insertion.unfinished[index] = f"{table} lacks a column: {missing[0]}"
                elif any(error.get("reason") == "invalid" for error in errors):
                    insertion.refused[index] = [_violation(error) for error in errors]
                else:
                    again[index] = f"{table}: {errors[0].get('reason')}"
            if not again:
                break
            if time.monotonic() + pause > deadline:
                insertion.unfinished.update(again)
                break
            if len(again) == len(waiting):
                time.sleep(pause)
            waiting = list(again)
        return insertion

    def _insert_all(self, table: str, records: Sequence[Record], deadline: float) -> dict[int, list[dict[str, str]]]:
        """One `insertAll`, or several where one is too large. The errors of each row that was not inserted."""
        attempts = within(max(deadline - time.monotonic(), 0.1), PASSING)
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
            if not _is_too_large(error):
                raise
            if len(records) == 1:
                return {0: [{"reason": "invalid", "message": "the row is too large for BigQuery"}]}
            half = len(records) // 2
            second = self._insert_all(table, records[half:], deadline)
            return self._insert_all(table, records[:half], deadline) | {
                half + position: errors for position, errors in second.items()
            }
        return {answer["index"]: list(answer["errors"]) for answer in answers}


def _is_too_large(error: GoogleAPICallError) -> bool:
    """413 comes from Google's front end, 400 from BigQuery itself for more than 10 MB."""
    return error.code == 413 or "payload size exceeds" in str(error.message)


def _is_missing_column(error: Mapping[str, str]) -> bool:
    """The columns of a row are ours, so a table that lacks one is behind the code: no fault of the event."""
    return error.get("message", "").startswith("no such field")


def _violation(error: Mapping[str, str]) -> Violation:
    location = error.get("location")
    return Violation(f"$.{location}" if location else "$", error.get("reason", "invalid"), error.get("message", ""))
