"""The benchmark runs wherever it is, on cores of its own or not."""

import os
import sys
from collections.abc import Iterator

import pytest

from benchmarks import machine
from benchmarks.machine import can_pin, on_core

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot bind processes to cores")


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    can_pin.cache_clear()
    yield
    can_pin.cache_clear()


def test_one_core_is_not_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_ALLOWED", [3])
    before = os.sched_getaffinity(0)
    assert not can_pin()
    with on_core(0):
        assert os.sched_getaffinity(0) == before


def test_a_system_that_forbids_it_is_not_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(machine, "_ALLOWED", [0, 1])
    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    assert not can_pin()
    with on_core(0):
        pass


def test_a_core_is_given_back() -> None:
    before = os.sched_getaffinity(0)
    with on_core(machine.OTHER_CORE):
        assert os.sched_getaffinity(0) == ({machine.OTHER_CORE} if can_pin() else before)
    assert os.sched_getaffinity(0) == before


def test_the_cores_are_two_of_those_that_are_allowed() -> None:
    assert machine.FUNCTION_CORE != machine.OTHER_CORE
    if can_pin():
        assert {machine.FUNCTION_CORE, machine.OTHER_CORE} <= os.sched_getaffinity(0)
