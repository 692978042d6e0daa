"""A session of tests, and every command, ends its child processes whoever has started it."""

import contextlib
import os
import pathlib
import signal
import subprocess
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from sluice.cli import app
from sluice.commands import exit_codes
from sluice.commands.exit_codes import errors_as_exit_codes
from sluice.local.process import MARK, running
from tests.conftest import started_by
from tests.support.waiting import wait_until


@pytest.fixture
def ignored() -> Iterator[None]:
    """SIGINT is ignored, as in a process that a script starts in the background."""
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    yield
    for number, handler in zip((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("ignored")
def test_a_command_ends_on_ctrl_c_even_where_it_is_ignored() -> None:
    assert CliRunner().invoke(app, ["generate", "--stdout", "--limit", "1"]).exit_code == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_during_an_import_imports_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_input_errors", "_failures"):
        monkeypatch.setattr(exit_codes, name, lambda: pytest.fail("imports what was interrupted"))
    with pytest.raises(KeyboardInterrupt), errors_as_exit_codes():
        raise KeyboardInterrupt


def test_the_tests_children_end_on_ctrl_c() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait() == -signal.SIGINT


def test_a_child_ends_after_interrupts_at_any_moment(tmp_path: pathlib.Path) -> None:
    """`Popen.poll` would be interrupted with its lock taken, and waiting for the child would never end."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with running("sleep", ["sleep", "1000"], tmp_path) as child:
            for _ in range(1_000):
                with contextlib.suppress(KeyboardInterrupt):
                    signal.setitimer(signal.ITIMER_REAL, 0.0001)
                    while True:
                        child.exit_code()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert child.exit_code() == -signal.SIGTERM


def test_leaked_process_is_reported_with_its_test() -> None:
    mark = f"{MARK}={os.environ[MARK]}"
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        wait_until(lambda: "sleep" in str(started_by(mark)), "the process runs")
        [(command, test)] = [item for item in started_by(mark).items() if item[0].startswith(f"{process.pid} ")]
        assert command.split() == [str(process.pid), "sleep", "1000"]
        assert "test_leaked_process" in test
        process.kill()
    assert str(process.pid) not in {command.split()[0] for command in started_by(mark)}
