"""Load jobs: their ids, and the questions to the tables that come before them."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from fake_google.scripted import Cloud
from functions.clients import bigquery_client
from functions.core.dead_letters import DeadLetter
from functions.core.rows import Row
from functions.files.sources import Line
from sluice.backfill import load_jobs
from sluice.backfill.chunks import TableLoad
from sluice.backfill.events import Event, EventReader, Identity
from sluice.backfill.load_jobs import LoadJobs
from tests.support import samples
from tests.support.settings import settings

READ = EventReader.from_settings(settings(), samples.NOW)
GOOD = READ(Line("file", 1, json.dumps(samples.event("order")).encode())).outcome
BAD = READ(Line("file", 1, b"bad")).outcome

DAYS = [f"2026-01-{day:02}" for day in range(1, 29)]

REQUEST_BYTES = 10 * 10**6


def events(table: str, outcome: Row | DeadLetter, identities: Sequence[Identity]) -> TableLoad:
    line = Line("file", 1, b"")
    return TableLoad(table, [Event(line, outcome, table, identity, None) for identity in identities])


def orders(*event_ids: str) -> TableLoad:
    """Return a load of orders, each on another day."""
    return events(
        "live.orders",
        GOOD,
        [Identity(*id_and_day) for id_and_day in zip(event_ids, itertools.cycle(DAYS), strict=False)],
    )


def jobs(cloud: Cloud, created: int | None = 1_700_000_000_000, name: str = "orders") -> LoadJobs:
    """Return the load jobs of one table."""
    del cloud
    resource: dict[str, Any] = {
        "id": f"project:live.{name}",
        "tableReference": {"projectId": "project", "datasetId": "live", "tableId": name},
    }
    if created is not None:
        resource["creationTime"] = str(created)
    return LoadJobs(bigquery_client(settings()), {f"live.{name}": bigquery.Table.from_api_repr(resource)})


def test_the_same_load_into_the_same_table_has_the_same_id(cloud: Cloud) -> None:
    assert jobs(cloud).free_id(orders("a", "b")) == jobs(cloud).free_id(orders("a", "b"))
    assert jobs(cloud, None).free_id(orders("a")) == jobs(cloud, None).free_id(orders("a"))


def test_another_load_and_a_table_that_was_made_anew_have_another_id(cloud: Cloud) -> None:
    ids = [
        jobs(cloud).free_id(orders("a", "b")),
        jobs(cloud).free_id(orders("a")),
        jobs(cloud).free_id(orders("ab")),
        jobs(cloud).free_id(orders("b", "a")),
        jobs(cloud, 1_700_000_000_001).free_id(orders("a", "b")),
        jobs(cloud, None).free_id(orders("a", "b")),
    ]
    assert len(set(ids)) == len(ids)
    assert all(job_id.startswith("sluice_backfill_orders_") for job_id in ids)


@pytest.mark.parametrize(
    "status", [{"state": "DONE"}, {"state": "DONE", "errorResult": {"reason": "invalid"}}], ids=str
)
def test_a_job_keeps_its_id_whether_it_failed_or_not(cloud: Cloud, status: dict[str, Any]) -> None:
    first = jobs(cloud).free_id(orders("a"))

    def answer(path: str) -> tuple[int, dict[str, Any]]:
        job_id = path.partition("?")[0].rpartition("/")[2]
        if job_id not in {first, f"{first}_2"}:
            return 404, {"error": {"code": 404, "message": "Not found"}}
        reference = {"projectId": "project", "jobId": job_id, "location": "us-central1"}
        return 200, {"jobReference": reference, "status": status, "configuration": {"load": {}}}

    cloud.on_get = answer
    assert jobs(cloud).free_id(orders("a")) == f"{first}_3"


def parameters(request: dict[str, Any]) -> dict[str, Any]:
    """Values by name."""
    return {
        parameter["name"]: [value["value"] for value in parameter["parameterValue"].get("arrayValues", ())]
        or parameter["parameterValue"]["value"]
        for parameter in request["queryParameters"]
    }


@pytest.fixture
def requests(cloud: Cloud) -> list[dict[str, Any]]:
    """Return the table's requests; it has all events whose ids end in `1`, on each day."""
    asked: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked.append(request)
        given = parameters(request)
        days = [day for day in DAYS if given.get("first", "") <= day <= given.get("last", "")]
        there = (event_id for event_id in given["ids"] if event_id.endswith("1"))
        values = ([event_id, day, f"m-{event_id}", None, None] for event_id in there for day in days)
        rows = [{"f": [{"v": value} for value in row]} for row in values]
        names = ("event_id", "kind", "message_id", "content_digest", "schema_version")
        fields = [{"name": name, "type": "STRING"} for name in names]
        return 200, {"jobComplete": True, "schema": {"fields": fields}, "rows": rows, "totalRows": str(len(rows))}

    cloud.on_job = answer
    return asked


