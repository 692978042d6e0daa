"""Apache Beam, in its own environment, against the emulators."""

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import msgspec

from tests.support.requires import missing

ROOT = pathlib.Path(__file__).parent.parent.parent
ENVIRONMENT = ROOT / ".venv" / "beam"
HOW_TO_GET = "Apache Beam is not installed: run `make beam`."


def python() -> pathlib.Path:
    """Return the interpreter that has Beam; without Beam, skip the test."""
    if not (ENVIRONMENT / "ready").exists():
        missing(HOW_TO_GET)
    return ENVIRONMENT / "bin" / "python"


def beam(
    module: str,
    arguments: Sequence[object],
    environment: Mapping[str, str],
    path: pathlib.Path = ROOT,
    folder: pathlib.Path | None = None,
) -> str:
    """Run a module with Beam, and return its standard output.

    Args:
        module: Name of the module.
        arguments: Its arguments.
        environment: Variables besides those of this process.
        path: Where it and what it imports are.
        folder: The working directory; by default `path`.
    """
    ended = subprocess.run(
        [python(), "-m", module, *map(str, arguments)],
        env={**os.environ, **environment, "PYTHONPATH": str(path)},
        cwd=folder or path,
        text=True,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-5_000:]
    return ended.stdout


class Scenarios:
    """A process with Beam that runs the functions of `beam_scenarios`, for it takes seconds to start one."""

    def __init__(self, process: subprocess.Popen[bytes], log: pathlib.Path) -> None:
        self._process = process
        self._log = log

    def __call__[Result](self, scenario: str, result: type[Result], /, **arguments: Any) -> Result:
        """Run a scenario, and return what it returns."""
        requests, answers = self._pipes()
        requests.write(msgspec.json.encode([scenario, arguments]) + b"\n")
        requests.flush()
        answer = answers.readline()
        assert answer, self._log.read_text()[-5_000:]
        return msgspec.json.decode(answer, type=result)

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._process.stdin
        assert self._process.stdout
        return self._process.stdin, self._process.stdout


@contextlib.contextmanager
def scenarios(folder: pathlib.Path, environment: Mapping[str, str]) -> Iterator[Scenarios]:
    """Run the process while the context lasts.

    Args:
        folder: Where the log is written.
        environment: Variables besides those of this process.
    """
    log = folder / "beam.log"
    # Workers cannot be sent what is in `__main__`.
    command = [str(python()), "-c", "from tests.support import beam_scenarios; beam_scenarios.serve()"]
    variables = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, env=variables, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
    with process:
        try:
            yield Scenarios(process, log)
        finally:
            process.kill()
