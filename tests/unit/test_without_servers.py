"""The rule of tests/unit, which `conftest.py` enforces: no server, and no installation."""

import socket
import sys

import pytest


@pytest.mark.parametrize("address", [("127.0.0.1", 0), ("::1", 0, 0, 0)])
def test_a_unit_test_starts_no_server(address: tuple[str | int, ...]) -> None:
    with socket.socket() as server, pytest.raises(AssertionError, match="belongs into tests/fakes"):
        sys.audit("socket.bind", server, address)


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "pip", "install", "rich"],
        [".venv/bin/pip", "install", "rich"],
        ["uv", "pip", "install", "rich"],
        [".venv/bin/uv", "venv", "place"],
        ["/bin/sh", "-c", "python -m venv place"],
    ],
)
def test_a_unit_test_installs_nothing(command: list[str]) -> None:
    with pytest.raises(AssertionError, match="belongs into tests/packaging"):
        sys.audit("subprocess.Popen", command[0], command, None, None)


def test_a_unit_test_may_run_other_programs() -> None:
    sys.audit("subprocess.Popen", sys.executable, [sys.executable, "-c", "import rich"], None, None)
