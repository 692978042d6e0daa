"""Runs scenarios by their seeds, and makes a failing one small."""

import dataclasses
import gc
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import hypothesis
from hypothesis import strategies as st

from tests.simulation import archive, batch, push, recovery
from tests.simulation.clients import google_clients_in_virtual_time
from tests.simulation.reconciliation import backfill_in_virtual_time
from tests.simulation.undeliverable import replay_in_virtual_time
from tests.simulation.world import Plan, World, draw


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind of scenarios.

    Attributes:
        run: Runs one.
        choices: What it may have.
    """

    run: Callable[[World], None]
    choices: Mapping[str, Sequence[Any]]


KINDS: Mapping[str, Kind] = {
    "push": Kind(push.run_push, push.CHOICES),
    "batch": Kind(batch.run_batch, batch.CHOICES),
    "archive": Kind(archive.run_archive, archive.CHOICES),
    "recovery": Kind(recovery.run_recovery, recovery.CHOICES),
}


@contextmanager
def simulated() -> Iterator[None]:
    """Prepare this process for scenarios.

    Nothing is logged. The garbage collector leaves the modules alone. What it finds on killed machines fails, as their
    loops are gone: it is hidden.
    """
    hook, level = sys.unraisablehook, logging.root.manager.disable
    sys.unraisablehook = lambda _: None
    logging.disable(logging.CRITICAL)
    gc.freeze()
    try:
        with google_clients_in_virtual_time(), backfill_in_virtual_time(), replay_in_virtual_time():
            yield
    finally:
        gc.unfreeze()
        sys.unraisablehook = hook
        logging.disable(level)


def run(kind: str, seed: int, plan: Plan | None = None, *, is_kept: bool = False) -> World:
    """Run a scenario; its plan is that of the seed, unless another one is given. The world has its history."""
    chosen = KINDS[kind]
    world = World(seed, plan or draw(chosen.choices, seed), is_kept=is_kept)
    try:
        chosen.run(world)
    finally:
        world.close()
    return world


def smallest(kind: str, seeds: int) -> tuple[int, Plan]:
    """Return the seed and the plan of the smallest scenario that fails.

    Raises:
        hypothesis.errors.NoSuchExample: None fails.
    """
    plans = st.fixed_dictionaries({name: st.sampled_from(options) for name, options in KINDS[kind].choices.items()})
    example: tuple[int, Plan] = hypothesis.find(
        st.tuples(st.integers(0, 1_000), plans),
        lambda drawn: bool(run(kind, *drawn).history.violations),
        settings=hypothesis.settings(
            max_examples=seeds,
            database=None,
            deadline=None,  # Some scenarios take seconds.
            suppress_health_check=tuple(hypothesis.HealthCheck),
        ),
    )
    return example
