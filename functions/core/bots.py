"""Bots: user agents of crawlers, HTTP clients and headless browsers, as opposed to those of people.

The list of crawlers is the package `crawler-user-agents`. `docs/bots.md` has its measured recall and false alarms.
"""

import functools
import re

from ua_parser_rs import UserAgentExtractor

PATTERNS_OF_PEOPLE = frozenset(
    {
        r"008\/",  # phone models and app identifiers that end in 008
        r"AP3A\.240617\.008",  # an Android build of many phones
        "Amazon CloudFront",  # whoever comes through a CloudFront that does not forward user agents
        "Blackboard",  # an app for students
        "Butterfly",  # HTC phones
        r"Code\/1\.",  # the browser of an editor
        "Expanse",  # a phone
        "Fever",  # phones
        "Fluid",  # a browser
        "MetaIAB Facebook",  # the browser inside the Facebook app
        "Podimo",  # an app for podcasts
        "Sogou",  # a browser
        "Sonic",  # ViewSonic tablets
        r"Trae\/",  # the browser of an editor
        "Viber",  # the browser inside the Viber app
        "okhttp",  # any Android app that does not set a user agent
        "speedy",  # HTC phones
    }
)
"""Patterns of the list that people's phones, apps and browsers match, too. They are not used."""

_URL = "https?://"
"""A crawler names the page that explains it; people's browsers name none."""

_BOT_NAME = re.compile(r"bot\b|spider|crawl|headless", re.IGNORECASE)


def is_bot(user_agent: str, browser: str | None, device: str | None) -> bool:
    """Return whether a user agent is that of a known bot.

    Args:
        user_agent: The user agent.
        browser: Family of its browser, as ua-parser finds it.
        device: Family of its device, as ua-parser finds it.
    """
    return device == "Spider" or _is_bot_name(browser, device) or _crawlers().extract(user_agent) is not None


def _is_bot_name(browser: str | None, device: str | None) -> bool:
    """Return whether a browser is called a bot, and not after its device: `M bot 51` is a phone."""
    if browser is None or not _BOT_NAME.search(browser):
        return False
    return device is None or not device.startswith(browser.strip())


@functools.cache
def _crawlers() -> UserAgentExtractor:
    """Compile the list once, when the first user agent needs it."""
    from crawleruseragents import CRAWLER_USER_AGENTS_DATA  # noqa: PLC0415 - no part of ingest's cold start

    patterns = {crawler["pattern"] for crawler in CRAWLER_USER_AGENTS_DATA} - PATTERNS_OF_PEOPLE | {_URL}
    return UserAgentExtractor((pattern, "bot", None, None, None, None) for pattern in sorted(patterns))
