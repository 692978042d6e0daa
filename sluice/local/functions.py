"""The functions, served by functions-framework as in Cloud Functions.

The platform unpacks the zip, compiles it, and starts the console script `functions-framework` in its folder:
https://github.com/GoogleCloudPlatform/buildpacks/blob/main/cmd/python/functions_framework/lib/lib.go. This module
does the same with the zip of `sluice package`: the variables are the platform's own and those of a deployment, the
deployed memory is the limit, and the function cannot write its code.

What differs: the interpreter has the packages of the development, too, the deployed ones in the same versions;
`CODE_VERSION` is the commit of the checkout, where a deployment has a revision; `HOST` keeps the function from the
network; `PATH` and `HOME` are this machine's; `SLUICE_SESSION` marks what a session has started; `XDG_RUNTIME_DIR`
keeps gunicorn's control socket out of `HOME`; and emulators have variables of their own.
"""

import compileall
import contextlib
import dataclasses
import pathlib
import py_compile
import sys
import tempfile
from collections.abc import Iterator, Mapping

import httpx
import msgspec

from functions.settings import Settings
from sluice.checkout import commit
from sluice.local.confinement import confined, read_only
from sluice.local.process import Child, free_port, loopback, running
from sluice.package import ROOT, unpack

MEMORY = {
    "ingest": 512 * 2**20,
    "drain": 512 * 2**20,
    "bootstrap": 512 * 2**20,
    "reconcile": 2048 * 2**20,
    "compact": 1024 * 2**20,
}
"""Bytes of memory that each function is deployed with. What it writes into files counts:
https://cloud.google.com/run/docs/configuring/services/memory-limits."""

SECRETS: Mapping[str, frozenset[str]] = {
    "ingest": frozenset({"IP_HASH_KEY"}),
    "drain": frozenset({"IP_HASH_KEY"}),
    "bootstrap": frozenset(),
    "reconcile": frozenset(),
    "compact": frozenset(),
}
"""Settings that are secrets, by the function that reads them; no other function is given them.

All other settings are the same for all functions. So no function can take the default of a setting that the deployment
has changed, and a wrong value stops the bootstrap, which is deployed before `ingest`.
"""

LOCAL = {"HOST": "127.0.0.1"}
"""Variables of the framework that differ on this machine: the platform's container listens on all interfaces."""


def platform_environment(target: str, port: int) -> dict[str, str]:
    """Return the variables that the platform sets for a function, beside those that a deployment sets.

    - `FUNCTION_TARGET`, `FUNCTION_SIGNATURE_TYPE`: the build writes them into the image,
      https://cloud.google.com/run/docs/configuring/services/environment-variables#additional_reserved_environment_variables_when_deploying_functions.
    - `PORT`, `K_SERVICE`, `K_REVISION`, `K_CONFIGURATION`: https://cloud.google.com/run/docs/container-contract#env-vars.
    - `LOG_EXECUTION_ID`: set by the deployment itself,
      https://cloud.google.com/functions/docs/configuring/env-var#runtime_environment_variables_set_automatically.
    - `PYTHONUNBUFFERED`: https://github.com/GoogleCloudPlatform/buildpacks/blob/main/cmd/python/runtime/lib/lib.go.

    Args:
        target: `ingest`, `drain`, `bootstrap`, `reconcile` or `compact`.
        port: The port that it has to listen on.
    """
    return {
        "FUNCTION_TARGET": target,
        "FUNCTION_SIGNATURE_TYPE": "http",  # `cloudevent` with `gcloud functions deploy --trigger-topic`
        "PORT": str(port),
        "K_SERVICE": f"sluice-local-{target}",
        "K_REVISION": f"sluice-local-{target}-00001-loc",
        "K_CONFIGURATION": f"sluice-local-{target}",
        "LOG_EXECUTION_ID": "true",
        "PYTHONUNBUFFERED": "TRUE",
    }


