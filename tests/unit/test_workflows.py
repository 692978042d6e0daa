"""The workflows of GitHub: valid, pinned, without keys, with no more permissions than each job needs."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from sluice.cli import app
from tests.support import cloud_sdk
from tests.support.configuration import configuration
from tests.support.deploy_script import deploy
from tools.audit import REQUIRED

pytestmark = pytest.mark.check

ROOT = pathlib.Path(__file__).parents[2]
GITHUB = ROOT / ".github"
FILES = sorted((GITHUB / "workflows").glob("*.yml"))

PERMISSIONS = {
    ("ci", "check"): {"contents": "read"},
    ("ci", "audit"): {"contents": "read"},
    ("nightly", "mutation"): {"contents": "read"},
    ("nightly", "simulation"): {"contents": "read"},
    ("release", "check"): {"contents": "read"},
    ("release", "build"): {"contents": "read"},
    ("release", "publish"): {"contents": "write", "id-token": "write", "attestations": "write"},
    ("release", "dev"): {"contents": "read", "id-token": "write", "attestations": "read"},
    ("release", "prod"): {"contents": "read", "id-token": "write", "attestations": "read"},
    ("deploy", "deploy"): {"contents": "read", "id-token": "write", "attestations": "read"},
}
"""Each job and its permissions. Only what runs nothing but GitHub's own programs may write."""


def workflow(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((GITHUB / "workflows" / f"{name}.yml").read_text())
    return loaded


def jobs() -> Iterator[tuple[tuple[str, str], dict[str, Any], dict[str, Any]]]:
    """Workflow and name of each job, the job, and its workflow."""
    for file in FILES:
        loaded = workflow(file.stem)
        for name, job in loaded["jobs"].items():
            yield (file.stem, name), job, loaded


def steps(name: str, job: str) -> list[dict[str, Any]]:
    found_steps: list[dict[str, Any]] = workflow(name)["jobs"][job]["steps"]
    return found_steps


def test_a_job_has_the_permissions_that_it_needs() -> None:
    assert {key: job.get("permissions", loaded["permissions"]) for key, job, loaded in jobs()} == PERMISSIONS


def test_every_job_ends_and_every_workflow_runs_once() -> None:
    for _, job, loaded in jobs():
        assert "uses" in job or 0 < job["timeout-minutes"] <= (180 if loaded["name"] == "nightly" else 60)
        assert loaded["concurrency"]["group"]


def test_no_workflow_has_a_key_or_a_secret() -> None:
    text = "\n".join(file.read_text() for file in FILES)
    assert re.findall(r"secrets\b|credentials_json|service_account_key", text) == []


def test_every_action_is_pinned_to_a_commit() -> None:
    """It is the same commit everywhere; the comment is its release."""
    text = "\n".join(file.read_text() for file in FILES)
    uses = re.findall(r"uses: (?!\./)(.+)", text)
    assert len(uses) > 10
    assert [action for action in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)] == []
    assert len({action.partition("@")[0] for action in uses}) == len(set(uses))


def test_every_command_of_a_workflow_exists() -> None:
    targets = set(re.findall(r"^([./a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [step["run"] for _, job, _ in jobs() for step in job.get("steps", []) if "run" in step]
    assert {".ci/run", "make audit", "make sbom"} <= set(commands)
    for command in commands:
        program, *arguments = command.split()
        match program:
            case "make":
                assert arguments
                assert set(arguments) <= targets, command
            case ".venv/bin/sluice":
                assert CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0, command
            case "gh":
                assert arguments[:2] in (["release", "create"], ["release", "download"], ["attestation", "verify"])
            case _:
                assert os.access(ROOT / program, os.X_OK), command


def test_ci_has_our_python_and_all_commits() -> None:
    used = [step for _, job, _ in jobs() for step in job.get("steps", []) if "uses" in step]
    pythons = {step["with"]["python-version"] for step in used if "setup-python" in step["uses"]}
    assert pythons == {(ROOT / ".python-version").read_text().strip()}
    [checkout, *_] = [step for step in steps("ci", "check") if "checkout" in step.get("uses", "")]
    assert checkout["with"]["fetch-depth"] == 0
    assert steps("ci", "audit")[-1]["env"] == {REQUIRED: "1"}


def test_a_release_is_checked_built_once_and_deployed_in_order() -> None:
    release = workflow("release")["jobs"]
    assert {name: job.get("needs") for name, job in release.items()} == {
        "check": None,
        "build": "check",
        "publish": "build",
        "dev": "publish",
        "prod": "dev",
    }
    built = [step for _, job, _ in jobs() for step in job.get("steps", []) if step.get("run") == "make sbom"]
    assert len(built) == 1
    assert not any("setup-python" in step.get("uses", "") for step in steps("release", "publish")), (
        "it runs none of ours"
    )


def test_nothing_is_deployed_before_its_attestations_are_verified() -> None:
    done = steps("deploy", "deploy")
    commands = [step.get("run", step.get("uses", "")) for step in done]
    verified = [i for i, command in enumerate(commands) if command.startswith("gh attestation verify dist/sluice.zip ")]
    [credentials] = [i for i, command in enumerate(commands) if "google-github-actions/auth@" in command]
    assert max(verified) < credentials < commands.index(".ci/deploy dist/sluice.zip")
    provenance, materials = (commands[i] for i in verified)
    for command in (provenance, materials):
        assert '--repo "$GITHUB_REPOSITORY" --source-ref "$GITHUB_REF"' in command
        assert '--signer-workflow "$GITHUB_REPOSITORY/.github/workflows/release.yml"' in command
    assert "--predicate-type https://cyclonedx.org/bom" in materials
    assert commands[-1].startswith(".venv/bin/sluice smoke")


def test_a_deployment_reads_the_variables_that_terraform_gives() -> None:
    used = set(re.findall(r"\bvars\.(\w+)", (GITHUB / "workflows" / "deploy.yml").read_text()))
    output = configuration().outputs["github_variables"]["value"]
    assert used == set(re.findall(r"[{,] ?(\w+) = ", output))


def findings(folder: pathlib.Path) -> str:
    """Return the findings of GitHub's schemas and zizmor in a project's `.github/`; none if all is well."""
    done = subprocess.run(["make", "workflows"], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def test_github_and_zizmor_report_nothing_in_the_workflows() -> None:
    assert findings(ROOT) == ""


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("timeout-minutes: 45", "timeout-minuts: 45", "timeout-minuts"),
        ("actions/checkout@d23441a48e516b6c34aea4fa41551a30e30af803", "actions/checkout@v6", "unpinned-uses"),
        ("persist-credentials: false", "fetch-depth: 1", "artipacked"),
        ("--dir dist", '--dir "${{ inputs.environment }}"', "template-injection"),
    ],
)
def test_invalid_workflow_is_reported(tmp_path: pathlib.Path, right: str, wrong: str, said: str) -> None:
    for entry in ROOT.iterdir():
        if entry.name not in {".git", ".github"}:
            (tmp_path / entry.name).symlink_to(entry)
    shutil.copytree(GITHUB, tmp_path / ".github")
    file = tmp_path / ".github" / "workflows" / "deploy.yml"
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong))
    assert said in findings(tmp_path)


