"""A payload belongs to the person whom its fields name."""

import base64
import dataclasses
import gzip
import json
import pathlib
import random
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from google.api_core.exceptions import BadRequest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fake_google.answers import Answer, error
from fake_google.scripted import Cloud
from functions.archive.envelope import Envelope
from functions.clients import bigquery_client, storage_client
from functions.core.message import Message
from functions.events import event_types
from sluice.cli import app
from sluice.erase import id_index
from sluice.erase.dead_letters import DeadLetters
from sluice.erase.deletions import Deletion, Deletions, Patience
from sluice.erase.ownership import Ownership, Persons, Verdict, person_fields
from sluice.erase.report import Erased
from sluice.erase.rows import Rows
from tests.support import samples
from tests.support.samples import NOW
from tests.support.settings import settings as chosen_settings

ADA = Persons({"user_id": {"ada"}, "customer_id": {"ada"}})


def claim(person: Persons, payload: bytes) -> Ownership:
    return person.judge(Message(payload, {}, "m-1", NOW)).ownership


def owns(person: Persons, payload: bytes) -> bool:
    return claim(person, payload) >= Ownership.UNPARSED


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
        (payload("inventory", product_id="ada"), False),
        (payload("inventory", user_id="ada"), False),
        (json.dumps({"event_type": "order", "customerId": "ada"}).encode(), True),
        (json.dumps({"event_type": "wish", "of": [{"whom": "ada"}]}).encode(), True),
        (json.dumps({"event_type": ["order"], "of": None, "is": True, "n": 1}).encode(), False),
        (b'{"event_type": "order", "customer_id": "\\u0061da"}', True),
        (b'{"event_type": "order", "customer_id": "ada"', True),
        (b"adamant ada", False),
        (b'\xff "ada"', True),
        (b'{"customer_id": "ada", "customer_id": "bob"}', True),
        (b'{"customer_id": "ada', True),
        (b'{"customer_id": "adam', False),
    ],
)
def test_owner_is_the_person_field_or_any_id_of_an_unknown_type(event: bytes, is_theirs: bool) -> None:
    assert owns(ADA, event) is is_theirs


def test_only_the_fields_that_are_asked_for_count() -> None:
    user = Persons({"user_id": {"ada"}})
    assert owns(user, payload("user_activity", user_id="ada"))
    assert not owns(user, payload("order", customer_id="ada"))


def test_number_is_compared_as_an_id() -> None:
    assert owns(Persons({"customer_id": {"42"}}), payload("order", customer_id=42))
    assert owns(Persons({"customer_id": {"42"}}), b'{"customer_id": 42, ')
    assert not owns(Persons({"customer_id": {"42"}}), b'{"customer_id": 421, ')
    assert not owns(Persons({"customer_id": {"42"}}), b'{"customer_id": 42.5, ')
    assert not owns(Persons({"customer_id": {"42"}}), b"broken 42 broken")
    assert owns(Persons({"customer_id": {"12345678"}}), b"broken 12345678 broken")
    assert not owns(Persons({"customer_id": {"12345678"}}), b"broken 123456789 broken")


def test_invalid_json_is_classified_as_doubtful_or_unparsed() -> None:
    short = Persons({"customer_id": {"42"}})
    claims = [claim(short, data) for data in (b"broken 42", b'broken "42"', b"broken 421", b"{}", payload("order"))]
    assert claims == [Ownership.DOUBTFUL, Ownership.UNPARSED, Ownership.NO, Ownership.NO, Ownership.NO]
    assert claim(short, payload("order", customer_id="42")) is Ownership.YES


def test_of_a_short_number_only_its_field_is_unmistakable() -> None:
    short, long = Persons({"customer_id": {"7"}}), Persons({"customer_id": {"12345678"}})
    stray = {"event_type": "order", "items": [{"quantity": 7, "price": 12345678}]}
    assert claim(short, json.dumps(stray).encode()) is Ownership.DOUBTFUL
    assert claim(long, json.dumps(stray).encode()) is Ownership.YES
    assert claim(short, json.dumps({**stray, "customer": {"customer_id": 7}}).encode()) is Ownership.YES
    assert claim(short, json.dumps({**stray, "customer": "7"}).encode()) is Ownership.YES


