"""A cold start of `ingest` imports few packages and no client library, and does little else than the framework's own.

Which of the project's modules it imports is a rule of import-linter: `[tool.importlinter]` in pyproject.toml.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest

from sluice.package import ROOT, deployed_files
from tests.support import metadata_server

UV = str(pathlib.Path(sys.executable).with_name("uv"))

HEAVY = {"google.api_core", "google.cloud", "grpc", "jsonschema", "pydantic", "sqlglot", "yaml"}
"""Packages that take longer to import than all of `ingest`, or would come with a client library."""

MAX_PACKAGES = 17
"""Maximum number of packages that `main` imports in addition to those of the framework."""

BUDGET = 1.25
"""Maximum number of calls and returns while the functions are imported, by the framework's. Measured: 1.15.

The number is the same on each machine and in each run, within 0.1 %. The ratio of the CPU times is not: 1.3 on one
processor, 1.6 to 1.8 on another, for the same code."""

IMPORT = """
import json, sys
count = 0

def profile(frame, event, argument):
    global count
    count += 1

def work(module):
    global count
    count = 0
    sys.setprofile(profile)
    __import__(module)
    sys.setprofile(None)
    return count

framework = work("functions_framework")
before = set(sys.modules)
own = work("main")
print(json.dumps({"ratio": own / framework, "imported": sorted(set(sys.modules) - before)}))
"""


class Start(NamedTuple):
    """A start in an environment of what is deployed, with credentials as in Google Cloud.

    Attributes:
        ratio: Calls and returns, of C functions too, while `main` is imported, by those of `functions_framework`.
        imported: Modules that `main` imports and the framework does not.
    """

    ratio: float
    imported: list[str]


@pytest.fixture(scope="module")
def cold_start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """A start in a process of its own, with bytecode."""
    place = tmp_path_factory.mktemp("imports")
    for name in deployed_files():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / name)
    python = place / ".venv" / "bin" / "python"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, str(place / ".venv")], check=True)
    install = [UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]
    subprocess.run([*install, "--require-hashes", "-r", "requirements.txt"], cwd=place, check=True)

    def start(variables: dict[str, str]) -> Start:
        environment = {
            "PATH": os.environ["PATH"],
            "ARCHIVE_BUCKET": "archive",
            "FUNCTION_TARGET": "ingest",
            **variables,
        }
        command = [str(python), "-c", IMPORT]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return Start(**json.loads(done.stdout))

    with metadata_server.running() as variables:
        start(variables)
        return start(variables)


def packages(modules: list[str]) -> list[str]:
    """Return the packages that modules need; of Google's namespace, the package below it."""
    names_of_packages = set()
    for module in modules:
        names = module.split(".")
        if names[0] in sys.stdlib_module_names or names[0] in {"main", "functions", "cython_runtime"}:
            continue
        if names[0] == "google":
            names_of_packages.add(".".join(names[:3] if names[1:2] == ["cloud"] else names[:2]))
        elif not names[0].startswith("_"):  # a compiled part of another
            names_of_packages.add(names[0])
    return sorted(names_of_packages)


@pytest.mark.check
def test_a_cold_start_imports_no_client_library(cold_start: Start) -> None:
    heavy = [name for name in cold_start.imported if name in HEAVY]
    assert heavy == []


@pytest.mark.check
def test_a_cold_start_imports_few_packages(cold_start: Start) -> None:
    imported = packages(cold_start.imported)
    assert "google.auth" in imported
    assert len(imported) <= MAX_PACKAGES, imported


@pytest.mark.check
def test_the_work_of_the_imports_is_within_its_budget(cold_start: Start) -> None:
    assert cold_start.ratio < BUDGET
