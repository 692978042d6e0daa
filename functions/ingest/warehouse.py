"""Streams rows into BigQuery, with a result for each row."""

import http
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from functions.core.dead_letters import Violation
from functions.ingest.http_client import Api, ApiError

_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)


class InsertRow(NamedTuple):
    """A row as `insertAll` takes it.

    Attributes:
        insert_id: BigQuery drops a second row with the same id for about a minute, on a best-effort basis; at most 128
            characters (https://cloud.google.com/bigquery/quotas#streaming_inserts).
        columns: JSON values by column name, or that JSON itself.
    """

    insert_id: str
    columns: Mapping[str, Any] | msgspec.Raw


class InsertResult(NamedTuple):
    """The result of an insert. Rows that neither attribute names are durable.

    Attributes:
        rejected: Reasons why rows are invalid, by position.
        retryable: Reasons why rows were not inserted that a retry may insert, by position.
        is_overloaded: Whether rows are retryable for another reason than a bad row in the same request.
    """

    rejected: dict[int, Sequence[Violation]]
    retryable: dict[int, str]
    is_overloaded: bool = False


class _Row(msgspec.Struct, rename="camel"):
    insert_id: str
    json: Mapping[str, Any] | msgspec.Raw


class _Request(msgspec.Struct, rename="camel"):
    """https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/insertAll#request-body."""

    rows: list[_Row]
    skip_invalid_rows: bool = True


class _Problem(msgspec.Struct):
    reason: str = "unknown"
    location: str = ""
    message: str = ""


class _RowProblems(msgspec.Struct):
    index: int
    errors: list[_Problem]


class _Answer(msgspec.Struct, rename="camel"):
    """https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/insertAll#response-body."""

    insert_errors: list[_RowProblems] = []


_encode_request = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(_Answer).decode


class Warehouse:
    """The tables of a dataset.

    Args:
        api: BigQuery.
        project: The dataset's project.
        dataset: Name of the dataset.
    """

    def __init__(self, api: Api, project: str, dataset: str) -> None:
        self._api = api
        self._system = api.system
        self._tables = f"/bigquery/v2/projects/{project}/datasets/{dataset}/tables"

    def insert(self, table: str, records: Sequence[InsertRow], timeout: float) -> InsertResult:
        """Stream rows into a table; blocks. A bad row does not fail the others.

        Args:
            table: Name of the table.
            records: The rows, at least one.
            timeout: Maximum seconds, retries included.

        Raises:
            ApiError: BigQuery rejected the request.
            urllib3.exceptions.HTTPError: It did not answer in time, or the connection failed.
        """
        deadline = self._system.monotonic() + timeout
        insertion = InsertResult({}, {})
        waiting = list(range(len(records)))
        for pause in itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])):
            answers = self._insert_all(table, [records[index] for index in waiting], deadline)
            again: dict[int, str] = {}
            for position, problems in answers.items():
                index = waiting[position]
                if missing := [problem.location for problem in problems if _is_missing_column(problem)]:
                    insertion.retryable[index] = f"{table} lacks a column: {missing[0]}"
                elif any(problem.reason == "invalid" for problem in problems):
                    insertion.rejected[index] = [_violation(problem) for problem in problems]
                else:
                    again[index] = f"{table}: {problems[0].reason}"
            if not again:
                break
            now = self._system.monotonic()
            if now + pause > deadline or not self._api.service.retries.take(now):
                is_overloaded = any(not reason.endswith(": stopped") for reason in again.values())
                return InsertResult(insertion.rejected, insertion.retryable | again, is_overloaded)
            if len(again) == len(waiting):
                self._system.sleep(pause)
            waiting = list(again)
        return insertion

    def _insert_all(self, table: str, records: Sequence[InsertRow], deadline: float) -> dict[int, list[_Problem]]:
        """Send one `insertAll`, or several where one is too large. Return the problems of the rows that are not in."""
        request = _Request([_Row(record.insert_id, record.columns) for record in records])
        seconds = max(deadline - self._system.monotonic(), 0.1)
        path = f"{self._tables}/{table}/insertAll?prettyPrint=false"
        try:
            answer = self._api.post(path, "application/json", _encode_request(request), seconds)
        except ApiError as error:
            if not _is_too_large(error):
                raise
            if len(records) == 1:
                return {0: [_Problem("invalid", message="the row is too large for BigQuery")]}
            half = len(records) // 2
            second = self._insert_all(table, records[half:], deadline)
            return self._insert_all(table, records[:half], deadline) | {
                half + position: problems for position, problems in second.items()
            }
        return {row.index: row.errors for row in _decode_answer(answer).insert_errors}


def _is_too_large(error: ApiError) -> bool:
    """Return whether a request is too large: 413 is from Google's front end, 400 from BigQuery for more than 10 MB."""
    return error.status == http.HTTPStatus.CONTENT_TOO_LARGE or "payload size exceeds" in error.unsafe_message


def _is_missing_column(problem: _Problem) -> bool:
    """Return whether the table lacks a column. Then it is behind the code; the event is not bad."""
    return problem.message.startswith("no such field")


def _violation(problem: _Problem) -> Violation:
    return Violation(f"$.{problem.location}" if problem.location else "$", problem.reason, problem.message)
