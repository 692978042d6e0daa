"""The package, deployed: alone in an empty folder, with the pinned packages in a fresh environment."""

import json
import os
import pathlib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest

from functions.clients import bigquery_client
from functions.settings import Settings
from sluice.local.functions import serving
from sluice.local.stack import Emulators, create_resources
from sluice.package import unpack
from tests.support.dataset_fixtures import dropped
from tests.support.push_requests import event, wrapped
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.check

UV = str(pathlib.Path(sys.executable).with_name("uv"))

WHERE = """
import importlib.util, json, pathlib, sys
import main
import functions.drain.http
import functions.schema.bootstrap
ours = ("main", "functions")
print(json.dumps({
    "ours": sorted({str(pathlib.Path(m.__file__).parent) for n, m in sys.modules.items() if n.split(".")[0] in ours}),
    "dev": [n for n in ("sluice", "tests", "pytest", "typer", "rich", "duckdb") if importlib.util.find_spec(n)],
}))
"""


class Deployed(NamedTuple):
    """An unpacked package, and the interpreter of its environment."""

    folder: pathlib.Path
    python: str


@pytest.fixture(scope="module")
def deployed_package(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """Unpack and install the requirements, and nothing else, as the buildpack does."""
    place = tmp_path_factory.mktemp("package")
    folder, environment = place / "workspace", place / "venv"
    unpack(folder)
    python = str(environment / "bin" / "python")
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    install = [UV, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", "requirements.txt"]
    subprocess.run(install, cwd=folder, check=True)
    return Deployed(folder, python)


@pytest.fixture(scope="module")
def settings(running_emulators: Emulators) -> Iterator[dict[str, str]]:
    """Settings with datasets, a bucket and a subscription of their own."""
    names = {"DATASET": "packaged", "HISTORICAL_DATASET": "packaged_historical"}
    environment = {**running_emulators.environment, **create_resources(running_emulators, "packaged"), **names}
    chosen = Settings.from_environment(environment)
    with dropped(bigquery_client(chosen), chosen):
        yield environment


def test_package_imports_only_itself_and_its_requirements(deployed_package: Deployed, settings: dict[str, str]) -> None:
    environment = {"PATH": os.environ["PATH"], **settings}
    done = subprocess.run(
        [deployed_package.python, "-c", WHERE],
        cwd=deployed_package.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = json.loads(done.stdout)
    assert imported["dev"] == []
    assert len(imported["ours"]) > 5
    assert all(pathlib.Path(file).is_relative_to(deployed_package.folder) for file in imported["ours"])


def test_functions_serve_from_it(deployed_package: Deployed, settings: dict[str, str], tmp_path: pathlib.Path) -> None:
    code, python = deployed_package
    client = bigquery_client(Settings.from_environment(settings))
    with (
        serving("bootstrap", tmp_path, settings, "bootstrap", code=code, python=python) as bootstrap,
        serving("ingest", tmp_path, settings, "ingest", code=code, python=python) as ingest,
        serving("drain", tmp_path, settings, "drain", code=code, python=python) as drain,
    ):
        planned = httpx.get(bootstrap.url, timeout=PATIENCE)
        assert {step["change"] for step in planned.json()["objects"]} == {"create"}
        made = httpx.post(bootstrap.url, timeout=PATIENCE)
        assert made.status_code == 200, made.text
        assert {step["change"] for step in made.json()["objects"]} == {"created"}
        for event_type, table in (("order", "orders"), ("inventory", "inventory"), ("user_activity", "user_activity")):
            event_id = str(uuid.uuid4())
            answer = httpx.post(ingest.url, json=wrapped(event(event_type), event_id), timeout=PATIENCE)
            assert answer.status_code == 204, answer.text
            [row] = client.query_and_wait(f"SELECT ingest.event_id FROM packaged.{table}")
            assert row.event_id == event_id
        pulled = httpx.post(drain.url, timeout=PATIENCE)
        assert (pulled.status_code, pulled.json()["is_empty"]) == (200, True), pulled.text