def test_small_load_is_one_query(cloud: Cloud, requests: list[dict[str, Any]]) -> None:
    assert jobs(cloud).present(orders("a1", "b2", "c1")) == {
        Identity("a1", "2026-01-01"),
        Identity("c1", "2026-01-03"),
    }
    [request] = requests
    assert parameters(request) == {"ids": ["a1", "b2", "c1"], "first": "2026-01-01", "last": "2026-01-03"}


@pytest.mark.parametrize("letter", ["x", "ü", "東", '"', "😀"])
def test_no_question_is_larger_than_bigquery_takes(cloud: Cloud, requests: list[dict[str, Any]], letter: str) -> None:
    load = orders(*(f"{number}-{letter * 1_000}-{number}" for number in range(12_000 if letter == "x" else 5_000)))
    present = jobs(cloud).present(load)
    assert len(requests) > 1
    assert all(len(json.dumps(request)) < REQUEST_BYTES for request in requests)
    asked = [event_id for request in requests for event_id in parameters(request)["ids"]]
    assert sorted(asked) == sorted(event.identity.event_id for event in load.events)
    assert {identity.event_id for identity in present} == {identity for identity in asked if identity.endswith("1")}


def test_each_question_is_about_few_days(
    cloud: Cloud, requests: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_jobs, "MAX_PARAMETER_BYTES", 400)
    jobs(cloud).present(orders(*(f"{number:03}" for number in range(280))))
    spans = [(parameters(request)["first"], parameters(request)["last"]) for request in requests]
    assert spans == sorted(spans)
    assert all(first <= last <= following for (first, last), (following, _) in itertools.pairwise(spans))


def test_event_larger_than_the_query_limit_is_queried_alone(
    cloud: Cloud, requests: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_jobs, "MAX_PARAMETER_BYTES", 10)
    jobs(cloud).present(orders("a", "b"))
    assert [parameters(request)["ids"] for request in requests] == [["a"], ["b"]]


def test_of_dead_letters_the_fingerprints_count_too(cloud: Cloud, requests: list[dict[str, Any]]) -> None:
    identities = [Identity(f"{number}", f"{number:032}") for number in range(200_000)]
    jobs(cloud, name="dead_letters").present(events("live.dead_letters", BAD, identities))
    assert len(requests) > 1
    assert all(len(json.dumps(request)) < REQUEST_BYTES for request in requests)
    asked = [kind for request in requests for kind in parameters(request)["kinds"]]
    assert sorted(asked) == [identity.kind for identity in identities]


def ends(cloud: Cloud, *messages: str, reason: str = "invalid") -> None:
    """Tables have nothing, and all load jobs fail so: what the error of the whole job says comes first."""
    errors = [{"reason": reason, "message": message} for message in messages]

    def answer(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "configuration" not in request:
            return 200, {"jobComplete": True, "schema": {"fields": []}, "rows": [], "totalRows": "0"}
        status = {"state": "DONE", "errorResult": errors[0], "errors": errors}
        return 200, {**request, "status": status}

    cloud.on_job = answer


GIVING_UP = "JSON table encountered too many errors, giving up. Rows: 1; errors: 1."


def test_rejection_reasons_are_verbatim_and_most_specific_first(cloud: Cloud) -> None:
    ends(cloud, GIVING_UP, "Could not convert value to double. Field: price")
    [event] = orders("a").events
    assert jobs(cloud).rejection_reasons(event, "gs://archive/object") == [
        ("$", "invalid", "Could not convert value to double. Field: price"),
        ("$", "invalid", GIVING_UP),
    ]


@pytest.mark.parametrize(
    ("reason", "message"), [("invalid", "No such field: extras."), ("quotaExceeded", "too many loads")], ids=str
)
def test_error_not_caused_by_the_row_does_not_reject_it(cloud: Cloud, reason: str, message: str) -> None:
    ends(cloud, GIVING_UP, message, reason=reason)
    [event] = orders("a").events
    with pytest.raises(GoogleAPICallError, match=message):
        jobs(cloud).rejection_reasons(event, "gs://archive/object")
