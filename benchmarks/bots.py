"""`python -m benchmarks.bots`: how many bots and people `is_bot` distinguishes, and its CPU time.

The user agents come from two packages: the list of crawlers itself, and the fixtures of Matomo's Device Detector.
"""

import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, NamedTuple

import crawleruseragents
import typer
import ua_parser
import yaml
from ua_parser_rs import UserAgentExtractor

from benchmarks import page
from benchmarks.spread import Spread
from benchmarks.tables import number, text
from functions.core.bots import is_bot
from functions.core.privacy import Privacy
from functions.events.user_activity import EVENT_TYPE
from sluice.doc_tables import Table

FILE = pathlib.Path(__file__).parents[1] / "docs" / "bots.md"

PEOPLE = (
    "car_browser",
    "console",
    "desktop",
    "feature_phone",
    "phablet",
    "portable_media_player",
    "smart_display",
    "smartphone",
    "tablet",
    "tv",
    "wearable",
)
"""Device Detector's fixtures of devices that people use; each may be in several files."""

ROUNDS = 5
SAMPLE = 5_000

_FIRST = """
import json, pathlib, time
import ua_parser
from functions.core.bots import is_bot

def used():
    return time.process_time(), int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096

before = used()
ua_parser.parse("Mozilla/5.0")
parsed = used()
is_bot("Mozilla/5.0", None, None)
detected = used()
print(json.dumps([[b - a for a, b in zip(*two)] for two in ((before, parsed), (parsed, detected))]))
"""
"""Program that prints seconds and bytes that the first user agent takes in a process, of ua-parser and of `is_bot`."""

type Detector = Callable[[str], bool]


class UserAgents(NamedTuple):
    """User agents that are all those of bots, or all those of people.

    Attributes:
        title: Source of the user agents.
        user_agents: Each once, sorted.
    """

    title: str
    user_agents: Sequence[str]


def samples() -> list[UserAgents]:
    """Return bots of the list, bots that the list's authors have not chosen, and people."""
    crawlers = {instance for crawler in crawleruseragents.CRAWLER_USER_AGENTS_DATA for instance in crawler["instances"]}
    fixtures = list(files("device_detector").joinpath("tests", "fixtures", "upstream").iterdir())
    bots = _fixtures(file for file in fixtures if file.name == "bots.yml")
    people = _fixtures(file for file in fixtures if file.name.partition(".")[0].partition("-")[0] in PEOPLE)
    return [
        UserAgents("bots of crawler-user-agents", sorted(crawlers)),
        UserAgents("bots of Device Detector", sorted(bots)),
        UserAgents("people of Device Detector", sorted(people)),
    ]


def _fixtures(fixture_files: Iterable[Traversable]) -> set[str]:
    return {
        case["user_agent"]
        for file in fixture_files
        for case in yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader)
    }


def detectors() -> dict[str, Detector]:
    """Return what is compared: ua-parser alone, that with the whole list, and `is_bot` as rows have it."""
    patterns = (crawler["pattern"] for crawler in crawleruseragents.CRAWLER_USER_AGENTS_DATA)
    whole = UserAgentExtractor((pattern, "bot", None, None, None, None) for pattern in patterns)
    return {
        "ua-parser alone": _is_spider,
        "with the whole list": lambda user_agent: _is_spider(user_agent) or whole.extract(user_agent) is not None,
        "`is_bot`": _is_bot,
    }


def _is_spider(user_agent: str) -> bool:
    device = ua_parser.parse_device(user_agent)
    return device is not None and device.family == "Spider"


def _is_bot(user_agent: str) -> bool:
    activity = {"user_agent": user_agent, "ip_address": "192.0.2.1"}
    return bool(EVENT_TYPE.enrich(activity, Privacy())["is_bot"])


def counts() -> Table:
    """Count how many of the user agents are taken for bots."""
    compared = detectors()
    rows = [
        [title, _count(len(agents)), *(_share(sum(map(detect, agents)), len(agents)) for detect in compared.values())]
        for title, agents in samples()
    ]
    return Table("bots", "Taken for bots", ["", ">user agents", *(f">{title}" for title in compared)], rows)


def _count(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def _share(count: int, of: int) -> str:
    return f"{_count(count)} ({100 * count / of:.2f} %)"


def costs() -> Table:
    """Measure the CPU time of the first user agent of a process, of a new and of a known one."""
    fresh = subprocess.run([sys.executable, "-c", _FIRST], check=True, capture_output=True)  # noqa: S603 - our own
    first = json.loads(fresh.stdout)
    people = samples()[2].user_agents[:: max(1, len(samples()[2].user_agents) // SAMPLE)]
    parsed: list[float] = []
    detected: list[float] = []
    for _ in range(ROUNDS):
        parsed.append(_seconds(lambda: [ua_parser.parse(agent) for agent in people]) / len(people) * 1e6)
        detected.append(_seconds(lambda: [is_bot(agent, "Chrome", "K") for agent in people]) / len(people) * 1e6)
    repeated = _seconds(lambda: [_is_bot("curl/8.5.0") for _ in range(SAMPLE)]) / SAMPLE * 1e6
    rows = [
        [
            "the first one of an instance",
            *(f"{number(sec * 1e3)} ms, {number(size / 2**20)} MiB" for sec, size in first),
        ],
        ["a new one", f"{text(Spread.of(parsed))} µs", f"{text(Spread.of(detected))} µs"],
        ["one of the last 4 096 different ones", f"{number(repeated)} µs, both", ""],
    ]
    return Table("cost", "CPU time for a user agent", ["user agent", ">ua-parser", ">`is_bot` besides"], rows)


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main(
    docs: Annotated[bool, typer.Option("--docs", help="Write the tables of docs/bots.md.")] = False,
) -> None:
    """Count which user agents are taken for bots, and measure what that takes."""
    tables = [costs(), counts()]
    for table in tables:
        table.show()
    if docs:
        FILE.write_text(page.fill_tables(FILE.read_text(), tables))


if __name__ == "__main__":
    typer.run(main)
