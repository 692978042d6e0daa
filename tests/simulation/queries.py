"""Answers of the simulated BigQuery to the queries of reconciliation and backfill, which it knows by their texts."""

import collections
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from google.cloud import bigquery

from functions.archive import delivery
from functions.core.dead_letters import Stage

type _Row = Mapping[str, Any]
type _Answer = Callable[[Sequence[_Row], Mapping[str, Any]], Iterable[Mapping[str, Any]]]

LIVE_DATASET = "events"

_TABLE = re.compile(r"FROM `(?P<dataset>[^`]*)\.(?P<table>[^`.]+)`")


class UnknownQuery(Exception):
    """The text is that of no query that is simulated."""


def answer(tables: Mapping[str, Sequence[_Row]], text: str, parameters: Mapping[str, Any]) -> list[bigquery.Row]:
    """Return the rows of a query.

    Args:
        tables: The rows of the live dataset, by table. Historical tables have none.
        text: The query.
        parameters: Its parameters; dates are texts as ISO 8601 has them.

    Raises:
        UnknownQuery: No such query is simulated.
    """
    match = _TABLE.search(text)
    answers = [of_query for mark, of_query in _ANSWERS.items() if mark in text]
    if match is None or len(answers) != 1:
        raise UnknownQuery(text)
    is_live = match["dataset"] == LIVE_DATASET
    rows = tables.get(match["table"], ()) if is_live else ()
    return [_row(columns) for columns in answers[0](rows, parameters)]


def _row(columns: Mapping[str, Any]) -> bigquery.Row:
    return bigquery.Row(tuple(columns.values()), {name: index for index, name in enumerate(columns)})


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _failed_on(letter: _Row) -> str:
    return _time(letter["failed_at"]).astimezone(UTC).date().isoformat()


def _rows_of_objects(rows: Sequence[_Row], parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of days, summed up by the objects that they name."""
    of_days = [row for row in rows if row["event_date"] in parameters["days"]]
    contents: dict[tuple[str, int], set[str]] = collections.defaultdict(set)
    latest: dict[tuple[str, str], _Row] = {}
    for row in of_days:
        ingest = row["ingest"]
        contents[ingest["event_id"], ingest["schema_version"]].add(ingest["content_digest"])
        key = row["event_date"], ingest["event_id"]
        latest[key] = max(latest.get(key, row), row, key=_age)
    groups: dict[str, list[_Row]] = collections.defaultdict(list)
    for row in of_days:
        groups[row["ingest"]["archive_uri"]].append(row)
    for uri, group in sorted(groups.items()):
        ingests = [row["ingest"] for row in group]
        conflicting = [ingest for ingest in ingests if len(contents[ingest["event_id"], ingest["schema_version"]]) > 1]
        names = [json.dumps([ingest["event_id"], ingest["message_id"]]) for ingest in conflicting]
        if parameters["first"] <= uri <= parameters["last"]:
            yield {
                "_archive_uri": uri,
                "_count": len(group),
                "_digest": sum({_digest(ingest) for ingest in ingests}),
                "_duplicates": sum(latest[row["event_date"], row["ingest"]["event_id"]] is not row for row in group),
                "_conflicts": len(conflicting),
                "_conflicting": ",".join(names) or None,
            }


def _age(row: _Row) -> tuple[str, ...]:
    ingest = row["ingest"]
    return row["processed_timestamp"], ingest["publish_time"], ingest["message_id"], ingest["archive_uri"]


def _digest(identity: _Row) -> int:
    return delivery.digest(identity["event_id"], identity["message_id"])


def _letters_of_objects(letters: Sequence[_Row], parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the dead letters of days, summed up by the objects that they name and by type."""
    groups: dict[tuple[str, str | None], list[_Row]] = collections.defaultdict(list)
    for letter in letters:
        if _failed_on(letter) in parameters["days"]:
            groups[letter["archive_uri"], letter.get("event_type")].append(letter)
    for (uri, event_type), group in sorted(groups.items(), key=lambda item: item[0][0]):
        if parameters["first"] <= uri <= parameters["last"]:
            yield {
                "_archive_uri": uri,
                "_event_type": event_type,
                "_count": len(group),
                "_digest": sum({_digest(letter) for letter in group}),
            }


def _rows_of_events(rows: Sequence[_Row], parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in rows:
        ingest, day = row["ingest"], row["event_date"]
        if ingest["event_id"] in parameters["ids"] and day in parameters.get("days", [day]):
            yield {
                "_event_id": ingest["event_id"],
                "_message_id": ingest["message_id"],
                "_archive_uri": ingest["archive_uri"],
                "_day": date.fromisoformat(day),
                "_is_duplicate": False,
                "_is_conflicting": False,
                "_publish_time": _time(ingest["publish_time"]),
                "_content_digest": ingest["content_digest"],
                "_schema_version": ingest["schema_version"],
            }


def _letters_of_events(letters: Sequence[_Row], parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for letter in letters:
        if letter["event_id"] in parameters["ids"] and _failed_on(letter) >= parameters["since"]:
            yield {
                "_event_id": letter["event_id"],
                "_message_id": letter["message_id"],
                "_archive_uri": letter["archive_uri"],
                "_event_type": letter.get("event_type"),
                "_day": date.fromisoformat(_failed_on(letter)),
                "_publish_time": _time(letter["publish_time"]),
                "_content_digest": letter["content_digest"],
            }


def _present_rows(rows: Sequence[_Row], parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in rows:
        ingest, day = row["ingest"], row["event_date"]
        if ingest["event_id"] in parameters["ids"] and parameters["first"] <= day <= parameters["last"]:
            yield _present(ingest, day, ingest["schema_version"])


def _present_letters(letters: Sequence[_Row], parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for letter in letters:
        kind = letter["stage"] if letter["stage"] == Stage.WAREHOUSE else letter["fingerprint"]
        if letter["event_id"] in parameters["ids"] and kind in parameters["kinds"]:
            yield _present(letter, kind, None)


def _present(identity: _Row, kind: str, schema_version: int | None) -> dict[str, Any]:
    return {
        "event_id": identity["event_id"],
        "kind": kind,
        "message_id": identity["message_id"],
        "publish_time": _time(identity["publish_time"]),
        "content_digest": identity["content_digest"],
        "schema_version": schema_version,
    }


_ANSWERS: Mapping[str, _Answer] = {
    "SUM(DISTINCT _digest) AS _digest,\n  COUNTIF(_is_duplicate)": _rows_of_objects,
    "GROUP BY _archive_uri, _event_type": _letters_of_objects,
    "FALSE AS _is_duplicate": _rows_of_events,
    "DATE(failed_at) >= @since": _letters_of_events,
    "AS kind, ingest.message_id": _present_rows,
    "fingerprint) AS kind": _present_letters,
}
"""The answers by what only their query says."""
