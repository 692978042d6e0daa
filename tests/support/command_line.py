"""Commands of `sluice` in this process: in a process of its own, each spends two seconds of CPU on imports."""

import subprocess
from collections.abc import Mapping, Sequence

import pytest
from typer.testing import CliRunner

from sluice.cli import app


def sluice(arguments: Sequence[object], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command, and return what a process of it would.

    Args:
        arguments: Command, options and arguments.
        environment: Variables besides those of this process.
    """
    with pytest.MonkeyPatch.context() as patch:
        # Consoles that are made at import have no width of their own, and ask for COLUMNS at each line.
        for name, value in environment.items():
            patch.setenv(name, value)
        ended = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return subprocess.CompletedProcess([*map(str, arguments)], ended.exit_code, ended.stdout, ended.stderr)
