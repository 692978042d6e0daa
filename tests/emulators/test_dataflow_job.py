"""The job that DataflowRunner would submit: what Dataflow gets to read, and what an update of a running job needs.

It is built and serialized beside what is shipped and nothing else, as by the launcher in the image, and sent nowhere.
"""

import json
import pathlib
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from functions.core.message import Message
from sluice.local.stack import Emulators
from tests.support.beam_process import ROOT, beam
from tests.support.datasets import fresh_datasets

IMAGE = "us-docker.pkg.dev/project/images/sluice:1"
SUBSCRIPTION = "projects/project/subscriptions/dataflow"
SECRET = "the key that only Secret Manager has"
SECRET_NAME = "projects/project/secrets/ip-hash-key/versions/1"
OPTIONS = (
    "--runner=DataflowRunner",
    "--no_auth",
    "--project=project",
    "--region=us-central1",
    "--job_name=sluice",
    "--temp_location=gs://staging/temp",
    "--staging_location=gs://staging/staging",
    f"--sdk_container_image={IMAGE}",
    "--service_account_email=dataflow@project.iam.gserviceaccount.com",
    "--max_num_workers=5",
)
STREAM = (
    *OPTIONS,
    f"--input_subscription={SUBSCRIPTION}",
    "--dataset=live",
    "--archive_bucket=the-archive",
    "--ip_policy=hash",
    f"--ip_hash_key_secret={SECRET_NAME}",
)

NAMES = {
    "Read/Subscription/Read": "pubsub_read",
    "Read/Message": "pardo",
    "Batches/Bundle": "pardo",
    "Batches/Key": "pardo",
    "Batches/Batch": "pardo",
    "Write": "pardo",
}
"""Steps of the stream by name. Where one has another name, a running job cannot be updated without
`transform_name_mapping` (https://cloud.google.com/dataflow/docs/guides/updating-a-pipeline)."""

STATE = {"Batches/Batch": ["varint", "varint", "varint", "bytes"]}
"""State that the stream keeps between its steps: by step, the coders of keys and values. With others, a running
job cannot be updated. Values are rows, size and bytes of a batch, so no single message is shuffled."""

pytestmark = pytest.mark.check


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("launcher")
    for name in ("dataflow", "functions", "jsonschemas"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests" / "support" / "beam_job.py", folder)
    return folder


def job(launcher: pathlib.Path, *options: str, environment: Mapping[str, str]) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(
        beam("beam_job", options, {"NO_GCE_CHECK": "true", **environment}, path=launcher)
    )
    return described


@pytest.fixture(scope="module")
def stream(launcher: pathlib.Path) -> dict[str, Any]:
    return job(launcher, *STREAM, environment={"IP_HASH_KEY": SECRET})


def test_dataflow_itself_reads_the_subscription(stream: dict[str, Any]) -> None:
    assert stream["source"] == {"subscription": SUBSCRIPTION, "with_attributes": True}


def test_streaming_needs_no_option(stream: dict[str, Any]) -> None:
    """Neither `--streaming` nor `--enable_streaming_engine` was given."""
    assert stream["is_stream"]
    assert stream["options"]["streaming"] is True
    assert {"enable_streaming_engine", "use_runner_v2"} <= {*stream["environment"]["experiments"]}


def test_launcher_and_workers_share_one_image(stream: dict[str, Any]) -> None:
    """It has the code: nothing is staged but the job itself and a list of the launcher's packages."""
    [pool] = stream["environment"]["worker_pools"]
    [harness] = pool["sdk_harness_container_images"]
    assert [*stream["images"], harness["container_image"], pool["worker_harness_container_image"]] == [IMAGE] * 3
    assert sorted(stream["staged"]) == ["pipeline.pb", "submission_environment_dependencies.txt"]
    assert stream["options"]["save_main_session"] is False


def test_options_reach_the_job(stream: dict[str, Any]) -> None:
    assert stream["environment"]["service_account_email"] == "dataflow@project.iam.gserviceaccount.com"
    assert stream["environment"]["worker_pools"][0]["autoscaling_settings"]["max_num_workers"] == 5
    assert "the-archive" in stream["functions"]


def test_a_job_has_no_secret(stream: dict[str, Any]) -> None:
    """Its name only. Readers of Dataflow see options and steps."""
    assert SECRET not in json.dumps(stream)
    assert SECRET_NAME in stream["functions"]


def test_a_job_is_small(stream: dict[str, Any]) -> None:
    assert stream["size"] < 20_000


def test_a_running_job_can_be_updated(stream: dict[str, Any]) -> None:
    assert stream["transforms"] == {name: f"beam:transform:{kind}:v1" for name, kind in NAMES.items()}
    assert stream["shuffled"] == STATE


def test_without_linger_nothing_is_shuffled(launcher: pathlib.Path) -> None:
    """Dataflow acknowledges messages after the steps up to the first shuffle: here after they are written."""
    at_once = job(launcher, *STREAM, "--linger=0", environment={})
    assert at_once["transforms"].keys() == NAMES.keys() - {"Batches/Key", "Batches/Batch"}
    assert at_once["shuffled"] == {}


def test_a_job_may_deliver_at_least_once(launcher: pathlib.Path) -> None:
    """Dataflow drops no duplicates then; the attribute of the ids is the same, so one can be updated to the other."""
    options = ("--id_label=event_id", "--dataflow_service_options=streaming_mode_at_least_once")
    chosen = job(launcher, *STREAM, *options, environment={})
    assert chosen["environment"]["service_options"] == ["streaming_mode_at_least_once"]
    assert chosen["source"]["id_attribute"] == "event_id"
    assert chosen["transforms"].keys() == NAMES.keys()


def test_a_job_with_files_shuffles_their_names_only(launcher: pathlib.Path, running_emulators: Emulators) -> None:
    now = datetime.now(UTC)
    with fresh_datasets(running_emulators) as datasets:
        datasets.stream([Message(b"{}", {}, "1", now)], now)
        files = f"--input_files=gs://{datasets.settings.archive_bucket}/raw/"
        batch = job(launcher, *OPTIONS, files, environment=datasets.environment)
    assert (batch["is_stream"], batch["source"]) == (False, None)
    assert {"Batches/Bundle", "Write"} <= batch["transforms"].keys()
    assert "MessageCoder" not in json.dumps(batch["shuffled"])
    assert batch["size"] < 40_000
