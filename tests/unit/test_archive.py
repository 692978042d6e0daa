"""The archive's names and envelopes."""

import re
from datetime import UTC, datetime, timedelta, timezone

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from functions import archive
from functions.archive import Archive, Envelope
from functions.google_api import storage_api
from functions.message import Message
from tests.unit.cloud import Cloud

MOMENTS = st.datetimes(timezones=st.just(UTC))
ATTRIBUTES = st.dictionaries(st.text(), st.text(), max_size=3)


@given(st.binary() | st.text().map(str.encode), ATTRIBUTES, st.text(min_size=1), MOMENTS, st.text())
def test_a_message_comes_out_of_its_envelope_as_it_went_in(
    data: bytes, attributes: dict[str, str], message_id: str, published: datetime, ordering_key: str
) -> None:
    message = Message(data, attributes, message_id, published, None, ordering_key)
    [opened] = archive.read(msgspec.json.Encoder().encode_lines([Envelope.seal(message, None)]))
    assert opened.message() == message


def test_an_object_is_named_by_utc_time_of_arrival_and_no_two_are_alike(cloud: Cloud) -> None:
    del cloud
    one, other = (Archive(storage_api(), "archive", ()) for _ in range(2))
    now = datetime(2026, 11, 23, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    names = [one.name(now), one.name(now), other.name(now)]
    pattern = r"raw/dt=2026-11-24/hr=01/20261124T013000\.000000Z-[0-9a-f]{12}-0000000[12]\.ndjson\.gz"
    assert all(re.fullmatch(pattern, name) for name in names)
    assert len(set(names)) == 3
    assert one.uri(names[0]) == f"gs://archive/{names[0]}"
