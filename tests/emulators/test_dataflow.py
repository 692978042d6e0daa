"""The pipeline on Apache Beam: the same rows, dead letters and archive as the function's; its workers and its options.

Runs on FnApiRunner.
"""

import base64
import itertools
import json
import operator
import pathlib
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from fake_google import scripted
from fake_google.answers import Answer, error
from fake_google.scripted import Cloud
from functions.archive.envelope import Envelope
from functions.archive.summary import Summary
from functions.clients import bigquery_client, storage_client
from functions.core.message import Message
from functions.core.pipeline import EventPipeline
from functions.settings import Settings
from sluice.local.stack import Emulators
from sluice.publish import Publication, publish
from sluice.shop.generator import Scenario
from sluice.shop.timeline import history_until
from tests.support.beam_process import ROOT, Scenarios, beam, python, scenarios
from tests.support.command_line import sluice
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.deployed_stack import Deploy, Warehouse
from tests.support.waiting import wait_until

type Rows = dict[str, list[tuple[str, dict[str, Any]]]]
"""Insert ids and rows by table."""

TABLES = ("orders", "inventory", "user_activity", "dead_letters")
NOW = datetime.now(UTC)
KEY = "the key that only Secret Manager has"
OTHER_KEY = "the key that this environment has"
SECRET = "projects/p/secrets/ip-hash-key/versions/1"
CHOSEN = Settings(archive_bucket="archive", google_cloud_project="project", code_version="tests")

pytestmark = pytest.mark.check


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Takes everything at once, which the emulators do not."""
    with scripted.running() as running:
        yield running


def variables(cloud: Cloud) -> dict[str, str]:
    """Return what the pipeline needs to write to the cloud."""
    return {
        "GOOGLE_CLOUD_PROJECT": "project",
        "ARCHIVE_BUCKET": "archive",
        "CODE_VERSION": "tests",
        "BIGQUERY_EMULATOR_HOST": cloud.url,
        "STORAGE_EMULATOR_HOST": cloud.url,
        "SECRET_MANAGER_EMULATOR_HOST": cloud.url,
    }


def messages(number: int) -> list[Message]:
    """Return good, bad, duplicate, late and corrected events; some have no id, no attribute, or an ordering key."""
    return list(itertools.islice(_messages(number), number))


def _messages(number: int) -> Iterator[Message]:
    ids = map(str, itertools.count(10**15))
    for position, generated in enumerate(history_until(Scenario(17, 0.05, 0.03), number, NOW)):
        data, attributes = generated.data, generated.attributes
        published = NOW - timedelta(microseconds=number - position)
        yield Message(data, attributes, next(ids), published, None, "key" * (position % 3))
        if generated.kind == "good" and position % 10 == 0:
            yield Message(data[:-1] + b',"note":"corrected"}', attributes, next(ids), published)
        elif generated.kind == "good" and position % 10 == 5:
            yield Message(_late(data), {}, next(ids), published)


def _late(data: bytes) -> bytes:
    event = json.loads(data)
    field = "order_date" if "order_date" in event else "timestamp"
    return json.dumps({**event, field: (NOW - timedelta(days=40)).isoformat()}).encode()


def processed(sent: Sequence[Message], settings: Settings = CHOSEN) -> Rows:
    """Return what the pure pipeline makes of messages."""
    process = EventPipeline.from_settings(settings)
    made: Rows = {table: [] for table in TABLES}
    for outcome in (process(message, NOW) for message in sent):
        made[outcome.table].append((outcome.insert_id, _same(outcome.record(""))))
    return {table: sorted(rows, key=_identity) for table, rows in made.items()}


def written(cloud: Cloud) -> Rows:
    """Return what was inserted, after a look at each row's message: it is in the object that the row names."""
    archived = {
        f"gs://archive/{name}": {(line["event_id"], line["message_id"]) for line in lines}
        for name, lines in cloud.objects.items()
    }
    made: Rows = {table: [] for table in TABLES}
    for table, rows in cloud.inserts:
        for row in rows:
            lineage = row["json"].get("ingest", row["json"])
            assert (lineage["event_id"], lineage["message_id"]) in archived[lineage["archive_uri"]]
            made[table].append((row["insertId"], _same(row["json"])))
    return {table: sorted(rows, key=_identity) for table, rows in made.items()}


