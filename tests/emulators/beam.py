"""Apache Beam, in its own environment, against the emulators."""

import os
import pathlib
import subprocess
from collections.abc import Mapping, Sequence

from tests.missing import missing

ROOT = pathlib.Path(__file__).parent.parent.parent
ENVIRONMENT = ROOT / ".venv" / "beam"
HOW_TO_GET = "Apache Beam is not installed: run `make beam`."


def beam(module: str, arguments: Sequence[object], environment: Mapping[str, str], path: pathlib.Path = ROOT) -> str:
    """Run a module with Beam, and return its standard output.

    Args:
        module: Name of the module.
        arguments: Its arguments.
        environment: Variables besides those of this process.
        path: Where it and what it imports are; also the working directory.
    """
    if not (ENVIRONMENT / "ready").exists():
        missing(HOW_TO_GET)
    ended = subprocess.run(
        [ENVIRONMENT / "bin" / "python", "-m", module, *map(str, arguments)],
        env={**os.environ, **environment, "PYTHONPATH": str(path)},
        cwd=path,
        text=True,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-5_000:]
    return ended.stdout
