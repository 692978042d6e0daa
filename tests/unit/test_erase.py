"""Whose a payload is."""

import inspect
import json
from typing import Any

import msgspec
import pytest
from google.api_core.exceptions import BadRequest
from hypothesis import given
from hypothesis import strategies as st

from functions.archive import Envelope
from functions.clients import bigquery_client, storage_client
from functions.events import event_types
from functions.message import Message
from functions.settings import Settings
from ops.commands.erase import erase
from ops.erase import Erasure, NotErased, Patience, Person
from tests.unit import samples
from tests.unit.cloud import Answer, Cloud, error
from tests.unit.conftest import settings
from tests.unit.samples import NOW

ADA = Person({"user_id": "ada", "customer_id": "ada"})


def payload(name: str, **changes: object) -> bytes:
    return json.dumps({**samples.event(name), **changes}).encode()


@pytest.mark.parametrize(
    ("event", "is_theirs"),
    [
        (payload("order", customer_id="ada"), True),
        (payload("order", customer_id="bob"), False),
        (payload("order", customer_id="adam"), False),
        (payload("order", customer_id="bob", note="ada"), False),
        (payload("user_activity", user_id="ada"), True),
        (payload("user_activity", user_id="bob", metadata={"session_id": "ada", "platform": "web"}), False),
        (payload("inventory", product_id="p-1"), False),
        (json.dumps({"event_type": "order", "customerId": "ada"}).encode(), True),
        (json.dumps({"event_type": "wish", "of": [{"whom": "ada"}]}).encode(), True),
        (json.dumps({"event_type": ["order"], "of": None, "is": True, "n": 1}).encode(), False),
        (b'{"event_type": "order", "customer_id": "\\u0061da"}', True),
        (b'{"event_type": "order", "customer_id": "ada"', True),
        (b"adamant ada", False),
        (b'\xff "ada"', True),
        (b'{"customer_id": "ada", "customer_id": "bob"}', True),
    ],
)
def test_an_event_belongs_to_whom_its_type_names_and_what_has_no_type_to_whose_id_it_has(
    event: bytes, is_theirs: bool
) -> None:
    assert ADA.owns(event) is is_theirs


def test_only_the_fields_that_are_asked_for_count() -> None:
    user = Person({"user_id": "ada"})
    assert user.owns(payload("user_activity", user_id="ada"))
    assert not user.owns(payload("order", customer_id="ada"))


def test_a_number_is_an_id_as_well() -> None:
    assert Person({"customer_id": "42"}).owns(payload("order", customer_id=42))
    assert not Person({"customer_id": "42"}).owns(b"broken 42 broken")
    assert Person({"customer_id": "12345678"}).owns(b"broken 12345678 broken")
    assert not Person({"customer_id": "12345678"}).owns(b"broken 123456789 broken")


@given(identity=st.text(min_size=1), escape=st.booleans(), broken=st.booleans(), as_base64=st.booleans())
def test_what_is_theirs_is_never_overlooked_before_it_is_parsed(
    identity: str, escape: bool, broken: bool, as_base64: bool
) -> None:
    person = Person({"customer_id": identity})
    text = json.dumps({**samples.event("order"), "customer_id": identity}, ensure_ascii=escape)
    data = text.encode(errors="surrogatepass") + (b"}" if broken else b"") + (b"\xff" if as_base64 else b"")
    if person.owns(data):
        line = msgspec.json.encode(Envelope.seal(Message(data, {}, "m-1", NOW), "order"))
        assert person.may_be_in(line)


BUFFERED = "UPDATE or DELETE statement over table live.orders would affect rows in the streaming buffer"


def deleting(cloud: Cloud, refusals: int, reason: str = BUFFERED) -> list[str]:
    """BigQuery that refuses so many deletions of orders, and then takes out two rows; what it was asked to delete."""
    asked: list[str] = []

    def job(body: dict[str, Any]) -> Answer:
        query = body["configuration"]["query"]["query"]
        asked.append(query)
        if ".orders`" in query and len(asked) <= refusals:
            return error(400, reason)
        reference = {**body["jobReference"], "location": "US"}
        statistics = {"query": {"statementType": "DELETE", "numDmlAffectedRows": "2"}}
        return 200, {**body, "jobReference": reference, "status": {"state": "DONE"}, "statistics": statistics}

    cloud.on_job = job
    cloud.on_get = lambda _: (200, {"jobComplete": True, "numDmlAffectedRows": "2", "schema": {}, "totalRows": "0"})
    return asked


def erasure(settings: Settings, patience: Patience) -> Erasure:
    person = Person({"customer_id": "ada"})
    return Erasure(person, bigquery_client(settings), storage_client(settings), settings, patience=patience)


def test_rows_that_came_a_short_while_ago_are_waited_for(cloud: Cloud) -> None:
    asked, chosen = deleting(cloud, refusals=2), settings()
    told: list[str] = []
    run = erasure(chosen, Patience(5, pause=0.01))
    run.rows(f"{chosen.dataset}.orders", "customer_id", told.append)
    assert run.erased.rows == {f"{chosen.dataset}.orders": 2}
    assert len(asked) == 3
    assert len(told) == 2
    assert "90 minutes" in told[0]


def test_rows_that_stay_in_the_buffer_are_told_and_so_is_any_other_refusal(cloud: Cloud) -> None:
    deleting(cloud, refusals=1_000)
    with pytest.raises(NotErased, match="start it again in 90 minutes"):
        erasure(settings(), Patience(0.1, pause=0.05)).rows("live.orders", "customer_id", lambda _: None)
    deleting(cloud, refusals=1, reason="no such column")
    with pytest.raises(BadRequest, match="no such column"):
        erasure(settings(), Patience(5)).rows("live.orders", "customer_id", lambda _: None)


def test_each_person_that_a_type_names_can_be_erased() -> None:
    options = inspect.signature(erase).parameters
    for event_type in event_types().values():
        if event_type.person_field:
            assert event_type.person_field.removesuffix("_id") in options
