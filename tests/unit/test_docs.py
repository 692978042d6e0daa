"""The documentation does what it says."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from typing import cast

import msgspec
import pytest
from typer.testing import CliRunner

from functions.settings import Settings
from sluice import data_model
from sluice.cli import app
from sluice.verify.checks import CHECKS
from sluice.verify.load import Load
from sluice.verify.project import Project
from sluice.verify.under_load import Observer
from tests.support import cloud_sdk, deploy_guide, monitoring
from tests.support.beam_process import beam
from tests.support.docs import DOCS, ROOT, anchors, blocks
from tools import cli_reference, licences, terraform_reference

WITH_GCLOUD = {"operate.md", "scale.md"}
"""Pages whose commands of gcloud the Cloud SDK checks."""

SEND = """
from datetime import UTC, datetime
from functions.core.contracts import Contracts
from functions.core.message import Message
from functions.core.privacy import Privacy
from functions.core.pipeline import EventPipeline
import sys
process = EventPipeline(Contracts.load(), Privacy(), 90, "docs")
now = datetime(2026, 11, 23, 12, tzinfo=UTC)
row = process(Message(sys.stdin.buffer.read(), {}, "1", now), now)
print(row.table, row.columns["stars"], row.columns["is_positive"])
"""


def test_files_of_the_guide_are_a_valid_event_type(tmp_path: pathlib.Path) -> None:
    for folder in ("functions", "jsonschemas", "sluice", "sql"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    titled = {title: text for _, title, text in blocks(ROOT / "docs" / "add-an-event-type.md")}
    files = {title: text for title, text in titled.items() if "/" in title}
    assert len(files) == 3
    for title, text in files.items():
        (tmp_path / title).write_text(text)
    sent = subprocess.run(
        [sys.executable, "-c", SEND],
        cwd=tmp_path,
        input=titled["review.ndjson"].encode(),
        capture_output=True,
        check=False,
    )
    assert sent.stdout.decode() == "reviews 5 True\n", sent.stderr.decode()
    check = [sys.executable, "-m", "sluice.cli", "contract", "check"]
    checked = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def commands() -> list[tuple[str, str]]:
    """File and command of each line of shell."""
    return [
        (file.name, line.strip())
        for file in DOCS
        # Tests of their own run the commands of these: test_deploy_docs.py and the like.
        if file.stem
        not in {*deploy_guide.PAGES, "lost-region", "release", "test-your-producer", "tutorial", "your-own-client"}
        for language, _, text in blocks(file)
        if language == "sh"
        for line in text.splitlines()
        if line.strip() and not line.startswith("#")
    ]


@pytest.mark.parametrize(
    ("file", "command"),
    [pytest.param(*command, marks=[pytest.mark.check] * (command[0] != "README.md")) for command in commands()],
)
def test_every_documented_command_exists(file: str, command: str) -> None:
    command = re.sub(r'^eval "\$\((.*)\)"$', r"\1", command)
    program, *arguments = shlex.split(command.partition(" | ")[0], comments=True)
    match program:
        case "make":
            assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), file
        case ".venv/bin/sluice":
            parsed = CliRunner().invoke(app, [*arguments, "--help"])
            assert parsed.exit_code == 0, parsed.output
        case ".venv/bin/pytest":
            collected = subprocess.run(
                [sys.executable, "-m", "pytest", "--collect-only", *arguments],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert collected.returncode == 0, collected.stdout
        case ".venv/bin/python":
            helped = subprocess.run(
                [sys.executable, *arguments, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert helped.returncode == 0, helped.stderr
        case "bq" | "gcloud":
            assert file in WITH_GCLOUD, "its commands are checked below"
        case _:
            pytest.fail(f"{file}: no test knows {program}")


@pytest.mark.check
def test_gcloud_takes_every_command_of_the_runbook_and_of_the_alerts(tmp_path: pathlib.Path) -> None:
    page = [command for file, command in commands() if file in WITH_GCLOUD]
    typed = [*page, *(alert["type"] for alert in monitoring.alerts_of_engines())]
    gcloud_commands = {command for command in typed if command.startswith("gcloud ")}
    assert len(gcloud_commands) > 10
    assert cloud_sdk.rejected_commands(sorted(gcloud_commands), tmp_path) == []


@pytest.mark.check
def test_bq_has_every_flag_of_the_runbook(tmp_path: pathlib.Path) -> None:
    typed = [shlex.split(command)[1:] for file, command in commands() if command.startswith("bq ")]
    assert typed
    assert cloud_sdk.unknown_flags(typed, tmp_path) == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.name)
def test_every_link_leads_to_a_file_and_a_heading(file: pathlib.Path) -> None:
    for link in re.findall(r"\]\((?!https?://)([^)]+)\)", file.read_text()):
        name, _, anchor = link.partition("#")
        target = file.parent / name if name else file
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def settings_table() -> str:
    """The settings as Markdown, from the settings themselves."""
    definitions = msgspec.json.schema(Settings)["$defs"]
    lines = ["| variable | default | |", "|---|---|---|"]
    for name, schema in definitions["Settings"]["properties"].items():
        options = schema.get("anyOf", [schema])
        [description] = [option["description"] for option in options if "description" in option]
        choices = [f"`{choice}`" for option in options for choice in option.get("enum", [])]
        text = f"{description} One of {', '.join(choices)}." if choices else description
        default = (
            "required" if "default" not in schema else "" if schema["default"] is None else f"`{schema['default']}`"
        )
        lines.append(f"| `{name}` | {default} | {text} |")
    return "\n".join(lines) + "\n"


def test_the_table_of_settings_is_that_of_the_code() -> None:
    file = ROOT / "docs" / "settings.md"
    head, _, _ = file.read_text().partition("| variable")
    expected = head + settings_table()
    if "UPDATE_DOCS" in os.environ:
        file.write_text(expected)
    assert file.read_text() == expected, "run UPDATE_DOCS=1 make test"


def test_the_table_of_checks_of_a_deployment_is_that_of_the_code() -> None:
    file = ROOT / "docs" / "verify.md"
    head, _, _ = file.read_text().partition("| check |")
    table = ["| check | why only a real project shows it |", "|---|---|"]
    expected = head + "\n".join([*table, *(f"| {check.title} | {check.why} |" for check in CHECKS)]) + "\n"
    if "UPDATE_DOCS" in os.environ:
        file.write_text(expected)
    assert file.read_text() == expected, "run UPDATE_DOCS=1 make test"


def _with_rows(page: str, head: str, rows: list[str]) -> str:
    """Return a page with these rows below the head of a table."""
    before, _, after = page.partition(head)
    rest = re.sub(r"\A(\|.*\n)*", "", after)
    return before + head + "".join(f"{row}\n" for row in rows) + rest


class _NoJob:
    """A deployment without Dataflow, at which the checks under load have nothing to look."""

    engine = "functions"


def test_the_table_of_checks_under_load_is_that_of_the_code() -> None:
    file = ROOT / "docs" / "dataflow.md"
    checks = Observer(cast("Project", _NoJob())).checks(cast("Load", None))
    head = "| check | why only a real project shows it |\n|---|---|\n"
    expected = _with_rows(file.read_text(), head, [f"| {check.title} | {check.why} |" for check in checks])
    if "UPDATE_DOCS" in os.environ:
        file.write_text(expected)
    assert file.read_text() == expected, "run UPDATE_DOCS=1 make test"


@pytest.mark.check
def test_the_table_of_the_pipelines_options_is_that_of_the_code() -> None:
    file = ROOT / "docs" / "dataflow.md"
    rows = beam("tests.support.beam_options", [], {}).splitlines()
    assert any("--input_subscription" in row for row in rows)
    expected = _with_rows(file.read_text(), "| option | |\n|---|---|\n", rows)
    if "UPDATE_DOCS" in os.environ:
        file.write_text(expected)
    assert file.read_text() == expected, "run UPDATE_DOCS=1 make check"


def test_the_page_of_the_data_model_is_that_of_the_sql() -> None:
    expected = data_model.update()
    if "UPDATE_DOCS" in os.environ:
        data_model.FILE.write_text(expected)
    assert data_model.FILE.read_text() == expected, "run UPDATE_DOCS=1 make test"


def test_the_page_of_the_licences_is_that_of_the_packages() -> None:
    expected = licences.page()
    if "UPDATE_DOCS" in os.environ:
        licences.FILE.write_text(expected)
    assert licences.FILE.read_text() == expected, "run UPDATE_DOCS=1 make test"


def test_terraform_page_has_all_variables_and_outputs() -> None:
    expected = terraform_reference.update()
    if "UPDATE_DOCS" in os.environ:
        terraform_reference.FILE.write_text(expected)
    assert terraform_reference.FILE.read_text() == expected, "run UPDATE_DOCS=1 make test"
    variables = {block.name: block for block in terraform_reference.read("variable", ROOT / "terraform")}
    assert expected.count("\n| `") == len(variables) + len([*terraform_reference.read("output", ROOT / "terraform")])
    assert variables["region"].description.startswith("Region of the functions, the datasets")
    assert '| `ingest` | `object({ mode = "push", concurrency = 250, cpu = 1, memory = "512Mi",' in expected
    assert "IAM members (user:, group:, serviceAccount:) by what they may do. <br>`publishers`: publish" in expected


def test_the_page_of_the_commands_is_their_help() -> None:
    expected = cli_reference.update()
    if "UPDATE_DOCS" in os.environ:
        cli_reference.FILE.write_text(expected)
    assert cli_reference.FILE.read_text() == expected, "run UPDATE_DOCS=1 make test"
    assert str(ROOT) not in expected, "the page is the same in every clone"
    assert {"### sluice demo", "### sluice contract check", "### sluice dead-letters replay"} <= set(
        expected.splitlines()
    )


def test_the_page_of_the_data_model_says_who_uses_each_table_and_view() -> None:
    head, _, generated = data_model.FILE.read_text().partition(data_model.MARK)
    used = set(re.findall(r"`(\w+)`", head.partition("| who")[2]))
    assert set(re.findall(r"^### (\w+)$", generated, re.MULTILINE)) - used == set()
