"""A local stack as `sluice up` runs it, and Chromium, which visits its console."""

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from sluice.local.data_folder import VARIABLE, DataFolder, RunningStack
from sluice.local.process import Child, free_port, running
from tests.support import command_line
from tests.support.clone import clone
from tests.support.requires import missing
from tests.support.waiting import PATIENCE

expect.set_options(timeout=PATIENCE * 1_000)

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@dataclasses.dataclass(frozen=True)
class Console:
    """The console of a running local stack.

    Attributes:
        url: Its address.
        project: The folder of the stack's copy of the repository, which tests may change.
        up: The process of `sluice up`.
        stack: The stack.
    """

    url: str
    project: pathlib.Path
    up: Child
    stack: RunningStack

    def sluice(self, *arguments: str) -> str:
        """Run a command on the stack, which must succeed, and return its standard output."""
        done = command_line.sluice(list(arguments), dict(self.stack.environment))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def publish(self, *events: dict[str, Any], **attributes: str) -> None:
        """Publish events with these attributes."""
        file = self.project / "published.ndjson"
        file.write_text("".join(json.dumps(event) + "\n" for event in events))
        options = [text for name, value in attributes.items() for text in ("--attribute", f"{name}={value}")]
        self.sluice("publish", str(file), "--shift-to-now", *options)

    def json(self, path: str) -> Any:
        """Return the JSON of a page, for example of `/events.json?verdict=bad`."""
        return httpx.get(f"{self.url}{path}", timeout=PATIENCE).raise_for_status().json()


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """The console of a stack with a fresh data folder."""
    folder = tmp_path_factory.mktemp("console")
    project = clone(folder / "clone")
    environment = {name: value for name, value in os.environ.items() if name not in {VARIABLE, "PYTEST_CURRENT_TEST"}}
    command = [".venv/bin/sluice", "up", "--port", str(free_port())]
    with running("up", command, folder, environment, cwd=project, inherits=False) as up:
        data = DataFolder(project / ".sluice")
        up.wait_until(lambda: data.running() is not None)
        stack = data.running()
        assert stack
        url = next(process.address for process in stack.processes if process.name == "console")
        up.wait_until(lambda: httpx.get(f"{url}/static/icon.svg").is_success)
        yield Console(url, project, up, stack)


@pytest.fixture(scope="module")  # While it is open, an event loop runs: no later module could call asyncio.run.
def _browser() -> Iterator[Browser]:
    programs = [path for name in _CHROMIUM if (path := shutil.which(name))]
    if not programs:
        missing("Chromium is missing: `make chromium` installs it on Debian and Ubuntu")
    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        yield playwright.chromium.launch(executable_path=programs[0], args=sandbox)


@dataclasses.dataclass(frozen=True)
class Visitor:
    """A tab of the browser, in light or dark colors.

    Attributes:
        page: The tab.
        url: Address of the console.
        complaints: Errors on the browser's console, and requests that were answered with an error.
    """

    page: Page
    url: str
    complaints: list[str]

    def visit(self, path: str) -> Page:
        """Open a page of the console."""
        self.page.goto(f"{self.url}{path}")
        return self.page

    def check(self) -> None:
        """Check that the open page has no serious fault of accessibility, and that nothing has failed until now."""
        faults = Axe().run(self.page).response["violations"]
        serious = [
            (fault["id"], fault["help"], [node["html"][:200] for node in fault["nodes"][:3]])
            for fault in faults
            if fault["impact"] in {"serious", "critical"}
        ]
        assert serious == []
        assert self.complaints == []


@pytest.fixture(params=["light", "dark"])
def visitor(_browser: Browser, console: Console, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """A tab for a test of what a page shows, once in light and once in dark colors."""
    with _browser.new_context(color_scheme=request.param, viewport={"width": 1280, "height": 900}) as context:
        yield _visitor(context.new_page(), console)


@pytest.fixture
def tab(_browser: Browser, console: Console) -> Iterator[Visitor]:
    """A tab for a test of what a page does."""
    with _browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield _visitor(context.new_page(), console)


def _visitor(page: Page, console: Console) -> Visitor:
    complaints: list[str] = []
    page.set_default_timeout(PATIENCE * 1_000)
    expect.set_options(timeout=PATIENCE * 1_000)
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return Visitor(page, console.url, complaints)


def texts(page: Page, selector: str) -> Sequence[str]:
    """Return the texts of the elements that a selector finds."""
    return page.locator(selector).all_inner_texts()
