"""The drill of docs/disaster-recovery.md, with few events."""

import pathlib

import pytest
from rich.console import Console

from sluice.local.stack import Emulators
from tools import drill

pytestmark = pytest.mark.check


def test_lost_region_is_restored_with_every_event(running_emulators: Emulators, tmp_path: pathlib.Path) -> None:
    result = drill.run(Console(), running_emulators, tmp_path, events=300, rate=100)
    assert result.missing == frozenset()
    assert 0 < result.backfilled < result.accepted
    assert result.durable < result.accepted
