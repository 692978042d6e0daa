"""The counts of the relay, and the balance of what is acknowledged with the archive and the tables."""

import pathlib
from collections import Counter
from datetime import UTC, datetime, timedelta

from sluice.console.breaking import balance
from sluice.demo.check import WarehouseContents
from sluice.local.data_folder import DataFolder
from sluice.local.deliveries import DeliveryLog, read_acknowledged, read_deliveries
from sluice.local.faults import Faults, read_faults, write_faults

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def test_the_oldest_message_waits_until_it_is_acknowledged(tmp_path: pathlib.Path) -> None:
    data = DataFolder(tmp_path)
    log = DeliveryLog(data)
    log.write(None)
    assert read_deliveries(data) is None
    for message_id in ("1", "2", "1"):
        log.take(message_id, NOW + timedelta(seconds=int(message_id)))
    log.write(NOW)
    log.acknowledge(["1"])
    log.write(NOW)
    deliveries = read_deliveries(data)
    assert deliveries
    assert (deliveries.taken, deliveries.acknowledged, deliveries.waiting) == (2, 1, 1)
    assert deliveries.oldest == NOW + timedelta(seconds=2)
    assert read_acknowledged(data, NOW) == ["1"]
    assert read_acknowledged(data, NOW + timedelta(1)) == []  # The relay has not begun this list.
    log.forget()
    log.write(NOW + timedelta(1))
    forgotten = read_deliveries(data)
    assert forgotten
    assert (forgotten.waiting, forgotten.oldest, read_acknowledged(data, NOW)) == (0, None, [])


def test_acknowledged_events_without_archive_or_record_are_missing() -> None:
    archived = {"m1": "row", "m2": "row", "m3": "letter", "m4": "nowhere", "m5": "not acknowledged"}
    deliveries = Counter({"m1": 1, "m2": 2, "m3": 1, "m4": 1, "m5": 1})
    first = WarehouseContents({"orders": {"row": 1}}, {("contract", "type"): Counter(letter=1)})
    second = WarehouseContents({"orders": {"row": 1, "other": 1}}, {})
    result = balance({"m1", "m2", "m3", "m4", "m6"}, archived, deliveries, first + second)
    assert (result.acknowledged, result.archived, result.rows, result.dead_letters) == (5, 4, 1, 1)
    assert (result.lost, result.missing) == (2, ["m6", "nowhere"])
    assert (result.repeated, result.hidden) == (1, 1)


def test_a_start_switches_all_faults_off(tmp_path: pathlib.Path) -> None:
    data = DataFolder(tmp_path)
    write_faults(data, Faults(bigquery_down=True))
    assert read_faults(data).active == ["BigQuery is down"]
    data.clear_run()
    assert read_faults(data) == Faults()
