"""The functions, served by functions-framework as in Cloud Functions."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Mapping

import httpx

from ops.stack.process import Child, free_port, running

SOURCE = pathlib.Path(__file__).parent.parent.parent / "main.py"


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """A served function.

    Attributes:
        url: Where it answers.
        child: Its process; gunicorn's master, with one worker below it.
    """

    url: str
    child: Child


@contextlib.contextmanager
def serving(  # noqa: PLR0913 - seven facts about one process
    target: str,
    folder: pathlib.Path,
    environment: Mapping[str, str],
    name: str,
    *,
    port: int = 0,
    source: pathlib.Path = SOURCE,
    python: str = sys.executable,
) -> Iterator[Function]:
    """Serve a function of `main.py` while the context lasts.

    Args:
        target: `ingest`, `bootstrap` or `reconcile`.
        folder: Where its log is written.
        environment: Settings and emulators.
        name: Of its log.
        port: Where it listens; 0 for any free port.
        source: The `main.py`; what it imports lies beside it.
        python: The interpreter that has the deployed packages.
    """
    port = port or free_port()
    command = [python, "-m", "functions_framework", "--target", target, "--source", str(source)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    beside = {"PYTHONPATH": str(source.parent), "PYTHONSAFEPATH": "1"}
    with running(name, command, folder, {**environment, **beside}) as child:
        # The framework itself answers this path, once the function is loaded.
        child.wait_until(lambda: httpx.get(f"{url}/robots.txt").status_code == httpx.codes.NOT_FOUND)
        yield Function(url, child)