def test_type_without_a_person_field_is_doubtful_if_it_has_the_id() -> None:
    short, long = Persons({"user_id": {"7"}}), Persons({"user_id": {"ada.lovelace"}})
    assert claim(short, payload("inventory", product_id="7", quantity_change=7)) is Ownership.NO
    assert claim(short, payload("inventory", by={"user_id": 7})) is Ownership.DOUBTFUL
    assert claim(long, payload("inventory", note="ada.lovelace")) is Ownership.DOUBTFUL
    assert claim(long, payload("inventory")) is Ownership.NO


@given(identity=st.text(min_size=1), escape=st.booleans(), broken=st.booleans(), as_base64=st.booleans())
def test_prefilter_never_excludes_an_owned_line(identity: str, escape: bool, broken: bool, as_base64: bool) -> None:
    person = Persons({"customer_id": {identity}})
    text = json.dumps({**samples.event("order"), "customer_id": identity}, ensure_ascii=escape)
    data = text.encode(errors="surrogatepass") + (b"}" if broken else b"") + (b"\xff" if as_base64 else b"")
    if owns(person, data):
        line = msgspec.json.encode(Envelope.from_message(Message(data, {}, "m-1", NOW), "order"))
        assert person.may_be_in(line)


def judge(person: Persons, payload: bytes = b"", attributes: dict[str, str] | None = None, key: str = "") -> Verdict:
    return person.judge(Message(payload, attributes or {}, "m-1", NOW, ordering_key=key))


LONG = Persons({"user_id": {"zoë.lovelace"}, "customer_id": {"zoë.lovelace"}})
UNKNOWN = json.dumps({"event_type": "wish", "whom": "zoë.lovelace"}, ensure_ascii=False)


@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-le", "latin-1", "cp1252"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zlib.compress, base64.b64encode, base64.encodebytes])
def test_ownership_is_independent_of_the_encoding(name: str, pack: Callable[[bytes], bytes]) -> None:
    def encoded(event: dict[str, Any]) -> bytes:
        return pack(json.dumps(event, ensure_ascii=False).encode(name))

    order = samples.event("order")
    assert owns(LONG, encoded(order | {"customer_id": "zoë.lovelace"}))
    assert owns(LONG, encoded({"event_type": "wish", "whom": "zoë.lovelace"}))
    assert owns(LONG, encoded(order | {"customer_id": "zoë.lovelace"})[:-9])
    assert judge(LONG, encoded(order | {"customer_id": "bob"})) == (Ownership.NO, None)
    assert judge(LONG, encoded(order | {"customer_id": "bob", "note": "zoë.lovelace"})) == (Ownership.DOUBTFUL, None)
    assert judge(LONG, encoded({"event_type": "wish", "whom": "bob"})) == (Ownership.NO, None)


def test_nested_content_of_an_event_without_a_person_is_searched() -> None:
    ada, bob = (base64.b64encode(payload("order", customer_id=name)).decode() for name in ("zoë.lovelace", "bob"))
    pushes = [{"message": {"data": data}} for data in (bob, ada)]
    assert owns(LONG, json.dumps({"event_type": "batch", "pushes": pushes}).encode())
    assert not owns(LONG, json.dumps({"event_type": "batch", "pushes": pushes[:1]}).encode())
    assert owns(LONG, json.dumps({"body": payload("order", customer_id="zoë.lovelace").decode()}).encode())
    assert owns(LONG, json.dumps({"event_type": "order", "hidden": ada}).encode())
    assert owns(LONG, json.dumps({"event_type": "order", "customer_id": None, "whom": "zoë.lovelace"}).encode())
    assert owns(LONG, json.dumps({"event_type": "order", "customer_id": {"id": "zoë.lovelace"}}).encode())
    assert owns(LONG, b"whom=zo%C3%AB.lovelace&n=1")
    assert owns(LONG, b'{"event_type": "order", "customer_id": "zo\\u00eb.lovelace", ')


