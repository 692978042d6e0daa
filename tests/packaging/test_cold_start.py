"""A cold start of `ingest` imports few packages and no client library, within a multiple of the framework's time.

Which of the project's modules it imports is a rule of import-linter: `[tool.importlinter]` in pyproject.toml.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from sluice.package import ROOT, deployed_files
from tests.support import metadata_server

UV = str(pathlib.Path(sys.executable).with_name("uv"))

HEAVY = {"google.api_core", "google.cloud", "grpc", "jsonschema", "pydantic", "sqlglot", "yaml"}
"""Packages that take longer to import than all of `ingest`, or would come with a client library."""

MAX_PACKAGES = 17
"""Maximum number of packages that `main` imports in addition to those of the framework."""

BUDGET = 1.6
"""Maximum time to import the functions, in multiples of the framework's import time. Measured: 1.3, of which nearly
half is google-auth's credentials of a Compute Engine."""

STARTS = 9

IMPORT = """
import json, sys, time
started = time.process_time()
import functions_framework
framework = time.process_time() - started
before = set(sys.modules)
started = time.process_time()
import main
own = time.process_time() - started
print(json.dumps({"ratio": own / framework, "imported": sorted(set(sys.modules) - before)}))
"""


class Start(NamedTuple):
    """A start in an environment of what is deployed, with credentials as in Google Cloud.

    Attributes:
        ratio: CPU time to import `main`, by that to import `functions_framework`: what else the machine does, and how
            soon the metadata server answers, is no part of it.
        imported: Modules that `main` imports and the framework does not.
    """

    ratio: float
    imported: list[str]


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Start]]:
    """Several starts, each in a process of its own, with bytecode."""
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
        yield [start(variables) for _ in range(STARTS)]


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
def test_a_cold_start_imports_no_client_library(starts: list[Start]) -> None:
    heavy = [name for name in starts[0].imported if name in HEAVY]
    assert heavy == []


@pytest.mark.check
def test_a_cold_start_imports_few_packages(starts: list[Start]) -> None:
    imported = packages(starts[0].imported)
    assert "google.auth" in imported
    assert len(imported) <= MAX_PACKAGES, imported


@pytest.mark.check
def test_the_time_of_the_imports_is_within_its_budget(starts: list[Start]) -> None:
    ratio = statistics.median(start.ratio for start in starts)
    assert ratio < BUDGET, f"{ratio:.2f} times as long as functions_framework"
