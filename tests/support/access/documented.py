"""The commands that the pages and the alerts ask people to type, and the people."""

import pathlib
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from sluice.queries import queries
from tests.support import deploy_guide, monitoring
from tests.support.docs import BLOCK, ROOT
from tests.support.recorded_commands import recorded

PAGES = (
    "analytics",
    "backfill",
    "batch",
    "beam",
    "console",
    "dead-letters",
    "deploy",
    "disaster-recovery",
    "erase",
    "lost-region",
    "monitoring",
    "operate",
    "restore",
    "trace",
)

SCRIPTS = ("deploy", "lost-region")
"""Those of them whose commands need a shell."""

_ROLE = re.compile(r"^Role: (.+)$", re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`((?:bq|gcloud|sluice) [^`]+)`")


class Documented(NamedTuple):
    """A command.

    Attributes:
        page: Name of the page, `deploy` for all pages on deployment, or `alerts`.
        section: The heading above it.
        command: Its words, as the shell gives them to the program.
        roles: Who types it.
    """

    page: str
    section: str
    command: list[str]
    roles: list[str]


def documented(place: pathlib.Path) -> Iterator[Documented]:
    """Yield all commands.

    Args:
        place: An empty folder, in which the scripts are run against stand-ins.
    """
    for page in PAGES:
        roles = {section: names for section, names, _ in _sections(page)}
        for section, names, text in _sections(page):
            lines = [
                line
                for language, _, block in BLOCK.findall(text)
                if language == "sh" and page not in SCRIPTS
                for line in block.splitlines()
            ]
            lines += _INLINE.findall(BLOCK.sub("", text))
            for line in lines:
                yield Documented(page, section, _words(shlex.split(line, comments=True)), names)
        if page in SCRIPTS:
            (place / page).mkdir()
            for call in recorded(_file(page, place / page), place / page):
                yield Documented(page, call.section, _words([call.program, *call.arguments]), roles[call.section])
    for alert in monitoring.alerts_of_engines():
        yield Documented("alerts", alert["title"], _words(shlex.split(alert["type"])), ["operators"])
    for name, query in queries().items():
        if query.subject in {"maintenance", "monitoring"} and query.part_of is None:
            yield Documented("monitoring", "sluice sql", ["sluice", "sql", name], ["operators"])


def _file(page: str, place: pathlib.Path) -> pathlib.Path:
    return deploy_guide.joined(place) if page == "deploy" else ROOT / "docs" / f"{page}.md"


def _text(page: str) -> str:
    return deploy_guide.text() if page == "deploy" else (ROOT / "docs" / f"{page}.md").read_text()


def _words(command: list[str]) -> list[str]:
    return [command[0].removeprefix(".venv/bin/"), *command[1:]]


def _sections(page: str) -> Iterator[tuple[str, list[str], str]]:
    """Yield heading, roles and text of each section; one without roles has those of the section around it."""
    parts = re.split(r"^(#+) (.+)\n", _text(page), flags=re.MULTILINE)
    around: list[list[str]] = []
    for level, heading, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        del around[len(level) - 1 :]
        said = _ROLE.search(text)
        roles = re.findall(r"(?<!\[)`(\w+)`", said[1]) if said else around[-1] if around else []
        around += [roles] * (len(level) - len(around))
        yield heading, roles, text