@pytest.mark.parametrize(
    "event",
    [
        {"event_type": "wish", "text": "call zoë.lovelace tomorrow"},
        {"event_type": "wish", "text": "customer_zoë.lovelace"},
        {"event_type": "wish", "of": {"zoë.lovelace": 1}},
        {"event_type": "wish", "url": "https://example.org/?whom=zo%C3%AB.lovelace"},
    ],
)
def test_an_id_inside_a_longer_text_is_doubtful(event: dict[str, Any]) -> None:
    assert claim(LONG, json.dumps(event).encode()) is Ownership.DOUBTFUL


def test_an_id_in_a_legacy_encoding_is_doubtful() -> None:
    assert claim(Persons({"user_id": {"Аня-2001"}}), "клиент Аня-2001".encode("koi8-r")) is Ownership.DOUBTFUL


@pytest.mark.parametrize(
    ("attributes", "key"),
    [
        ({"user_id": "zoë.lovelace"}, ""),
        ({"whom": "zoë.lovelace"}, ""),
        ({}, "zoë.lovelace"),
        ({"event_id": "zoë.lovelace"}, ""),
        ({"context": '{"user_id": "zoë.lovelace"}'}, ""),
        ({"context": base64.b64encode(UNKNOWN.encode()).decode()}, ""),
    ],
)
def test_attributes_ordering_key_and_event_id_identify_the_owner(attributes: dict[str, str], key: str) -> None:
    for data in (b"{", b"", b'{"event_type": "wish"}', b'{"event_type": "order", "customer_id": ""}'):
        assert judge(LONG, data, attributes, key).ownership is Ownership.YES
    assert judge(LONG, payload("order", customer_id="bob"), attributes, key).ownership in {
        Ownership.DOUBTFUL,
        Ownership.NO,
    }


def test_somebody_elses_event_that_names_the_person_is_doubtful() -> None:
    bobs = payload("order", customer_id="bob")
    for places in (
        ({"user_id": "ada"}, ""),
        ({"whom": "zoë.lovelace"}, ""),
        ({"zoë.lovelace": "1"}, ""),
        ({"event_id": "order-zoë.lovelace-7"}, ""),
        ({}, "customer-zoë.lovelace"),
    ):
        person = ADA if "ada" in str(places) else LONG
        assert judge(person, bobs, *places).ownership is Ownership.DOUBTFUL
        assert judge(person, b"{", *places).ownership > Ownership.NO
    assert judge(ADA, bobs, {"whom": "ada"}, "ada").ownership is Ownership.NO
    assert judge(Persons({"user_id": {"7"}}), b"{", {"retries": "7"}).ownership is Ownership.DOUBTFUL


def test_the_same_id_of_another_field_is_another_persons() -> None:
    assert (
        judge(Persons({"user_id": {"zoë.lovelace"}}), payload("order", customer_id="zoë.lovelace")).ownership
        is Ownership.NO
    )


def test_a_type_may_name_its_person_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    ride = dataclasses.replace(event_types()["order"], table="rides", person_field="driver_id")
    monkeypatch.setattr("sluice.erase.ownership.event_types", lambda: event_types() | {"ride": ride})
    assert "driver_id" in person_fields()
    driver = Persons({"driver_id": {"d-1"}})
    assert owns(driver, b'{"event_type": "ride", "driver_id": "d-1"}')
    assert not owns(driver, b'{"event_type": "ride", "driver_id": "d-2"}')
    assert claim(Persons({"user_id": {"u-1"}}), b'{"event_type": "ride", "driver_id": "d-1", "user_id": "u-1"}') is (
        Ownership.DOUBTFUL
    )


