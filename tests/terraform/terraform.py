"""Terraform, run on the configuration as it is."""

import json
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from tests.missing import missing

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "terraform"
OFFLINE = ROOT.parent / "shared" / "tools" / "terraform-offline" / "check"
"""Serves the providers' schemas without network; comes with the developers' data."""

HOW_TO_GET = "there is no terraform on this machine: https://developer.hashicorp.com/terraform/install, 1.11 or later"

RUNBOOK = "https://example.com/sluice/blob/main/docs/operate.md"
"""That of the plans."""

type Terraform = Callable[..., subprocess.CompletedProcess[str]]

type Planned = Mapping[str, Mapping[str, Any]]
"""What a plan would make: the attributes of each resource by its address."""


def terraform(copy: pathlib.Path) -> Terraform:
    """Runs Terraform with the offline providers, or else with those of the registry.

    Args:
        copy: An empty folder; nothing is written into the project's own.
    """
    if shutil.which("terraform") is None:
        missing(HOW_TO_GET)
    if OFFLINE.exists():
        return lambda *command: _run("bash", str(OFFLINE), str(FOLDER), "terraform", *command)
    for name in ("terraform", "sql"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns(".terraform*", "backend.tf"))
    inside = ("terraform", f"-chdir={copy / 'terraform'}")
    if (init := _run(*inside, "init", "-backend=false")).returncode:
        missing(f"the providers cannot be had here: {init.stderr}")
    return lambda *command: _run(*inside, *command)


def environment(name: str, *options: str) -> list[str]:
    """The command that runs the tests of an environment with its own variable file."""
    files = [f"-filter=environments/{name}.tftest.hcl", f"-var-file=environments/{name}.tfvars"]
    return ["test", "-no-color", "-test-directory=environments", *files, *options]


def planned(terraform: Terraform, name: str, *options: str) -> Planned:
    """The plan of an environment, from its test."""
    lines = map(json.loads, succeeded(terraform(*environment(name, "-json", "-verbose", *options))).splitlines())
    [plan] = [line["test_plan"] for line in lines if line["type"] == "test_plan"]
    return {change["address"]: change["change"]["after"] for change in plan["resource_changes"]}


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    """What a command printed, which has to end well."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def passed(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether tests of Terraform's own ran, and all of them passed."""
    return bool(re.search(r"Success! [1-9]\d* passed, 0 failed", succeeded(done)))


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
