"""User agents of bots are recognized, and the page about them is true."""

import re

import crawleruseragents
import pytest

from benchmarks import bots, page
from functions.core import bots as core_bots
from functions.core.bots import PATTERNS_OF_PEOPLE
from tests.support.outcomes import row
from tests.support.samples import event

_ANDROID = "Mozilla/5.0 (Linux; Android 11; {}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/91.0 Mobile Safari/537.36"
_IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 14_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
)
_TIKTOK = "trill_2021906040 JsSdk/1.0 NetType/WIFI Channel/googleplay AppName/musical_ly BytedanceWebview/d8a21c6"


def is_bot(user_agent: str) -> bool:
    return bool(row(event("user_activity", user_agent=user_agent)).columns["is_bot"])


@pytest.mark.parametrize(
    "user_agent",
    [
        _ANDROID.format("Nexus 5") + " (compatible; Bytespider; spider-feedback@bytedance.com)",
        _ANDROID.format("SM-G900P") + " (compatible; TikTokSpider; ttspider-feedback@tiktok.com)",
        _ANDROID.format("moto g power (2022)") + " Chrome-Lighthouse",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0.0.0 Safari/537.36",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "curl/8.5.0",
        "python-requests/2.32.3",
        "Go-http-client/2.0",
        "NewRelicPinger/1.0 (543245)",  # not on the list: ua-parser calls the browser NewRelicPingerBot
        "Example Preview/1.0 (+https://preview.example/about)",
    ],
)
def test_crawlers_clients_and_headless_browsers_are_bots(user_agent: str) -> None:
    assert is_bot(user_agent)


@pytest.mark.parametrize(
    "user_agent",
    [
        _ANDROID.format("CUBOT X20 PRO"),
        _ANDROID.format("CUBOT_NOTE_S"),
        _ANDROID.format("M bot 51 Build/NRD90M"),
        _ANDROID.format("FEVER Build/MRA58K"),
        _ANDROID.format("Fever_Plus_J"),
        _ANDROID.format("HTC Butterfly Build/JDQ39"),
        _ANDROID.format("CPH2655 Build/AP3A.240617.008"),
        _ANDROID.format("SM-A125U; wv") + " " + _TIKTOK,
        _ANDROID.format("Pixel 10 Pro; wv") + " MetaIAB Facebook",
        _IPHONE + " musical_ly_20.1.0 JsSdk/2.0 NetType/WIFI Channel/App Store BytedanceWebview/d8a21c6",
        "okhttp/4.12.0",
        "Amazon CloudFront",
        "",
    ],
)
def test_phones_apps_and_the_unknown_are_no_bots(user_agent: str) -> None:
    assert not is_bot(user_agent)


@pytest.mark.parametrize(
    ("browser", "device", "expected"),
    [
        (None, None, False),
        ("Chrome", "Pixel 10", False),
        ("Chrome", "Spider", True),
        ("AnyBot", None, True),
        ("AnyBot", "Other", True),
        ("anySPIDER", "Other", True),
        ("M bot 51", "M bot 51 Pro", False),
        (" M bot ", "M bot 51", False),
    ],
)
def test_a_browser_is_a_bot_by_its_name_unless_the_device_has_it(
    browser: str | None, device: str | None, expected: bool
) -> None:
    assert core_bots.is_bot("A user agent that is on no list", browser, device) == expected


def test_the_list_is_asked_for_what_ua_parser_does_not_know() -> None:
    assert core_bots.is_bot("curl/8.5.0", None, None)


def test_each_pattern_of_people_is_still_on_the_list() -> None:
    patterns = {crawler["pattern"] for crawler in crawleruseragents.CRAWLER_USER_AGENTS_DATA}
    assert patterns >= PATTERNS_OF_PEOPLE


@pytest.mark.check
def test_recall_and_false_alarms_are_those_of_the_page() -> None:
    table = bots.counts()
    written = bots.FILE.read_text()
    assert page.fill_tables(written, [table]) == written, "run .venv/bin/python -m benchmarks.bots --docs"
    shares = [float(re.findall(r"\((.*) %\)", cells[-1])[0]) for cells in table.rows]
    assert (shares[0] >= 99, shares[1] >= 80, shares[2] <= 0.05) == (True, True, True)
