"""User activity: what people and bots do in the shop."""

import functools

import ua_parser

from functions.core.bots import is_bot
from functions.core.privacy import Privacy
from functions.events import Columns, EventType

_MAX_PARSED = 512
"""Maximum number of characters of a user agent that are parsed: of some, 2 048 take 2 ms, a hundred times as long as an
event. The row has all of it."""


def enrich(activity: Columns, privacy: Privacy) -> Columns:
    """Add browser, OS, device and bot flag from the user agent; treat the address by the policy."""
    return {**_device(activity["user_agent"][:_MAX_PARSED]), "ip_address": privacy.treat(activity["ip_address"])}


@functools.lru_cache(maxsize=4096)
def _device(user_agent: str) -> Columns:
    parsed = ua_parser.parse(user_agent)
    browser = parsed.user_agent.family if parsed.user_agent else None
    device = parsed.device.family if parsed.device else None
    return {
        "browser": browser,
        "os": parsed.os.family if parsed.os else None,
        "device": device,
        "is_bot": is_bot(user_agent, browser, device),
    }


EVENT_TYPE = EventType(table="user_activity", time_field="timestamp", enrich=enrich, person_field="user_id")
