"""A deployment for all cases, on emulators of its own, which some cases kill; each case has its own events in it."""

import os
import sys
from collections.abc import Iterator

import pytest

from sluice.local.stack import emulators
from tests.support.background import event_loop
from tests.support.fault_cases import LONG, SEED, SHORT, Form
from tests.support.fault_harness import Deployment, deployment
from tests.support.requires import missing


@pytest.fixture(scope="session")
def form() -> Form:
    """The long form where `make faults` asks for it."""
    return LONG if os.environ.get("SLUICE_FAULTS") == "long" else SHORT


@pytest.fixture(scope="module")
def deployed(form: Form, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One instance of the function, with the proxy in each of its connections."""
    if sys.platform != "linux":
        missing("The matrix of faults needs Linux: it finds an instance's workers in /proc, and bounds their memory")
    folder = tmp_path_factory.mktemp("faults")
    with (
        pytest.MonkeyPatch.context() as patch,
        event_loop() as run,
        emulators(folder, stand_in=form is SHORT) as running,
    ):
        for name, value in running.environment.items():
            patch.setenv(name, value)
        settings = {"FLUSH_TIMEOUT": str(form.flush_timeout)}
        with deployment(running, folder, run, "faults", SEED, settings, form.backoff) as made:
            yield made
