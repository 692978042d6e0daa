"""Dead letters, from the rejected event to the row that it becomes, on the emulators, by the commands."""

import base64
import json
import pathlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from functions.core.message import Message
from sluice.local.stack import Emulators
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.dead_letter_commands import KILLED, NOW, ledger, letters, message, order, run

REPAIR = """
def transform(payload, attributes):
    if b"lost" not in payload:
        return None
    return payload.replace(b'"lost"', b'"pending"')
"""


@pytest.fixture
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators, views=True) as fresh:
        yield fresh


def stream_bad_ones(datasets: Datasets) -> None:
    bad = [message(f"lost-{number}", order(status="lost", order_id=f"o-{number}")) for number in range(3)]
    others = [message("old", order(100)), message("broken", b'{"event_type": "order"'), message("good", order())]
    datasets.stream([*bad, *others], NOW)


def test_open_dead_letters_are_listed_by_cause(datasets: Datasets) -> None:
    assert letters(datasets, "list") == []
    stream_bad_ones(datasets)
    groups = {group["rule"]: group for group in letters(datasets, "list")}
    assert {rule: (group["stage"], group["open_events"]) for rule, group in groups.items()} == {
        "enum": ("contract", 3),
        "minimum": ("time_bounds", 1),
        "json": ("decode", 1),
    }
    enum = groups["enum"]
    assert (enum["place"], enum["event_type"], enum["events"]) == ("$.status", "order", 3)
    assert enum["example_event_id"].startswith("lost-")
    assert '"lost"' in enum["message"]
    assert [group["rule"] for group in letters(datasets, "list", "--stage", "decode")] == ["json"]
    assert [group["rule"] for group in letters(datasets, "list", "--type", "order", "--since", "1h")] == [
        "enum",
        "minimum",
    ]
    assert letters(datasets, "list", "--since", datetime.now(UTC).isoformat()) == []
    shown = run(datasets, "dead-letters", "list")
    assert re.search(r"contract +order +\$\.status +enum ", shown)
    assert enum["fingerprint"] in shown
    assert "is not a time" in run(datasets, "dead-letters", "list", "--since", "yesterday", code=2)
    assert "select dead letters" in run(datasets, "dead-letters", "replay", code=2)


def test_typo_in_fingerprint_or_type_is_no_empty_answer(datasets: Datasets) -> None:
    datasets.stream([message("lost", order(status="lost")), message("teleport", b'{"event_type": "teleport"}')], NOW)
    fingerprints = [group["fingerprint"] for group in letters(datasets, "list")]
    typo = "0" + fingerprints[0][1:] if fingerprints[0][0] != "0" else "1" + fingerprints[0][1:]
    replay = ["dead-letters", "replay", "--dry-run"]
    for given in ([typo], [*fingerprints, typo]):
        said = run(datasets, *replay, *(part for value in given for part in ("--fingerprint", value)), code=2)
        assert f"no dead letter has fingerprint {typo}; did you mean {fingerprints[0]}" in said
    said = run(datasets, *replay, "--fingerprint", "zzz", code=2)
    assert "no dead letter has fingerprint zzz; `sluice dead-letters list --all` lists all" in said
    for command in (["dead-letters", "list"], replay):
        assert "no dead letter has type orders; did you mean order?" in run(
            datasets, *command, "--type", "orders", code=2
        )
    assert len(letters(datasets, "list", "--type", "teleport")) == 1
    assert letters(datasets, "list", "--type", "inventory") == [], "it exists, and has none"