def test_opaque_content_is_reported_unless_the_owner_is_identified() -> None:
    noise = random.Random(1).randbytes(200)
    assert "not text" in str(judge(ADA, noise).opaque)
    assert "not text" in str(judge(ADA, base64.b64encode(noise)).opaque)
    assert "not text" in str(judge(ADA, json.dumps({"sealed": base64.b64encode(noise).decode()}).encode()).opaque)
    assert "exceeds" in str(judge(ADA, gzip.compress(bytes(2**26))).opaque)
    assert judge(ADA, noise, {"user_id": "ada"}) == (Ownership.YES, None)
    assert judge(ADA, payload("order", customer_id="bob", sealed=base64.b64encode(noise).decode())).opaque is None
    assert Persons({"user_id": {"ada"}}, ["m-1"]).judge(Message(noise, {}, "m-1", NOW)) == (Ownership.YES, None)


SEALED = base64.b64encode(UNKNOWN.encode()).decode()

hidden = st.sampled_from([bytes, gzip.compress, base64.b64encode, lambda data: data.decode().encode("utf-16-le")])


@given(
    event=st.sampled_from(
        [
            samples.event("order", customer_id="zoë.lovelace"),
            samples.event("order", customer_id="bob", note="zoë.lovelace"),
            samples.event("inventory", note="zoë.lovelace"),
            {"event_type": "order", "sealed": SEALED},
            {"event_type": "order", "sealed": base64.b64encode(gzip.compress(UNKNOWN.encode())).decode()},
            samples.event("order", customer_id="", gift={"customer_id": "bob"}, sealed=SEALED),
            samples.event("order", customer_id=0, sealed=SEALED, **{'x"customer_id': "bob"}),
            {"event_type": "wish", "sealed": SEALED},
            {"whom": "zoë.lovelace"},
        ]
    ),
    hide=hidden,
    ascii_only=st.booleans(),
    attributes=st.sampled_from(
        [
            {},
            {"user_id": "zoë.lovelace"},
            {"event_type": "order", "message_id": "1"},
            {"payload": '{"customer_id":"bob"}'},
        ]
    ),
    key=st.sampled_from(["", "zoë.lovelace"]),
)
def test_nothing_of_a_person_is_skipped_unparsed(
    event: dict[str, Any], hide: Callable[[bytes], bytes], ascii_only: bool, attributes: dict[str, str], key: str
) -> None:
    data = hide(json.dumps(event, ensure_ascii=ascii_only).encode())
    message = Message(data, attributes, "m-1", NOW, ordering_key=key)
    if judge(LONG, data, attributes, key) != (Ownership.NO, None):
        line = msgspec.json.encode(Envelope.from_message(message, samples.process(message, NOW).event_type))
        assert LONG.may_be_in(line)


BUFFERED = "UPDATE or DELETE statement over table live.orders would affect rows in the streaming buffer"


@dataclasses.dataclass
class Buffered:
    """BigQuery with rows of the person in `orders`: old ones, ones that came before the run, and ones that came since.

    Attributes:
        old: Rows that can be deleted.
        young: Rows that cannot, for so many more statements.
        late: Rows that came after the run began, and cannot be deleted at all.
        rejections: Statements that would affect `young` and are rejected.
        bounds: The bounds of those that have one.
        asked: Each DELETE: whether it was bounded, and how many rows it took out; None where it was rejected.
    """

    old: int = 0
    young: int = 0
    late: int = 0
    rejections: int = 0
    reason: str = BUFFERED
    bounds: list[datetime] = dataclasses.field(default_factory=list)
    asked: list[tuple[bool, int | None]] = dataclasses.field(default_factory=list)
    began: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))

    def serve(self, cloud: Cloud) -> None:
        cloud.on_job = self.job
        cloud.on_get = self.get

    def job(self, body: dict[str, Any]) -> Answer:
        if "configuration" not in body:
            count_schema = {"fields": [{"name": "found", "type": "INTEGER"}]}
            return 200, {
                "jobComplete": True,
                "schema": count_schema,
                "rows": [{"f": [{"v": f"{self.late}"}]}],
                "totalRows": "1",
            }
        query = body["configuration"]["query"]
        parameters = {
            parameter["name"]: parameter["parameterValue"].get("value") for parameter in query["queryParameters"]
        }
        before = datetime.fromisoformat(parameters["before"]) if "before" in parameters else None
        assert ("processed_timestamp < @before" in query["query"]) == bool(before)
        self.bounds += [before] if before else []
        only_old = before is not None and before < self.began - timedelta(minutes=80)
        buffered = 0 if only_old else self.young if before else self.young + self.late
        if buffered and (self.rejections > 0 or not before):
            self.rejections -= 1
            self.asked.append((bool(before), None))
            return error(400, self.reason)
        gone = self.old if only_old else self.old + self.young
        self.old, self.young = 0, self.young if only_old else 0
        self.asked.append((bool(before), gone))
        self.gone = gone
        reference = {**body["jobReference"], "location": "US"}
        statistics = {"query": {"statementType": "DELETE", "numDmlAffectedRows": str(gone)}}
        return 200, {**body, "jobReference": reference, "status": {"state": "DONE"}, "statistics": statistics}

    def get(self, _: str) -> Answer:
        return 200, {"jobComplete": True, "numDmlAffectedRows": str(self.gone), "schema": {}, "totalRows": "0"}