def deployed_settings(target: str, settings: Settings) -> dict[str, str]:
    """Return the variables that a deployment sets for a function: all settings, and the secrets that it reads.

    `CODE_VERSION` is none of them: it is the platform's `K_REVISION`.
    """
    values = {name.upper(): value for name, value in msgspec.structs.asdict(settings).items() if value is not None}
    absent = {"CODE_VERSION"} | _others_secrets(target)
    return {name: str(value) for name, value in values.items() if name not in absent}


def _others_secrets(target: str) -> frozenset[str]:
    return frozenset[str]().union(*SECRETS.values()) - SECRETS[target]


def served_environment(target: str, port: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which functions-framework serves a function on this machine.

    Args:
        target: `ingest`, `drain`, `bootstrap`, `reconcile` or `compact`.
        port: The port that it listens on.
        environment: Settings, the others having their defaults, and emulators. They win over the platform's variables.
    """
    settings = deployed_settings(target, Settings.from_environment(environment))
    given = {name: value for name, value in environment.items() if name not in _others_secrets(target)}
    return {**platform_environment(target, port), **LOCAL, **settings, **given}


def unpacked(folder: pathlib.Path, root: pathlib.Path = ROOT) -> pathlib.Path:
    """Build the zip, unpack it and compile its files, and return the folder.

    Bytecode is valid by its source's hash, as deployments ask for by `SOURCE_DATE_EPOCH`.

    Args:
        folder: The folder for its files.
        root: The project's folder.
    """
    unpack(folder, root)
    compileall.compile_dir(folder, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    return folder


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """A served function.

    Attributes:
        url: The URL at which it answers.
        child: Its process; gunicorn's master, with one worker below it.
    """

    url: str
    child: Child


@contextlib.contextmanager
def starting(  # noqa: PLR0913 - seven facts about one process
    target: str,
    folder: pathlib.Path,
    environment: Mapping[str, str],
    name: str,
    *,
    port: int,
    code: pathlib.Path | None = None,
    python: str = sys.executable,
) -> Iterator[Child]:
    """Start a function as the platform does, and end it with the context.

    Args:
        target: `ingest`, `drain`, `bootstrap`, `reconcile` or `compact`.
        folder: The folder of its log.
        environment: Settings and emulators.
        name: Name of its log.
        port: The port that it listens on.
        code: An unpacked zip, which is made read-only meanwhile; by default this project's.
        python: The interpreter that has the deployed packages.
    """
    code = code or unpacked(folder / f"{name}-code")
    version = commit()
    local = {"CODE_VERSION": version} if version else {}
    sockets = tempfile.TemporaryDirectory(prefix="sluice-")
    variables = {**served_environment(target, port, {**local, **environment}), "XDG_RUNTIME_DIR": sockets.name}
    framework = pathlib.Path(python).with_name("functions-framework")
    with (
        sockets,
        read_only(code),
        confined(MEMORY[target]) as prefix,
        running(name, [*prefix, str(framework)], folder, variables, cwd=code, inherits=False) as child,
    ):
        yield child


@contextlib.contextmanager
def serving(  # noqa: PLR0913 - seven facts about one process
    target: str,
    folder: pathlib.Path,
    environment: Mapping[str, str],
    name: str,
    *,
    port: int = 0,
    code: pathlib.Path | None = None,
    python: str = sys.executable,
) -> Iterator[Function]:
    """Serve a function while the context lasts.

    Args:
        target: `ingest`, `drain`, `bootstrap`, `reconcile` or `compact`.
        folder: The folder of its log.
        environment: Settings and emulators.
        name: Name of its log.
        port: The port that it listens on; 0 for any free port.
        code: An unpacked zip, which is made read-only meanwhile; by default this project's.
        python: The interpreter that has the deployed packages.
    """
    port = port or free_port()
    with starting(target, folder, environment, name, port=port, code=code, python=python) as child:
        yield wait_until_served(port, child)


def wait_until_served(port: int, child: Child) -> Function:
    """Wait until a function has started, and return it.

    Raises:
        NotStarted: It ended, or is not ready in time.
    """
    url = f"http://127.0.0.1:{port}"
    # The framework itself answers this path, once the function is loaded.
    child.wait_until(lambda: loopback().get(f"{url}/robots.txt").status_code == httpx.codes.NOT_FOUND)
    return Function(url, child)
