"""The version of the code where it runs from a git checkout."""

import pathlib
import subprocess

import pytest

from sluice import checkout
from tests.support.settings import settings


def git(folder: pathlib.Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    return subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_code_version_is_the_commit_and_says_if_a_file_differs(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    assert checkout.with_commit(settings()).code_version == "unknown", "no checkout"
    git(tmp_path, "init", "-q")
    assert checkout.with_commit(settings()).code_version == "unknown", "no commit"
    file = tmp_path / "main.py"
    file.write_text("1")
    git(tmp_path, "add", "main.py")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "tag", "-am", "release", "v1.0.0")
    short = git(tmp_path, "rev-parse", "--short", "HEAD").strip()
    assert checkout.with_commit(settings()).code_version == short
    file.write_text("2")
    assert checkout.with_commit(settings()).code_version == f"{short}-dirty"
    assert checkout.with_commit(settings(code_version="7")).code_version == "7"


def test_folder_in_another_checkout_has_no_commit(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "--allow-empty", "-qm", "of something else")
    (tmp_path / "inner").mkdir()
    monkeypatch.setattr(checkout, "ROOT", tmp_path / "inner")
    assert checkout.commit() is None


def test_a_command_to_type_works_in_any_folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / "my clone").mkdir()
    monkeypatch.chdir(tmp_path / "my clone")
    monkeypatch.setattr(checkout, "ROOT", tmp_path / "my clone")
    assert checkout.command() == ".venv/bin/sluice"
    monkeypatch.chdir(tmp_path)
    assert checkout.command() == f"'{tmp_path}/my clone/.venv/bin/sluice'"