def _same(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without what the way has left in it: times, addresses, and the number of deliveries."""
    row = dict(row)
    if "ingest" in row:
        row["ingest"] = {**row["ingest"], "archive_uri": ""}
    for name in ("processed_timestamp", "archive_uri", "failed_at", "delivery_attempt"):
        row.pop(name, None)
    if row.get("stage") == "time_bounds":  # its message has the time
        row["errors"] = [{**error, "message": ""} for error in row["errors"]]
    return row


def _identity(inserted: tuple[str, dict[str, Any]]) -> tuple[str, str]:
    insert_id, row = inserted
    return insert_id, row.get("ingest", row)["message_id"]


def files(sent: Sequence[Message], folder: pathlib.Path) -> str:
    """Write messages as four files of envelopes, and return the pattern of their names."""
    for number in range(4):
        envelopes = [Envelope.from_message(message, None) for message in sent[number::4]]
        (folder / f"{number}.ndjson").write_bytes(msgspec.json.Encoder().encode_lines(envelopes))
    return f"{folder}/*.ndjson"


def by_id(sent: Iterable[Message]) -> list[Message]:
    return sorted(sent, key=operator.attrgetter("message_id"))


def test_beam_outcomes_of_20_000_events_equal_those_of_the_core(cloud: Cloud, tmp_path: pathlib.Path) -> None:
    sent = messages(20_000)
    beam("dataflow.main", ("--runner=FnApiRunner", f"--input_files={files(sent, tmp_path)}"), variables(cloud))
    expected = processed(sent)
    assert min(map(len, expected.values())) > 500, "too few events of a kind"
    assert written(cloud) == expected
    archived = {name: [msgspec.convert(line, Envelope) for line in lines] for name, lines in cloud.objects.items()}
    assert by_id(line.message() for lines in archived.values() for line in lines) == by_id(sent)
    assert max(map(len, archived.values())) == CHOSEN.batch_rows
    for name, lines in archived.items():
        summary = Summary.of(lines, {"order", "inventory", "user_activity"})
        assert Summary.from_metadata(cloud.metadata[name]) == summary


def events(datasets: Datasets) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return all rows by table, event id and digest, without their messages: those of duplicates are BigQuery's choice.

    Each row's message is in the archive.
    """
    archived = {(line.event_id, line.message_id) for lines in datasets.objects().values() for line in lines}
    contents = {}
    for table in TABLES:
        for row in map(_same, datasets.rows(f"live.{table}")):
            lineage = row.get("ingest", row)
            assert (lineage["event_id"], lineage.pop("message_id")) in archived
            lineage.pop("publish_time")
            contents[table, lineage["event_id"], lineage["content_digest"]] = row
    return contents


def archived(datasets: Datasets) -> dict[str, Message]:
    """Return the messages of the archive by id; a redelivery is there twice."""
    lines = itertools.chain.from_iterable(datasets.objects().values())
    return {line.message_id: line.message() for line in lines}


def test_replay_of_2_000_archived_events_has_the_same_outcomes(deploy: Deploy, running_emulators: Emulators) -> None:
    """Events go through Pub/Sub and the function, and from its archive through Beam; both archives replay alike."""
    sent = messages(2_000)
    contents = sum(len({insert_id for insert_id, _ in rows}) for rows in processed(sent).values())
    with deploy("dataflow", CODE_VERSION="tests") as stack:
        publish((Publication(message.data, message.attributes) for message in sent), stack.topic)
        stored = Warehouse(stack).stored
        by_function = Datasets(stack.settings, bigquery_client(stack.settings), storage_client(stack.settings))
        wait_until(lambda: stored() >= contents and len(events(by_function)) == contents, "all are stored", stored, 1)
        with fresh_datasets(running_emulators) as by_beam, fresh_datasets(running_emulators) as empty:
            source = f"--input_files=gs://{stack.settings.archive_bucket}/raw/"
            beam("dataflow.main", ("--runner=FnApiRunner", source), {**by_beam.environment, "CODE_VERSION": "tests"})
            assert events(by_beam) == events(by_function)
            assert archived(by_beam) == archived(by_function)
            assert len(archived(by_beam)) == len(sent)
            assert replayed(by_beam, empty) == replayed(by_function, empty)


def replayed(datasets: Datasets, target: Datasets) -> dict[str, Any]:
    """Return what a replay of an archive into other datasets would load."""
    environment = {**target.environment, "ARCHIVE_BUCKET": datasets.settings.archive_bucket}
    ended = sluice(["replay", "--from", "1h", "--dry-run", "--json"], environment)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert sum(report["rows"].values()) > 1_000
    return {name: report[name] for name in ("rows", "dead_letters")}


@pytest.fixture
def shipped(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with what is shipped to Dataflow's workers, and nothing else."""
    for folder in ("dataflow", "functions", "jsonschemas"):
        shutil.copytree(ROOT / folder, tmp_path / "shipped" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "shipped"


def test_worker_processes_need_only_the_shipped_packages(
    cloud: Cloud, shipped: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Two processes of Beam's harness, over gRPC: pickling, imports and setup are as on Dataflow.

    They fetch the key of the hashed addresses themselves; that of the environment is another one.
    """
    sent, empty = messages(2_000), tmp_path / "empty"
    empty.mkdir()
    look = "import dataflow, functions, importlib.util as u; print(dataflow.__path__, functions.__path__,"
    look += " *(name for name in ('ops', 'main', 'pytest') if u.find_spec(name)))"
    where = subprocess.run(
        [python(), "-c", look], env={"PYTHONPATH": str(shipped)}, cwd=empty, check=True, capture_output=True, text=True
    )
    assert where.stdout.strip() == f"['{shipped}/dataflow'] ['{shipped}/functions']"
    cloud.on_get = secret_manager
    options = ("--runner=FnApiRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2")
    hashed = ("--ip_policy=hash", f"--ip_hash_key_secret={SECRET}", f"--input_files={files(sent, tmp_path)}")
    environment = {**variables(cloud), "IP_HASH_KEY": OTHER_KEY}
    beam("dataflow.main", (*options, *hashed), environment, path=shipped, folder=empty)
    expected = processed(sent, msgspec.structs.replace(CHOSEN, ip_policy="hash", ip_hash_key=KEY))
    assert written(cloud) == expected != processed(sent)


def secret_manager(path: str) -> Answer:
    """Answer https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access."""
    assert path.startswith(f"/v1/{SECRET}:access")
    return 200, {"name": SECRET, "payload": {"data": base64.b64encode(KEY.encode()).decode()}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenarios]:
    with scenarios(tmp_path_factory.mktemp("beam"), {}) as running:
        yield running


def test_the_graph_of_a_job_has_dataflow_s_own_read_and_no_secret(run: Scenarios, cloud: Cloud) -> None:
    arguments = ["--runner=BundleBasedDirectRunner", "--input_subscription=projects/project/subscriptions/events"]
    arguments += ["--ip_policy=hash", f"--ip_hash_key_secret={SECRET}"]
    graph = run("graph", bytes, arguments=arguments, environment={**variables(cloud), "IP_HASH_KEY": OTHER_KEY})
    assert b"beam:transform:pubsub_read:v1" in graph
    assert SECRET.encode() in graph, "the settings of the workers were not found"
    assert OTHER_KEY.encode() not in graph
    assert cloud.connections == 0, "the key was fetched"


def test_a_pipeline_that_fails_ends_with_a_sentence(run: Scenarios, cloud: Cloud, tmp_path: pathlib.Path) -> None:
    cloud.on_insert = lambda *_: error(403, "accessDenied")
    arguments = ["--runner=FnApiRunner", f"--input_files={files(messages(4), tmp_path)}"]
    code, errors = run("run_main", tuple, arguments=arguments, environment=variables(cloud))
    assert code == 1
    assert errors.splitlines()[-1].startswith("Failed: Forbidden: 403 accessDenied")
