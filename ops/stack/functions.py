"""The functions, served by functions-framework as in Cloud Functions."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Mapping

import httpx

from ops.stack.process import Child, free_port, running

SOURCE = pathlib.Path(__file__).parent.parent.parent / "main.py"


def platform_environment(target: str, port: int) -> dict[str, str]:
    """Return the variables that the platform sets for a function, beside those that a deployment sets.

    Cloud Run's own: https://cloud.google.com/run/docs/container-contract#env-vars. Those of Cloud Functions:
    https://cloud.google.com/run/docs/configuring/services/environment-variables#additional_reserved_environment_variables_when_deploying_functions.
    `LOG_EXECUTION_ID` is set by `gcloud functions deploy`:
    https://cloud.google.com/functions/docs/configuring/env-var#runtime_environment_variables_set_automatically.

    Args:
        target: `ingest`, `bootstrap` or `reconcile`.
        port: Where it has to listen.
    """
    return {
        "FUNCTION_TARGET": target,
        "FUNCTION_SIGNATURE_TYPE": "http",
        "PORT": str(port),
        "K_SERVICE": f"sluice-local-{target}",
        "K_REVISION": f"sluice-local-{target}-00001-loc",
        "K_CONFIGURATION": f"sluice-local-{target}",
        "LOG_EXECUTION_ID": "true",
    }


def served_environment(target: str, port: int, source: pathlib.Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which functions-framework serves a function on this machine.

    Args:
        target: `ingest`, `bootstrap` or `reconcile`.
        port: Where it listens.
        source: The `main.py`; what it imports lies beside it.
        environment: Settings and emulators; they win over the platform's own variables.
    """
    return {
        **platform_environment(target, port),
        "HOST": "127.0.0.1",  # on the platform all interfaces of the container
        "FUNCTION_SOURCE": str(source),  # there main.py in the working directory
        "PYTHONPATH": str(source.parent),
        "PYTHONSAFEPATH": "1",
        **environment,
    }


def framework(python: str) -> str:
    """Return the console script `functions-framework` of an interpreter's environment, as the platform runs it."""
    return str(pathlib.Path(python).with_name("functions-framework"))


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
    url = f"http://127.0.0.1:{port}"
    variables = served_environment(target, port, source, environment)
    with running(name, [framework(python)], folder, variables) as child:
        # The framework itself answers this path, once the function is loaded.
        child.wait_until(lambda: httpx.get(f"{url}/robots.txt").status_code == httpx.codes.NOT_FOUND)
        yield Function(url, child)