def test_list_groups_new_and_old_dead_letters_by_cause(datasets: Datasets) -> None:
    people = [f"person-{number}@example.com" for number in range(20)]
    bad = [b'{"event_type": "%b"}' % person.encode() for person in people]
    bad += [b'{"people": {"%b": {"a": 1, "a": 2}}}' % person.encode() for person in people]
    datasets.stream([message(f"new-{number}", payload) for number, payload in enumerate(bad)], NOW)
    old = [
        {
            **{name: value for name, value in row.items() if name != "place"},
            "attributes": json.dumps(row["attributes"]),
            "event_id": row["event_id"].replace("new", "old"),
            "fingerprint": f"{number:016x}",
            "publish_time": NOW.isoformat(),
            "failed_at": NOW.isoformat(),
            "payload": base64.b64encode(row["payload"]).decode(),
        }
        for number, row in enumerate(datasets.rows("live.dead_letters"))
    ]
    assert datasets.client.insert_rows_json(f"{datasets.settings.dataset}.dead_letters", old) == []
    groups = letters(datasets, "list")
    assert [
        (group["rule"], group["event_type"], group["place"], group["events"])
        for group in groups
        if group["rule"] == "enum"
    ] == [("enum", None, "$.event_type", 20)] * 2
    assert [(group["rule"], group["events"]) for group in groups if group["rule"] != "enum"] == [("uniqueKeys", 20)] * 2
    for group in groups:
        assert letters(datasets, "replay", "--fingerprint", group["fingerprint"], "--dry-run")["events"] == 20
    summary = f"SELECT * FROM `{datasets.settings.dataset}.dead_letter_summary`"
    assert "example.com" not in str([dict(row) for row in datasets.client.query_and_wait(summary)])
    assert [group["event_type"] for group in letters(datasets, "list", "--type", people[0])] == [None, None]


