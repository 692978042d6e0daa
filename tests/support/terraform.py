"""Terraform, run on the configuration as it is."""

import json
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.requires import missing

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "terraform"
OFFLINE = ROOT.parent / "shared" / "tools" / "terraform-offline" / "check"
"""Serves the providers' schemas without network; comes with the developers' data."""

HOW_TO_GET = "there is no terraform on this machine: https://developer.hashicorp.com/terraform/install, 1.11 or later"

ENVIRONMENTS = ("dev", "prod")
"""Examples that are an environment each."""

RUNBOOK = "https://example.com/sluice/blob/main/docs/operate.md"
"""Address of the runbook in the plans."""

type Terraform = Callable[..., subprocess.CompletedProcess[str]]

type Planned = Mapping[str, Mapping[str, Any]]
"""Resources of a plan: the attributes of each by its address."""


def terraform(copy: pathlib.Path, root: str = ".", backend: str = "local") -> Terraform:
    """Runs Terraform with the offline providers, or else with those of the registry.

    Args:
        copy: An empty folder; nothing is written into the project's own.
        root: Folder of the root module, from `terraform/`: the module itself, or an example.
        backend: Type of the backend that `terraform init` is to have configured. It is not asked anything.
    """
    configured = json.dumps({"version": 3, "backend": {"type": backend}})
    pretended = ("sh", "-c", 'printf %s "$0" > .terraform/terraform.tfstate && exec terraform "$@"', configured)
    program = ("terraform",) if backend == "local" else pretended
    if shutil.which("terraform") is None:
        missing(HOW_TO_GET)
    if OFFLINE.exists():
        return lambda *command: _run("bash", str(OFFLINE), str(FOLDER / root), *program, *command)
    _copied(copy)
    folder = copy / "terraform" / root
    if (init := _run("terraform", "init", folder=folder)).returncode:
        missing(f"the providers cannot be had here: {init.stderr}")
    return lambda *command: _run(*program, *command, folder=folder)


def edited(copy: pathlib.Path, test: pathlib.Path, edit: tuple[str, str], **variables: str) -> Terraform:
    """Run Terraform on an edited copy of the module, with one test in the place of its own.

    Args:
        copy: A folder that is made.
        test: The test.
        edit: A text of the module, and what stands in its place.
        variables: Environment variables.
    """
    if shutil.which("terraform") is None:
        missing(HOW_TO_GET)
    _copied(copy)
    folder = copy / "terraform"
    for file in folder.glob("*.tf"):
        file.write_text(file.read_text().replace(*edit))
    shutil.rmtree(folder / "tests")
    (folder / "tests").mkdir()
    shutil.copy(test, folder / "tests")
    if OFFLINE.exists():
        subprocess.run(["git", "init", "--quiet", copy], check=True)  # The script looks for the project's folder so.
        return lambda *command: _run("bash", str(OFFLINE), str(folder), "terraform", *command, variables=variables)
    if (init := _run("terraform", "init", folder=folder)).returncode:
        missing(f"the providers cannot be had here: {init.stderr}")
    return lambda *command: _run("terraform", *command, folder=folder, variables=variables)


def arguments(example: str) -> dict[str, str]:
    """Return what an example passes to the module when only its own required variables are given.

    Args:
        example: Folder below `terraform/examples`.

    Returns:
        The expressions, with defaults in the places of the example's variables, by the name of the module's variable.
    """
    folder = FOLDER / "examples" / example
    declared = re.findall(
        r'^variable "(\w+)" \{\n(.*?)^\}', (folder / "variables.tf").read_text(), re.MULTILINE | re.DOTALL
    )
    defaults = {
        name: default for name, body in declared for default in re.findall(r'^  default += (".+")$', body, re.MULTILINE)
    }
    [body] = re.findall(r'^module "sluice" \{\n(.*?)^\}', (folder / "main.tf").read_text(), re.MULTILINE | re.DOTALL)
    passed = dict(re.findall(r"^  (\w+) += (.+)$", body, re.MULTILINE))
    del passed["source"], passed["package"]
    expressions = {
        name: re.sub(r"\bvar\.(\w+)", lambda used: defaults.get(used[1], used[0]), value)
        for name, value in passed.items()
    }
    return {name: value for name, value in expressions.items() if "var." not in value}


def environment(name: str, *options: str) -> list[str]:
    """Return the command that runs the module's tests with the arguments of an example."""
    variables = [f"-var={variable}={value.strip('"')}" for variable, value in arguments(name).items()]
    directory = ["-test-directory=tests/examples", f"-filter=tests/examples/{name}.tftest.hcl"]
    return ["test", "-no-color", *directory, *variables, *options]


def planned(terraform: Terraform, name: str, *options: str) -> Planned:
    """The plan of an environment, from its test."""
    lines = map(json.loads, succeeded(terraform(*environment(name, "-json", "-verbose", *options))).splitlines())
    [plan] = [line["test_plan"] for line in lines if line["type"] == "test_plan"]
    return {change["address"]: change["change"]["after"] for change in plan["resource_changes"]}


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    """Return the output of a command, which must have succeeded."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def passed(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether tests of Terraform's own ran, and all of them passed."""
    return bool(re.search(r"Success! [1-9]\d* passed, 0 failed", succeeded(done)))


def _copied(copy: pathlib.Path) -> None:
    """Copy the module with what it reads."""
    for name in ("terraform", "sql", "dataflow"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns(".terraform*", "backend.tf"))


def _run(
    *command: str, folder: pathlib.Path = ROOT, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    # The state of no test lies anywhere.
    environment = {**os.environ, "TF_CLI_ARGS_init": "-backend=false", **(variables or {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)