def test_the_tables_are_deployed_before_the_code_that_fills_them(tmp_path: pathlib.Path) -> None:
    code, calls = deploy(tmp_path)
    assert code == 0
    deployed = [
        call[2] if call[:2] == ["functions", "deploy"] else call[0] for call in calls if call[1:2] != ["describe"]
    ]
    assert deployed == [
        "storage",
        "storage",
        "sluice-dev-bootstrap",
        "auth",
        "curl",
        "sluice-dev-ingest",
        "sluice-dev-reconcile",
    ]


def test_drain_is_deployed_in_batch_mode_only(tmp_path: pathlib.Path) -> None:
    deployed = [
        [call[2] for call in deploy(tmp_path, INGEST_MODE=mode)[1] if call[:2] == ["functions", "deploy"]]
        for mode in ("push", "batch")
    ]
    assert "sluice-dev-drain" not in deployed[0]
    assert deployed[1][-1] == "sluice-dev-drain"


def test_compact_is_deployed_only_where_terraform_has_made_it(tmp_path: pathlib.Path) -> None:
    compacted = [
        [call[2] for call in deploy(tmp_path, ARCHIVE_COMPACT=value)[1] if call[:2] == ["functions", "deploy"]]
        for value in ("", "false", "true")
    ]
    assert ["sluice-dev-compact" in functions for functions in compacted] == [False, False, True]


def test_all_functions_are_deployed_from_one_object(tmp_path: pathlib.Path) -> None:
    """Named by its content, as Terraform names it; a plan compares the digest."""
    digest = hashlib.sha256(b"a package").hexdigest()
    _, calls = deploy(tmp_path)
    functions = (ROOT / "terraform" / "functions.tf").read_text()
    assert functions.count('"sluice-${local.package_digest}.zip"') == 2
    assert "SLUICE_PACKAGE = local.package_digest" in functions
    for call in calls:
        if call[:2] == ["functions", "deploy"]:
            assert f"--source=gs://packages/sluice-{digest}.zip" in call
            assert f"--update-build-env-vars=SLUICE_PACKAGE={digest}" in call
            assert not [
                argument for argument in call if re.match("--(set|service-account|runtime|memory|ingress)", argument)
            ], call


def test_rejected_change_of_the_tables_ends_the_deployment(tmp_path: pathlib.Path) -> None:
    code, calls = deploy(tmp_path, status=409)
    assert code == 1
    assert not [call for call in calls if "sluice-dev-ingest" in call]


def test_another_package_under_its_name_is_not_deployed(tmp_path: pathlib.Path) -> None:
    code, calls = deploy(tmp_path, stored=b"another package")
    assert code == 1
    assert not [call for call in calls if call[0] == "functions"]


@pytest.mark.parametrize(("latest", "warns"), [("True", False), ("False", True), ("", True)])
def test_a_deployment_that_no_event_reaches_is_said(tmp_path: pathlib.Path, latest: str, warns: bool) -> None:
    """A rollback pins the traffic: the older code would pass the smoke test of each later release."""
    code, _ = deploy(tmp_path, latest=latest)
    assert code == 0
    assert (b"::warning::" in (tmp_path / "said").read_bytes()) is warns


def test_gcloud_takes_every_command_of_a_deployment(tmp_path: pathlib.Path) -> None:
    _, calls = deploy(tmp_path)
    script = (ROOT / "terraform" / "run_bootstrap.sh").read_text()
    assert "gcloud scheduler jobs run" in script
    commands = [" ".join(["gcloud", *call]) for call in calls if call != ["curl"]]
    commands.append("gcloud scheduler jobs run sluice-dev-bootstrap --project=a-project --location=us-central1")
    commands.append("gcloud logging read --project=a-project --limit=100 --freshness=15m --order=asc severity=ERROR")
    assert cloud_sdk.rejected_commands(commands, tmp_path / "home") == []