def test_two_contents_of_one_id_are_two_dead_letters_and_replays(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    for number, status in enumerate(("pending", "shipped")):
        bad = Message(order(status=status, total_amount="9"), {"event_id": "a"}, f"m-{number}", NOW)
        datasets.stream([bad], NOW + timedelta(seconds=number))
    [group] = letters(datasets, "list")
    assert (group["events"], len(letters(datasets, "show", "a"))) == (2, 2)
    repair = tmp_path / "repair.py"
    repair.write_text('def transform(payload, attributes):\n    return payload.replace(b\'"9"\', b"9")\n')
    shipped = tmp_path / "shipped.py"
    shipped.write_text(repair.read_text().replace("return ", "return None if b'pending' in payload else "))
    run(datasets, "dead-letters", "replay", "--all", "--transform", shipped)
    assert [group["open_events"] for group in letters(datasets, "list")] == [1]
    assert "1 of 1 passed" in run(datasets, "dead-letters", "replay", "--all", "--transform", repair)
    assert letters(datasets, "list") == []
    assert sorted(row["status"] for row in datasets.rows("live.orders")) == ["pending", "shipped"]


def test_the_whole_way_of_dead_letters_that_come_back(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    stream_bad_ones(datasets)
    [enum] = [group for group in letters(datasets, "list") if group["rule"] == "enum"]
    nothing = letters(datasets, "replay", "--all", "--dry-run")
    assert (nothing["events"], nothing["passing"]) == (5, 1)
    assert ledger(datasets) == []
    assert datasets.ids("live.orders") == ["good"]

    repair = tmp_path / "repair.py"
    repair.write_text(REPAIR)
    lost = ["--fingerprint", enum["fingerprint"], "--transform", repair]
    dry = run(datasets, "dead-letters", "replay", *lost, "--dry-run")
    assert "3 of 3 would pass with the current contracts." in dry
    assert '-  "status": "lost",\n+  "status": "pending",' in dry
    assert datasets.ids("live.orders") == ["good"]

    before = datasets.objects()
    done = run(datasets, "dead-letters", "replay", "--all", "--transform", repair, "--rate", "500")
    assert "3 of 5 passed and are rows now." in done
    assert "skipped by the transform" in done
    assert datasets.ids("live.orders") == ["good", "lost-0", "lost-1", "lost-2"]
    assert [row["open_events"] for row in letters(datasets, "list")] == [1, 1]
    [(uri, envelopes)] = [(uri, envelopes) for uri, envelopes in datasets.objects().items() if uri not in before]
    assert {envelope.event_id for envelope in envelopes} == {"lost-0", "lost-1", "lost-2"}
    for row in datasets.rows("live.orders"):
        assert (row["ingest"]["archive_uri"] == uri) == (row["ingest"]["event_id"] != "good")
    for envelope in envelopes:
        assert re.fullmatch(r"repair\.py:[0-9a-f]{16}", envelope.attributes["sluice_transform"])
    for entry in ledger(datasets):
        assert (entry["outcome"], entry["source"], entry["archive_uri"]) == ("row", "dead_letter", uri)
        assert (entry["fingerprint"], entry["new_fingerprint"]) == (enum["fingerprint"], None)
        assert entry["transform"] == envelopes[0].attributes["sluice_transform"]
        assert (entry["code_version"], bool(entry["replayed_by"])) == ("tests", True)

    again = letters(datasets, "replay", *lost)
    assert (again["events"], again["rows"], len(ledger(datasets))) == (0, {}, 3)

    plain = letters(datasets, "replay", "--all")
    assert (plain["events"], plain["passing"]) == (2, 1)
    assert plain["rows"] == {f"{datasets.settings.historical_dataset}.orders": 1}
    [row] = datasets.rows("historical.orders")
    assert row["ingest"]["archive_uri"] in before
    [still] = letters(datasets, "list")
    assert still["rule"] == "json"
    outcomes = {entry["event_id"]: (entry["outcome"], entry["new_fingerprint"]) for entry in ledger(datasets)[3:]}
    assert outcomes == {"old": ("row", None), "broken": ("dead_letter", still["fingerprint"])}
    assert len(datasets.rows("live.dead_letters")) == 5
    summary = datasets.client.query_and_wait(
        f"SELECT rule, events, open_events FROM `{datasets.settings.dataset}.dead_letter_summary` ORDER BY rule"
    )
    assert [tuple(row.values()) for row in summary] == [("enum", 3, 0), ("json", 1, 1), ("minimum", 1, 0)]


def test_a_dead_letter_that_was_inserted_twice_is_one_event(datasets: Datasets) -> None:
    datasets.stream([message("old", order(100)), message("bad", order(status="lost"))], NOW)
    table = f"{datasets.settings.dataset}.dead_letters"
    datasets.client.query_and_wait(f"INSERT INTO `{table}` SELECT * FROM `{table}`")
    assert len(datasets.rows("live.dead_letters")) == 4
    assert {group["events"] for group in letters(datasets, "list")} == {1}
    assert len(json.loads(run(datasets, "dead-letters", "show", "bad", "--json"))) == 1
    dry = run(datasets, "dead-letters", "replay", "--all", "--dry-run")
    assert "1 of 2 would pass with the current contracts." in dry
    done = letters(datasets, "replay", "--all")
    assert (done["events"], done["passing"], done["repeated"]) == (2, 1, 0)
    assert len(ledger(datasets)) == 2


def test_show_marks_the_places_of_each_payload_and_obeys_none(datasets: Datasets) -> None:
    address = {"street": "1 Rue", "country": "\x1b[2J\u202e"}
    events = {
        "json": order(status="lost", shipping_address=address),
        "text": b'{"event_type": "order",\n "status": lost \x1b[2J}',
        "bytes": b'{"event_type": "\xff\x1b"}',
        "large": order(note="x" * 3 * 2**20),
        "attribute": order(),
    }
    versions = {"attribute": {"schema_version": "9", "\x1b[2J": "\x1b"}}
    sent = [message(f"{name} [b]", data, **versions.get(name, {})) for name, data in events.items()]
    datasets.stream(sent, NOW)
    texts = {name: run(datasets, "dead-letters", "show", f"{name} [b]") for name in events}
    assert not [name for name, text in texts.items() if "\x1b" in text or "\u202e" in text]
    assert all(f"event_id: {name} [b]" in text for name, text in texts.items())
    assert '  "status": "lost",\n  ^ $.status  enum: ' in texts["json"]
    assert '  "shipping_address": {\n  ^ $.shipping_address.city  required: ' in texts["json"]
    assert '"country": "\\u001b[2J\\x202e"' in texts["json"]
    assert '   "status": lost \\x1b[2J}\n             ^\n  ^ $  json: ' in texts["text"]
    assert '{"event_type": "\\xff\\x1b"}\n                  ^\n  ^ $  utf-8: ' in texts["bytes"]
    assert "maxBytes" in texts["large"]
    assert "characters)" in texts["large"]
    assert len(texts["large"]) < 10_000
    assert '  schema_version: 9\n  ^ enum: "9" is no version of order' in texts["attribute"]
    shown = {name: json.loads(run(datasets, "dead-letters", "show", f"{name} [b]", "--json")) for name in events}
    [of_json], [of_text], [of_bytes], [of_large], [of_attribute] = shown.values()
    assert of_json["payload"]["shipping_address"] == address
    assert of_text["payload_text"] == events["text"].decode()
    assert of_bytes["payload_base64"] == "eyJldmVudF90eXBlIjogIv8bIn0="
    assert len(of_large["payload"]["note"]) == 3 * 2**20
    assert of_attribute["attributes"]["schema_version"] == "9"
    assert [event["is_open"] for (event,) in shown.values()] == [True] * 5
    assert "has no dead letters" in run(datasets, "dead-letters", "show", "nobody\x1b[2J", code=1)


def test_payload_missing_in_the_table_is_read_from_the_archive(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    datasets.stream([message("large", order(note="x" * 3 * 2**20))], NOW)
    datasets.stream([message("gone", order(note="x" * 3 * 2**20))], NOW)
    [gone] = [uri for uri, (envelope,) in datasets.objects().items() if envelope.event_id == "gone"]
    datasets.storage.bucket(datasets.settings.archive_bucket).blob(gone.split("/", 3)[3]).delete()
    repair = tmp_path / "repair.py"
    repair.write_text("def transform(payload, attributes):\n    return payload.replace(b'x' * 2**20, b'')\n")
    output = run(datasets, "dead-letters", "replay", "--stage", "decode", "--transform", repair, code=1)
    assert f"{gone}, event gone: the object does not exist" in output
    assert datasets.ids("live.orders") == ["large"]
    assert "the object does not exist" in run(datasets, "dead-letters", "show", "gone")


def test_replay_with_a_new_cause_moves_the_open_dead_letter(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    datasets.stream([message("e", order(status="lost"))], NOW)
    [first] = letters(datasets, "list")
    worse, same = tmp_path / "worse.py", tmp_path / "same.py"
    worse.write_text("def transform(payload, attributes):\n    return payload[:-1]\n")
    same.write_text("def transform(payload, attributes):\n    return payload.replace(b'lost', b'gone') + b'}'\n")
    run(datasets, "dead-letters", "replay", "--all", "--transform", worse)
    [second] = letters(datasets, "list")
    assert (second["stage"], second["open_events"]) == ("decode", 1)
    assert letters(datasets, "replay", "--event", "other", "--dry-run")["events"] == 0
    done = letters(datasets, "replay", "--event", "e", "--transform", same)
    assert (done["passing"], done["causes"][0]["still"][0]["fingerprint"]) == (0, first["fingerprint"])
    [third] = letters(datasets, "list")
    assert third["fingerprint"] == first["fingerprint"]
    assert {row["fingerprint"]: row["open_events"] for row in letters(datasets, "list", "--all")} == {
        first["fingerprint"]: 1,
        second["fingerprint"]: 0,
    }


def test_failing_transform_names_line_and_event_and_spares_the_others(
    datasets: Datasets, tmp_path: pathlib.Path
) -> None:
    datasets.stream([message(name, order(status="lost")) for name in ("good", "bad\x1b[2J", "text")], NOW)
    repair = tmp_path / "repair.py"
    repair.write_text("""import json
def transform(payload, attributes):
    if attributes["event_id"].startswith("bad"):
        raise KeyError("status")
    text = payload.decode().replace("lost", "pending")
    return text if attributes["event_id"] == "text" else text.encode()
""")
    for more in (["--dry-run"], []):
        output = run(datasets, "dead-letters", "replay", "--all", "--transform", repair, *more, code=1)
        assert f"{repair}:4, event bad\\x1b[2J: KeyError: 'status'" in output
        assert f"{repair}, event text: transform returned str, not bytes or None" in output
    assert datasets.ids("live.orders") == ["good"]
    repair.write_text("def transform(payload, attributes)\n")
    assert f"{repair}:1: SyntaxError" in run(datasets, "dead-letters", "replay", "--all", "--transform", repair, code=2)
    assert len(datasets.rows("live.replays")) == 1


@pytest.mark.check
def test_run_killed_before_the_ledger_is_completed_by_the_next_run(datasets: Datasets) -> None:
    datasets.stream([message("old", order(100)), message("bad", order(status="lost"))], NOW)
    script = KILLED.format("ledger.Ledger")
    run(datasets, "dead-letters", "replay", "--stage", "time_bounds", code=-9, script=script)
    assert (datasets.ids("historical.orders"), ledger(datasets)) == (["old"], [])
    assert len(letters(datasets, "list")) == 2
    done = letters(datasets, "replay", "--all")
    assert (done["rows"], done["rows_present"]) == ({}, {f"{datasets.settings.historical_dataset}.orders": 1})
    assert datasets.ids("historical.orders") == ["old"]
    assert [entry["outcome"] for entry in ledger(datasets)] == ["dead_letter", "row"]
    assert [group["rule"] for group in letters(datasets, "list")] == ["enum"]
