"""Hooks and fixtures of all tests: order, time limit, Terraform, and a check that no process is left behind."""

import collections
import json
import os
import pathlib
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from functions.settings import Settings
from sluice import cloud_logging
from sluice.local import data_folder
from sluice.local.functions import LOCAL, platform_environment
from sluice.local.names import EMULATORS
from sluice.local.process import MARK
from tests.support import terraform as running
from tests.support.terraform import RUNBOOK, Planned, Terraform
from tests.support.waiting import LIMIT, wait_until

DURATIONS = pathlib.Path(__file__).with_name("durations.json")
"""Seconds that each module takes, by `_part`; `UPDATE_DURATIONS=1 make check` writes it."""

SLOW_FIXTURES = {"terraform", "analyzer"}
"""Fixtures that take half a minute to start, Terraform or zetasql's analyzer: `make check` runs their tests."""

FOREIGN = {name.upper() for name in Settings.__struct_fields__} | {
    "SLUICE_CONTRACT_BASE",
    cloud_logging.EMULATOR,
    *EMULATORS,
    *LOCAL,
    *platform_environment("", 0),
}
"""Variables that a shell may have for another deployment, or CI for another command: no test sees them."""

_seconds: collections.defaultdict[str, float] = collections.defaultdict(float)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Limit the time of a test, drop foreign variables, and give children the default handler of SIGINT."""
    config.option.timeout = config.option.timeout or LIMIT
    for name in FOREIGN & os.environ.keys():
        del os.environ[name]
    os.environ[data_folder.VARIABLE] = os.devnull  # Nor do they see a stack that runs in this folder.
    # A parent that ignores SIGINT (nohup, & in a script) hands that on to all descendants; a handler is not handed on.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: a third of the time, a test waits for something."""
    return (os.process_cpu_count() or 1) + 1


def _module(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _part(nodeid: str, keywords: Mapping[str, Any]) -> str:
    """The module of a test, and whether `make test` leaves it out."""
    return _module(nodeid) + (" (check)" if "check" in keywords else "")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Run the longest modules first, so that all workers end at about the same time."""
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("check")
    yield
    durations = json.loads(DURATIONS.read_text())
    seconds = collections.Counter[str]()
    for part in {_part(item.nodeid, item.keywords) for item in items}:
        seconds[part.removesuffix(" (check)")] += durations.get(part, 0)
    items.sort(key=lambda item: -seconds[_module(item.nodeid)])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the seconds of each module."""
    _seconds[_part(report.nodeid, report.keywords)] += report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the durations of what was run, where asked to."""
    if "UPDATE_DURATIONS" in os.environ and not hasattr(session.config, "workerinput"):
        durations = json.loads(DURATIONS.read_text()) | {part: round(seconds) for part, seconds in _seconds.items()}
        long = {part: seconds for part, seconds in sorted(durations.items()) if seconds >= 1}
        DURATIONS.write_text(json.dumps(long, indent=2) + "\n")


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Fail where a process outlives the session that started it. The first fixture to begin is the last one to end."""
    mark = f"{MARK}={os.getpid()}"
    os.environ[MARK] = str(os.getpid())
    yield
    wait_until(lambda: not started_by(mark), "all processes of the tests have ended", lambda: started_by(mark))


def started_by(mark: str) -> dict[str, str]:
    """Running processes whose environment has a mark: id and command line, and the test that started each."""
    started = {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().decode(errors="replace").split("\0")
            command = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:  # it has just ended, or is somebody else's
            continue
        # multiprocessing's own helper ends with this process, and not before.
        if mark in environment and "multiprocessing.resource_tracker" not in command:
            tests = [line for line in environment if line.startswith("PYTEST_CURRENT_TEST=")]
            started[f"{process.name} {command}"] = " ".join(tests)
    return started


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Runs Terraform in a copy of the folder."""
    return running.terraform(tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="session")
def planned(terraform: Terraform) -> Planned:
    """Terraform's plan of dev, with a reader: the variables' defaults, mostly."""
    access = '-var=access={readers=["group:analysts@example.com"]}'
    return running.planned(terraform, "dev", f"-var=runbook_url={RUNBOOK}", access)


@pytest.fixture(scope="session")
def plans(terraform: Terraform) -> Mapping[str, Planned]:
    """Terraform's plans of dev and prod, by the name of the environment."""
    return {name: running.planned(terraform, name) for name in running.ENVIRONMENTS}
