"""A unit test starts no server and installs nothing: tests/fakes, tests/emulators and tests/packaging are for that."""

import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

FOLDER = pathlib.Path(__file__).parent

_INSTALLERS = {"pip", "venv", "virtualenv"}

_running: list[str] = []
"""Id of the unit test that runs with its fixtures, if one does."""


def _forbid(event: str, arguments: tuple[Any, ...]) -> None:
    if not _running:
        return
    if event == "socket.bind" and isinstance(arguments[1], tuple):
        raise AssertionError(f"{_running[0]} starts a server at {arguments[1]}: it belongs into tests/fakes")
    if event == "subprocess.Popen" and _INSTALLERS & {
        pathlib.PurePath(word).name for argument in arguments[1] or () for word in str(argument).split()
    }:
        raise AssertionError(f"{_running[0]} installs packages: it belongs into tests/packaging")


sys.addaudithook(_forbid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Fail a unit test that listens on an address, or runs pip or venv, or whose fixtures do.

    The hook is called for the tests of all folders.
    """
    if item.path.is_relative_to(FOLDER):
        _running.append(item.nodeid)
    try:
        return (yield)
    finally:
        _running.clear()
