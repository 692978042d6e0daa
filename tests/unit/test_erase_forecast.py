"""A forecast counts requests, seconds and USD by storage class; a checkpoint knows erased events by their hashes."""

import pathlib
from datetime import UTC, datetime
from typing import Any

import pytest
from google.cloud.storage import Blob, Bucket, Client

from functions.archive.layout import OriginalsRange
from functions.archive.reader import Archived, ArchivedObject, CompactedObject
from functions.archive.summary import Summary
from sluice.erase.checkpoint import Checkpoint, Request
from sluice.erase.forecast import Forecast, forecast
from sluice.erase.ownership import Persons
from sluice.erase.report import EventRef

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ADA = Persons({"user_id": {"ada"}})


def blob(size: int, storage_class: str, **properties: Any) -> Blob:
    stored = Blob("raw/x", Bucket(Client.create_anonymous_client(), "b"))
    stored._properties.update(size=str(size), storageClass=storage_class, **properties)
    return stored


def original(size: int, storage_class: str, events: int = 20) -> ArchivedObject:
    return ArchivedObject("gs://b/raw/x", blob(size, storage_class), Summary({"order": events}, 0))


def compacted(size: int, storage_class: str, events: int) -> CompactedObject:
    metadata = Summary({"order": events}, 0).metadata()
    return CompactedObject("gs://b/raw/y", blob(size, storage_class, metadata=metadata), OriginalsRange("", ""))


def of(*objects: Archived, persons: Persons = ADA) -> Forecast:
    return forecast(objects, persons)


def test_requests_and_retrieval_are_paid_for_by_class() -> None:
    expected = of(*[original(3_000, "STANDARD")] * 1_000, compacted(64 * 2**20, "COLDLINE", 600_000))
    assert expected.as_json()["classes"] == {
        "COLDLINE": {"objects": 1, "bytes": 64 * 2**20, "requests": 8},
        "STANDARD": {"objects": 1_000, "bytes": 3_000_000, "requests": 1_000},
    }
    listings, standard, coldline = 4 * 0.005 / 1_000, 0.0004, 8 * 0.01 / 1_000 + 0.02 / 16
    assert expected.usd == pytest.approx(listings + standard + coldline)
    assert expected.seconds == pytest.approx(1_000 * 0.06 / 8 + 600_000 * 6.5e-6)
    assert "1001 objects, 70.1 MB, in about 11 s, for 0.00 USD" in expected.sentences()
    assert "without the price of ARCHIVE" in of(original(3_000, "ARCHIVE")).sentences()


def test_more_persons_take_more_time_but_not_each() -> None:
    objects = [compacted(64 * 2**20, "STANDARD", 600_000)]
    hundred, thousand = (
        of(*objects, persons=Persons({"user_id": {str(id_) for id_ in range(number)}})) for number in (100, 1_000)
    )
    assert of(*objects).seconds < hundred.seconds == thousand.seconds


def test_objects_that_were_read_are_not_forecast() -> None:
    expected = forecast([original(3_000, "STANDARD")] * 2, ADA, lambda _: True)
    assert (expected.objects, expected.seconds, expected.listed) == (0, 0, 2)


def test_erased_events_are_in_the_checkpoint_by_hash(tmp_path: pathlib.Path) -> None:
    file, request = tmp_path / "checkpoint", Request.of(ADA, "b", None, None)
    erased, other = EventRef("order of ada.lovelace", "m-1"), EventRef("order of ada.lovelace", "m-2")
    Checkpoint.open(file, request, NOW).add("gs://b/raw/dt=2026-11-23/hr=00", (), {}, [erased])
    continued = Checkpoint.open(file, request, NOW)
    assert (continued.has_erased(erased), continued.has_erased(other), continued.read_before) == (True, False, 1)
    assert "lovelace" not in file.read_text()