def run(buffered: Buffered, cloud: Cloud, patience: Patience) -> tuple[Erased, list[str]]:
    buffered.serve(cloud)
    messages: list[str] = []
    chosen, person = chosen_settings(), Persons({"customer_id": {"ada"}})
    client, erased = bigquery_client(chosen), Erased()
    deletions = Deletions(client, erased, patience=patience)
    dead_letters = DeadLetters(person, storage_client(chosen), f"{chosen.dataset}.dead_letters", deletions, erased)
    rows = Rows(person, client, chosen, dead_letters, deletions, erased)
    rows.erase_from(f"{chosen.dataset}.orders", "customer_id", {"customer_id": "STRING"})
    deletions.wait(messages.append)
    return erased, messages


def test_old_rows_are_deleted_first_and_buffered_rows_awaited(cloud: Cloud) -> None:
    buffered = Buffered(old=5, young=2, rejections=3)
    erased, messages = run(buffered, cloud, Patience(5, pause=0.01))
    assert erased.rows == {f"{chosen_settings().dataset}.orders": 7}
    assert buffered.asked == [(False, None), (True, 5), (True, None), (True, None), (True, 2)]
    assert len(messages) == 3
    assert "90 minutes" in messages[0]
    assert erased.remaining == []


def test_rows_that_arrive_during_the_run_are_reported_as_remaining(cloud: Cloud) -> None:
    erased, _ = run(Buffered(old=5, young=2, late=4, rejections=2), cloud, Patience(5, pause=0.01))
    assert erased.rows == {f"{chosen_settings().dataset}.orders": 7}
    [remaining] = erased.remaining
    assert "4 rows arrived during the run" in remaining


def test_rows_that_arrived_before_their_table_was_reached_are_awaited(cloud: Cloud) -> None:
    buffered = Buffered(young=2, rejections=2)
    buffered.serve(cloud)
    deletions = Deletions(bigquery_client(chosen_settings()), Erased(), patience=Patience(5, pause=0.01))
    archive_is_read = datetime.now(UTC)
    deletions.delete(Deletion("live.orders", "TRUE", "processed_timestamp", {}))
    deletions.wait()
    assert buffered.bounds[-1] >= archive_is_read
    assert deletions.erased.rows == {"live.orders": 2}


def test_buffered_rows_are_reported_and_old_rows_deleted(cloud: Cloud) -> None:
    erased, _ = run(Buffered(old=5, young=2, rejections=1_000), cloud, Patience(0.1, pause=0.05))
    assert erased.rows == {f"{chosen_settings().dataset}.orders": 5}
    [remaining] = erased.remaining
    assert "run the command again in 90 minutes" in remaining


