"""The git checkout that commands run from, as the version of the code."""

import pathlib
import shlex
import shutil
import subprocess

import msgspec

from functions.settings import Settings
from sluice.package import ROOT

_DEFAULT = "unknown"


def commit() -> str | None:
    """Return the short hash of the commit, with `-dirty` if a file differs from it; None outside of a checkout."""
    program = shutil.which("git")
    if program is None or not (ROOT / ".git").exists():  # A folder of a checkout of something else has its commits.
        return None
    command = [program, "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)  # noqa: S603 - git from PATH
    return done.stdout.strip() or None


def command() -> str:
    """Return what to type for `sluice`: its name if a folder of the PATH has it, otherwise its path."""
    if shutil.which("sluice"):
        return "sluice"
    path = pathlib.Path(".venv", "bin", "sluice")
    return str(path) if pathlib.Path.cwd() == ROOT else shlex.quote(str(ROOT / path))


def with_commit(settings: Settings) -> Settings:
    """Return settings whose code version is the commit, where neither CODE_VERSION nor K_REVISION is set."""
    if settings.code_version == _DEFAULT and (version := commit()):
        return msgspec.structs.replace(settings, code_version=version)
    return settings
