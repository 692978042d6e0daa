"""docs/your-own-client.md as somebody follows it: each block is run as it is written, in an empty folder."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from sluice.local import pubsub
from sluice.local.client_environment import ClientKind, shell_lines
from sluice.local.stack import Stack
from tests.support.cloud_sdk import HOW_TO_GET
from tests.support.deployed_stack import Warehouse
from tests.support.docs import ROOT, blocks
from tests.support.requires import missing
from tests.support.waiting import PATIENCE

BLOCKS = {title: (language, text) for language, title, text in blocks(ROOT / "docs" / "your-own-client.md")}
FRAMES = ROOT / ".venv" / "frames"
EVAL = re.compile(r'^eval "\$\(\.venv/bin/sluice env --for (\w+)\)"$', re.MULTILINE)


def variables(stack: Stack) -> dict[str, str]:
    """Return the variables of a running stack, as `sluice up` prints them."""
    names = {
        "DATASET": stack.settings.dataset,
        "SLUICE_TOPIC": stack.topic,
        "SLUICE_UNDELIVERABLE": stack.undeliverable,
    }
    return {**stack.environment, **names}


class Reader:
    """Runs blocks of the page in one folder, with a HOME of its own and no variable of a stack or of Google Cloud."""

    def __init__(self, stack: Stack, folder: pathlib.Path) -> None:
        self._variables = variables(stack)
        self._folder = folder
        system = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "CLOUDSDK_"))}
        system = {name: value for name, value in system.items() if name not in self._variables}
        self._system = system | {"HOME": str(folder), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}

    def python(self, *titles: str) -> str:
        """Run the blocks as one script, and return what it prints."""
        script = "".join(text for title in titles for language, text in [BLOCKS[title]] if language == "python")
        return self._run([sys.executable, "-c", script], self._variables | {"PYTHONPATH": str(FRAMES)})

    def shell(self, title: str, kind: ClientKind | None = None) -> str:
        """Run a block in a shell that ends at the first failure, and return what it prints."""
        language, text = BLOCKS[title]
        assert language == "sh"
        setup = [] if kind is None else shell_lines(kind, self._variables)
        assert [ClientKind(name) for name in EVAL.findall(text)] == ([kind] if kind else [])
        script = EVAL.sub(lambda _: "\n".join(setup), text)
        return self._run(["sh", "-euc", script], {} if kind else self._variables)

    def _run(self, command: list[str], environment: dict[str, str]) -> str:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._system | environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def reader(stack: Stack, warehouse: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Has published the event of the page, which is a row."""
    following = Reader(stack, tmp_path_factory.mktemp("own-client"))
    assert following.python("publish").strip()
    warehouse.wait_for(1)
    return following


def needs_program(name: str, how_to_get: str = HOW_TO_GET) -> None:
    if shutil.which(name) is None:
        missing(how_to_get)


def needs_rest_of_pubsub() -> None:
    if pubsub.google_emulator() is None:
        missing("Google's Pub/Sub emulator or Java is not there: gcloud components install pubsub-emulator")


def test_bigquery_client_reads_rows(reader: Reader) -> None:
    assert reader.python("bigquery").split() == ["p-1", "-2"]


def test_copied_archive_is_read_by_duckdb(reader: Reader) -> None:
    assert re.search(r"^archive/raw/dt=.*\.ndjson\.gz$", reader.python("storage"), re.MULTILINE)
    assert re.search(r"i-1 .* inventory ", reader.python("duckdb"))


@pytest.mark.check
@pytest.mark.parametrize("title", ["pandas", "polars", "pandas-json"])
def test_data_frames_have_the_rows(reader: Reader, title: str) -> None:
    if not (FRAMES / "ready").exists():
        missing("pandas and Polars are not installed, which only this test needs: run `make frames`")
    assert "p-1" in reader.python("bigquery", "reader", title).replace("p-1 -2", "", 1)


@pytest.mark.check
def test_bq_reads_rows_and_schemas(reader: Reader) -> None:
    needs_program("bq")
    printed = reader.shell("bq", ClientKind.BQ)
    assert "dead_letters" in printed
    assert '"name":"quantity_change"' in printed
    assert "| p-1 " in printed


@pytest.mark.check
def test_gcloud_storage_lists_and_copies_the_archive(reader: Reader) -> None:
    needs_program("gcloud")
    printed = reader.shell("gcloud-storage", ClientKind.GCLOUD)
    assert re.search(r"^gs://.*/raw/dt=.*\.ndjson\.gz$", printed, re.MULTILINE)


@pytest.mark.check
def test_gcloud_pubsub_publishes_a_dead_letter(reader: Reader, warehouse: Warehouse) -> None:
    needs_program("gcloud")
    needs_rest_of_pubsub()
    printed = reader.shell("gcloud-pubsub", ClientKind.GCLOUD)
    assert "messageIds" in printed
    assert '"event_id": "bad-1"' in printed
    assert "bad-1" in warehouse.wait_for(2).dead


def test_curl_reads_rows_and_objects(reader: Reader) -> None:
    needs_program("curl", "curl is not there: install the package curl")
    printed = reader.shell("curl")
    assert '"p-1"' in printed
    assert ".ndjson.gz" in printed


def test_curl_publishes(reader: Reader) -> None:
    needs_program("curl", "curl is not there: install the package curl")
    needs_rest_of_pubsub()
    assert "messageIds" in reader.shell("curl-pubsub")


def test_python_needs_the_stacks_variables_only(stack: Stack) -> None:
    language, text = BLOCKS["python"]
    assert (language, EVAL.findall(text)) == ("sh", ["python"])
    lines = shell_lines(ClientKind.PYTHON, variables(stack))
    assert lines == [f"export {name}={value}" for name, value in variables(stack).items()]
