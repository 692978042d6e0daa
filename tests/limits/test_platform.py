"""A function is served as the platform serves it: its environment, its folder, its rights and its memory."""

import contextlib
import os
import pathlib
import sys
from typing import Any

import httpx
import pytest

from functions.settings import Settings
from sluice.local import confinement
from sluice.local.functions import LOCAL, deployed_settings, platform_environment, serving, unpacked
from tests.support.waiting import PATIENCE

PROBE = """
import os, pathlib, resource, sys
import functions_framework.aio
from starlette.responses import JSONResponse

import functions

def rejected(write):
    try:
        write()
    except OSError as error:
        return type(error).__name__

@functions_framework.aio.http
def bootstrap(request):
    taken = b"x" * int(request.query_params.get("bytes", 0))
    here = pathlib.Path(__file__).parent
    return JSONResponse({
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "command": sys.argv,
        "functions": os.path.dirname(functions.__file__),
        "rejected": {
            "change": rejected(lambda: open(here / "main.py", "a")),
            "add": rejected(lambda: (here / "functions" / "more.py").touch()),
            "mode": rejected(lambda: (here / "main.py").chmod(0o777)) if os.geteuid() == 0 else "PermissionError",
        },
    })
"""
"""Source of a function that returns its environment and its rights."""

ENVIRONMENT = {"ARCHIVE_BUCKET": "archive", "GOOGLE_CLOUD_PROJECT": "project"}


@pytest.fixture
def probe(tmp_path: pathlib.Path) -> pathlib.Path:
    """An unpacked package whose function is the probe."""
    code = unpacked(tmp_path / "code")
    (code / "main.py").write_text(PROBE)
    return code


def test_function_has_the_platform_environment_and_read_only_code(
    probe: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("WORKERS", "2")
    with serving("bootstrap", tmp_path, {**ENVIRONMENT, "CODE_VERSION": "probe"}, "probe", code=probe) as function:
        answer: dict[str, Any] = httpx.get(function.url, timeout=PATIENCE).json()
    port = int(function.url.rpartition(":")[2])
    expected = {
        **platform_environment("bootstrap", port),
        **deployed_settings("bootstrap", Settings.from_environment(ENVIRONMENT)),
        **LOCAL,
        "CODE_VERSION": "probe",
    }
    of_the_machine = {"PATH", "HOME", "PWD", "LC_CTYPE", "SLUICE_SESSION", "SERVER_SOFTWARE", "XDG_RUNTIME_DIR"}
    assert {name: value for name, value in answer["environment"].items() if name not in of_the_machine} == expected
    assert answer["folder"] == str(probe)
    assert answer["functions"] == str(probe / "functions")
    assert [pathlib.Path(argument).name for argument in answer["command"]] == ["functions-framework"]
    assert answer["rejected"] == dict.fromkeys(("change", "add", "mode"), "PermissionError")
    with (probe / "main.py").open("a"):
        pass  # Afterwards it is writable again.


@pytest.mark.skipif(sys.platform != "linux", reason="nothing limits memory elsewhere")
@pytest.mark.parametrize("limit", ["cgroup", "RLIMIT_DATA"])
def test_function_fails_above_its_deployed_memory(
    probe: pathlib.Path, tmp_path: pathlib.Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit == "RLIMIT_DATA":
        monkeypatch.setattr(confinement, "_parent", lambda: None)
    elif confinement._parent() is None:
        pytest.skip("this process may make no cgroup")
    allowed = 512 * 2**20 + (0 if limit == "cgroup" else confinement._STACKS)

    def answers(url: str, size: int) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(url, params={"bytes": size}, timeout=PATIENCE).is_success
        return False

    with serving("bootstrap", tmp_path, ENVIRONMENT, "probe", code=probe) as function:
        assert answers(function.url, allowed // 2)
        assert not answers(function.url, allowed)
    parent = confinement._parent()
    assert parent is None or list(parent.glob(f"sluice-{os.getpid()}-*")) == []
