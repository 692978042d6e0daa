"""dataflow/Dockerfile and the Flex Template's metadata, as far as they can be checked without a registry of images."""

import json
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Mapping

import msgspec
import pytest

from functions.settings import Settings
from tests.support import cloud_sdk
from tests.support.beam_process import ENVIRONMENT, HOW_TO_GET, ROOT
from tests.support.configuration import configuration
from tests.support.requires import missing

DOCKERFILE = (ROOT / "dataflow" / "Dockerfile").read_text()
METADATA = ROOT / "dataflow" / "metadata.json"
LOCK = (ROOT / "requirements-beam.txt").read_text()

WORKDIR = "/template"

COPIED = re.findall(r"^COPY ([^-\s]\S*) (\S+)$", DOCKERFILE, re.MULTILINE)
"""Paths of this project that are copied, with their targets."""


def beam(*arguments: str, folder: pathlib.Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Beam's Python in a folder, with no variables but these."""
    if not (ENVIRONMENT / "ready").exists():
        missing(HOW_TO_GET)
    return subprocess.run(
        [ENVIRONMENT / "bin" / "python", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(folder)} | variables,
        cwd=folder,
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.fixture
def image(tmp_path: pathlib.Path) -> tuple[pathlib.Path, Mapping[str, str]]:
    """The working directory of the image, and its variables with this folder in the place of its own."""
    for source, target in COPIED:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, tmp_path / target)
    [given] = re.findall(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    variables = dict(assignment.split("=", 1) for assignment in given.replace("\\\n", " ").split())
    return tmp_path, {name: value.replace(WORKDIR, str(tmp_path)) for name, value in variables.items()}


def test_the_image_has_the_versions_of_the_lock() -> None:
    [beam_version] = re.findall(r"^apache-beam(?:\[\w+\])?==(\S+)", LOCK, re.MULTILINE)
    python = (ROOT / ".python-version").read_text().strip()
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert images[0] == f"apache/beam_python{python}_sdk:{beam_version}"
    assert images[1].startswith(
        f"gcr.io/dataflow-templates-base/python{python.replace('.', '')}-template-launcher-base:"
    )
    assert re.fullmatch(rf"python:{python}\.\d+-slim-\w+", images[2])
    assert not any(name.endswith(":latest") for name in images)


def test_packages_are_installed_by_their_hashes_and_fit_together() -> None:
    [command] = re.findall(r"^RUN (pip install (?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    assert "--require-hashes" in command
    assert "--requirement requirements-beam.txt" in command
    assert command.endswith("&& pip check")


def test_copied_sources_exist_and_are_not_ignored() -> None:
    sources = {source for source, _ in COPIED}
    assert sources == {"requirements-beam.txt", "jsonschemas", "functions", "dataflow"}
    assert [source for source in sources if not (ROOT / source).exists()] == []
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert {rule.removeprefix("!/") for rule in rules if rule.startswith("!")} == sources
    assert "/*" in rules


def test_the_functions_package_has_nothing_of_dataflow() -> None:
    assert "dataflow" not in (ROOT / ".gcloudignore").read_text()


@pytest.mark.check
def test_copied_sources_suffice_to_launch_the_pipeline(image: tuple[pathlib.Path, Mapping[str, str]]) -> None:
    """The launcher runs the file; a graph needs all that workers import."""
    folder, variables = image
    options = ("--runner=BundleBasedDirectRunner", "--archive_bucket=abc")
    launched = beam(variables["FLEX_TEMPLATE_PYTHON_PY_FILE"], *options, folder=folder, **variables)
    assert "Nothing was done: options: give one of --input_subscription" in launched.stderr
    script = f"""
import sys
from dataflow import write
from dataflow.pipeline import build
from functions.core.contracts import Contracts

options = {[*options, "--input_subscription=projects/my-project/subscriptions/events"]}
pipeline = build(options)
proto = pipeline.to_runner_api()
own = [sys.modules[name].__file__ for name in sys.modules if name.partition(".")[0] in ("dataflow", "functions")]
assert all(file.startswith({str(folder)!r}) for file in own), own
print(len(proto.components.transforms), sorted(Contracts.load().event_types))
"""
    built = beam("-c", script, folder=folder, **variables)
    assert built.returncode == 0, built.stderr
    transforms, types = built.stdout.split(maxsplit=1)
    assert int(transforms) > 5
    assert "order" in types


@pytest.mark.check
def test_no_file_of_the_package_shadows_a_standard_module(image: tuple[pathlib.Path, Mapping[str, str]]) -> None:
    """A file that is run has its folder in the path, and dataflow/secrets.py is there."""
    folder, variables = image
    (folder / "dataflow" / "probe.py").write_text("import secrets; print(secrets.token_hex(2))")
    assert beam(f"{folder}/dataflow/probe.py", folder=folder, **variables).returncode == 0


@pytest.mark.check
def test_the_metadata_has_the_options_of_the_pipeline() -> None:
    """Written again by UPDATE_DOCS=1."""
    made = beam("-m", "tools.flex_template", folder=ROOT)
    assert made.returncode == 0, made.stderr
    if "UPDATE_DOCS" in os.environ:
        METADATA.write_text(made.stdout)
    assert METADATA.read_text() == made.stdout, f"run UPDATE_DOCS=1 .venv/bin/pytest {pathlib.Path(__file__).name}"


PARAMETERS = {parameter["name"]: parameter for parameter in json.loads(METADATA.read_text())["parameters"]}


def test_only_parameters_without_a_default_are_required() -> None:
    assert [name for name, parameter in PARAMETERS.items() if not parameter["isOptional"]] == ["archive_bucket"]


@pytest.mark.parametrize("name", [field.name for field in msgspec.structs.fields(Settings) if field.name in PARAMETERS])
def test_default_of_a_setting_matches_its_pattern(name: str) -> None:
    default = getattr(Settings(archive_bucket="any"), name)
    if default is not None:
        [regex] = PARAMETERS[name]["regexes"]
        assert re.fullmatch(regex, str(default))


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("input_subscription", "projects/p/subscriptions/s", True),
        ("input_subscription", "s", False),
        ("ip_policy", "hash", True),
        ("ip_policy", "encrypt", False),
        ("ip_hash_key_secret", "projects/p/secrets/s/versions/1", True),
        ("ip_hash_key_secret", "0123456789abcdef", False),
        ("linger", "0.5", True),
        ("linger", "a while", False),
        ("batch_rows", "500", True),
        ("batch_rows", "5.5", False),
        ("dataset", "events", True),
        ("dataset", "my-project:events", False),
    ],
)
def test_dataflow_and_the_pipeline_reject_the_same_values(name: str, value: str, taken: bool) -> None:
    assert any(re.fullmatch(regex, value) for regex in PARAMETERS[name]["regexes"]) is taken


def test_terraform_sets_only_existing_parameters() -> None:
    given = set(re.findall(r"[{,] ?(\w+) = ", configuration().local_values["dataflow_parameters"]))
    assert "input_subscription" in given
    assert given <= PARAMETERS.keys()


@pytest.mark.check
def test_gcloud_writes_the_template_that_terraform_does(tmp_path: pathlib.Path) -> None:
    build = ("dataflow", "flex-template", "build", "gs://bucket/template.json", "--sdk-language=PYTHON")
    options = ("--image=us-docker.pkg.dev/p/r/i:1", f"--metadata-file={METADATA}", "--print-only", "--project=p")
    printed = cloud_sdk.run("gcloud", *build, *options, "--format=json", home=tmp_path)
    template = json.loads(json.loads(printed) if printed.startswith('"') else printed)
    assert template.keys() - {"defaultEnvironment"} == {"image", "sdkInfo", "metadata"}
    assert template["sdkInfo"] == {"language": "PYTHON"}
    assert [parameter["name"] for parameter in template["metadata"]["parameters"]] == list(PARAMETERS)