def test_any_other_rejection_ends_the_run(cloud: Cloud) -> None:
    with pytest.raises(BadRequest, match="no such column"):
        run(Buffered(young=1, rejections=1, reason="no such column"), cloud, Patience(5))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "fields are customer_id, user_id"),
        (["--user", ""], "user_id needs an id of printable characters"),
        (["--id", "user_id=\x1b"], "user_id needs an id of printable characters"),
        (
            ["--id", "driver_id=ada"],
            "field 'driver_id' does not identify persons; fields that do are customer_id, user_id",
        ),
        (["--id", "ada"], "an id is FIELD=ID; fields are customer_id, user_id"),
        (["--id", "user_id= ada"], "user_id has an id with a space at its begin or end"),
        (["--ids-file", "no/such/file"], "No such file"),
    ],
)
def test_invalid_id_of_a_person_is_rejected(arguments: list[str], problem: str) -> None:
    rejected = CliRunner().invoke(app, ["erase", *arguments])
    assert rejected.exit_code == 2
    assert problem in rejected.stderr


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"driver_id=ada", "field 'driver_id' does not identify persons; fields that do are customer_id, user_id"),
        (b"ada.lovelace", "an id is FIELD=ID; fields are customer_id, user_id"),
        (b"user_id=", "user_id needs an id of printable characters"),
        (b"user_id=ada ", "user_id has an id with a space at its begin or end"),
        (b"user_id=\xff", "byte 9 is not UTF-8"),
    ],
)
def test_invalid_line_of_ids_is_named_without_the_id(line: bytes, problem: str) -> None:
    content = b"\xef\xbb\xbf# of May\r\n\r\nuser_id=bob\r\n" + line + b"\n"
    rejected = CliRunner().invoke(app, ["erase", "--ids-file", "-"], input=content)
    assert rejected.exit_code == 2
    assert f"line 4: {problem}" in " ".join(rejected.stderr.split())
    assert "ada" not in rejected.stderr


@pytest.mark.parametrize("others", [[], ["--user", "ada"], ["--ids-file", "ids"]])
def test_a_file_without_ids_is_an_error(
    others: list[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("ids").write_text("user_id=bob\n")
    rejected = CliRunner().invoke(app, ["erase", "--ids-file", "-", *others], input=b"# of May\n\n")
    assert rejected.exit_code == 2
    assert "--ids-file -: the file has no id" in " ".join(rejected.stderr.split())


def test_too_many_ids_for_a_statement_are_rejected(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "ids"
    file.write_text("".join(f"user_id={'x' * 500}{number:06}\n" for number in range(4_000)))
    rejected = CliRunner().invoke(app, ["erase", "--ids-file", str(file)])
    assert (rejected.exit_code, "split the file" in " ".join(rejected.stderr.split())) == (2, True)


@pytest.fixture(params=[0, 100], ids=["by words", "one by one"])
def _few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search ids as many, and as few."""
    monkeypatch.setattr(id_index, "FEW", request.param)


IDS = ["ada", "7", "C-1001", "ada.lovelace", "zoë.lovelace", "Аня-2001", "customer-17", 'a"b/ada', "\\nada-x", "--"]
WRAPPED = ["{}", "of {} x", "\n{}", "\t{}\n", "%3D{}", "&amp;{}", "&copy{}", "&#39;{}", "_{}_", "—{}", "x{}", "'{}'"]


@pytest.mark.usefixtures("_few")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.sets(st.sampled_from(IDS), min_size=2, max_size=4),
    named=st.sampled_from(IDS),
    wrapped=st.sampled_from(WRAPPED),
    field=st.sampled_from(["customer_id", "user_id", "note"]),
    ascii_only=st.booleans(),
    hide=hidden,
)
def test_persons_are_judged_as_one_by_one(
    ids: set[str], named: str, wrapped: str, field: str, ascii_only: bool, hide: Callable[[bytes], bytes]
) -> None:
    event = {**samples.event("order"), field: wrapped.format(named)}
    message = Message(hide(json.dumps(event, ensure_ascii=ascii_only).encode()), {}, "m-1", NOW)
    together = Persons({"customer_id": ids})
    alone = max(Persons({"customer_id": {value}}).judge(message).ownership for value in ids)
    assert together.judge(message).ownership is alone
    if alone > Ownership.NO:
        line = msgspec.json.encode(Envelope.from_message(message, samples.process(message, NOW).event_type))
        assert together.may_be_in(line)
