"""The package has exactly what is deployed, and is the same wherever it is built."""

import hashlib
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile

import pytest

from sluice.package import ROOT, build, deployed_files
from tests.support import cloud_sdk


@pytest.fixture
def project(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the project, with the things that lie about in one."""
    copy = tmp_path / "project"
    for folder in ("docs", "functions", "jsonschemas", "sluice", "sql", "tests"):
        shutil.copytree(ROOT / folder, copy / folder)
    for file in (".gcloudignore", "README.md", "main.py", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / file, copy)
    for name in (
        ".env",
        ".git/config",
        ".venv/lib/site.py",
        "functions/__pycache__/log.cpython-313.pyc",
        "functions/events/notes.md",
        "jsonschemas/.order.v1.json.swp",
        "main.pyc",
        "sql/views/each/draft.txt",
        "terraform/main.tf",
    ):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).touch()
    return copy


def test_package_has_only_deployed_files(project: pathlib.Path, tmp_path: pathlib.Path) -> None:
    built = build(tmp_path / "sluice.zip", project)
    list_files = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    ours = subprocess.run(list_files, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    runs = ("functions/", "jsonschemas/", "sql/policy_tags.json", "sql/schema/", "sql/external/", "sql/views/")
    assert set(built.names) == {name for name in ours if name.startswith(runs)} | {"main.py", "requirements.txt"}
    with zipfile.ZipFile(built.file) as archive:
        assert archive.testzip() is None
        assert tuple(archive.namelist()) == built.names == tuple(sorted(built.names))
        for name in built.names:
            assert archive.read(name) == (ROOT / name).read_bytes()


def test_an_installation_has_every_package_of_the_project() -> None:
    """An editable installation finds packages that are not listed, a wheel lacks them."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    modules = [file for top in ("dataflow", "functions", "sluice") for file in (ROOT / top).rglob("*.py")]
    packages = {".".join(file.parent.relative_to(ROOT).parts) for file in modules}
    assert packages - set(setuptools["packages"]) == set()
    assert [name for name in setuptools["packages"] if not (ROOT / name.replace(".", "/")).is_dir()] == []


def test_the_same_files_make_the_same_bytes(project: pathlib.Path, tmp_path: pathlib.Path) -> None:
    first = build(tmp_path / "first.zip")
    for file in project.rglob("*"):
        os.utime(file, (2_000_000_000, 2_000_000_000))
        if file.is_file():
            file.chmod(stat.S_IRWXU)
    second = build(tmp_path / "folder" / "second.zip", project)
    assert first.file.read_bytes() == second.file.read_bytes()
    assert first.digest == second.digest == hashlib.sha256(second.file.read_bytes()).hexdigest()
    assert second.size == second.file.stat().st_size
    (project / "main.py").write_text("# another version\n")
    assert build(second.file, project).digest != first.digest


def test_no_entry_depends_on_the_machine(tmp_path: pathlib.Path) -> None:
    with zipfile.ZipFile(build(tmp_path / "sluice.zip").file) as archive:
        for entry in archive.infolist():
            assert (entry.date_time, entry.create_system, entry.external_attr >> 16) == (
                (1980, 1, 1, 0, 0, 0),
                3,
                0o100644,
            )
            assert (entry.compress_type, entry.extra, entry.comment) == (zipfile.ZIP_STORED, b"", b"")


def test_gcloud_uploads_the_same_files(project: pathlib.Path, tmp_path: pathlib.Path) -> None:
    listed = cloud_sdk.run("gcloud", "meta", "list-files-for-upload", str(project), home=tmp_path / "home")
    assert sorted(listed.splitlines()) == deployed_files(project) == deployed_files()


def sluice(*arguments: str, cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sluice.cli", "package", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(cwd)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_command_prints_the_digest_and_writes_the_file_of_terraform(project: pathlib.Path) -> None:
    done = sluice("--list", cwd=project)
    assert done.returncode == 0, done.stderr
    file = project / "dist" / "sluice.zip"
    assert f"sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}" in done.stderr
    assert done.stdout.splitlines() == deployed_files()
    assert [path.name for path in file.parent.iterdir()] == ["sluice.zip"]


def test_where_a_file_is_missing_nothing_is_written(project: pathlib.Path) -> None:
    (project / "requirements.txt").unlink()
    done = sluice(cwd=project)
    assert done.returncode == 1
    assert "no requirements.txt" in done.stderr
    assert not (project / "dist").exists()


@pytest.mark.parametrize(("variables", "is_valid"), [("as deployed", True), ("none", False)])
def test_bytecode_is_valid_in_an_image_with_times_of_1980(
    tmp_path: pathlib.Path, variables: str, is_valid: bool
) -> None:
    with zipfile.ZipFile(build(tmp_path / "sluice.zip").file) as archive:
        archive.extractall(tmp_path / "workspace")
    [epoch] = re.findall(r'SOURCE_DATE_EPOCH = "(\d+)"', (ROOT / "terraform" / "functions.tf").read_text())
    assert f"--set-build-env-vars=SOURCE_DATE_EPOCH={epoch}" in (ROOT / "docs" / "deploy-gcloud.md").read_text()
    environment = {"SOURCE_DATE_EPOCH": epoch} if variables == "as deployed" else {}
    workspace = tmp_path / "workspace"
    # https://github.com/GoogleCloudPlatform/buildpacks/blob/main/cmd/python/functions_framework/lib/lib.go
    compileall = [sys.executable, "-m", "compileall", "-f", "-q", "."]
    subprocess.run(compileall, cwd=workspace, env=environment, check=True)
    for file in workspace.rglob("*"):
        os.utime(file, (315532801, 315532801))
    verbose = [sys.executable, "-v", "-c", "import functions.ingest.retry"]
    log = subprocess.run(verbose, cwd=workspace, env={}, capture_output=True, text=True, check=True).stderr
    assert (f"matches {workspace}/functions/ingest/retry.py" in log) == is_valid
    assert ("bytecode is stale for 'functions.ingest.retry'" in log) != is_valid
