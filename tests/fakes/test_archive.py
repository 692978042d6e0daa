"""The archive's names and envelopes."""

import gzip
import pathlib
import re
from datetime import UTC, datetime, timedelta, timezone

import duckdb
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_google.scripted import Cloud
from functions.archive import layout
from functions.archive.envelope import Envelope, read_envelopes
from functions.archive.summary import Summary
from functions.archive.writer import Archive
from functions.core.message import Message
from functions.ingest.http_client import storage_api
from tests.support.samples import archive_snippets

MOMENTS = st.datetimes(timezones=st.just(UTC))
ATTRIBUTES = st.dictionaries(st.text(), st.text(), max_size=3)


@given(st.binary() | st.text().map(str.encode), ATTRIBUTES, st.text(min_size=1), MOMENTS, st.text())
def test_envelope_round_trip_preserves_the_message(
    data: bytes, attributes: dict[str, str], message_id: str, published: datetime, ordering_key: str
) -> None:
    message = Message(data, attributes, message_id, published, None, ordering_key)
    [opened] = read_envelopes(msgspec.json.Encoder().encode_lines([Envelope.from_message(message, None)]))
    assert opened.message() == message


def test_object_names_are_unique_and_begin_with_the_utc_arrival(cloud: Cloud) -> None:
    del cloud
    archive, other = (Archive(storage_api(), "archive", ()) for _ in range(2))
    now = datetime(2026, 11, 23, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    names = [archive.name(now), archive.name(now), other.name(now)]
    pattern = r"raw/dt=2026-11-24/hr=01/20261124T013000\.000000Z-[0-9a-f]{12}-0000000[12]\.ndjson\.gz"
    assert all(re.fullmatch(pattern, name) for name in names)
    assert len(set(names)) == 3
    assert archive.uri(names[0]) == f"gs://archive/{names[0]}"


def test_the_time_of_arrival_is_in_the_name() -> None:
    time = datetime(2026, 11, 24, 1, 30, 0, 7, tzinfo=UTC)
    assert layout.arrival_time(f"{layout.first_name_at(time)}-instance-00000001.ndjson.gz") == time
    for name in ("copied.gz", "20269924T013000.000000Z-of-no-month"):
        assert layout.arrival_time(f"raw/dt=2026-11-24/hr=01/{name}") == datetime(2026, 11, 24, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="exports/a: an object of the archive has a name that begins with raw/"):
        layout.arrival_time("exports/a")


def test_an_object_is_summed_up_in_its_metadata() -> None:
    envelopes = [
        Envelope.from_message(Message(b"{}", {"event_id": event_id}, message_id, datetime.now(UTC)), event_type)
        for event_id, message_id, event_type in (("a", "1", "order"), ("a", "2", "order"), ("é", "3", None))
    ]
    summary = Summary.of(envelopes, {"order"})
    assert summary.counts == {"order": 2, "unknown": 1}
    assert summary == Summary.of(reversed(envelopes), {"order"}) == Summary.from_metadata(summary.metadata())
    assert summary.digest not in {Summary.of([*envelopes, added], {"order"}).digest for added in envelopes}
    others: list[dict[str, str] | None] = [None, {}, {"order": "2"}, {"deliveries-digest": "x"}]
    assert [Summary.from_metadata(metadata) for metadata in others] == [None] * 4, "of older code, or another program"


def test_duckdb_reads_an_archive_by_the_query_of_its_page(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event once, with its original bytes; of the day and the type that the query asks for."""
    moment = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    good, broken = b'{"order_id": "o-1"}', b"\xff{"
    messages = [
        Message(good, {"event_id": "a", "producer": 'a "shop"'}, "m-1", moment),
        Message(good, {"event_id": "a", "producer": "redelivered"}, "m-1", moment - timedelta(seconds=1)),
        Message(broken, {"event_id": "b"}, "m-2", moment),
        Message(b"{", {"event_id": "c"}, "m-3", moment),
    ]
    for number, arrived in enumerate((moment, moment + timedelta(days=1))):
        file = tmp_path / "archive" / f"{layout.first_name_at(arrived)}-instance-{number:08}.ndjson.gz"
        file.parent.mkdir(parents=True)
        envelopes = [Envelope.from_message(message, "order") for message in messages]
        others = [Envelope.from_message(Message(good, {"event_id": "d"}, "m-4", moment), "inventory")]
        file.write_bytes(gzip.compress(msgspec.json.Encoder().encode_lines([*envelopes, *others])))
    monkeypatch.chdir(tmp_path)
    query = archive_snippets()["duckdb"]
    names = "event_id, dt::VARCHAR, hr, epoch(publish_time), producer, original_bytes, order_id"
    rows = duckdb.sql(f"SELECT {names} FROM ({query}) ORDER BY event_id").fetchall()
    time = moment.timestamp()
    assert rows == [
        ("a", "2026-11-23", "09", time, 'a "shop"', good, "o-1"),
        ("b", "2026-11-23", "09", time, None, broken, None),
        ("c", "2026-11-23", "09", time, None, b"{", None),
    ]
