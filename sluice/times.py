"""Parsing of times on the command line."""

import re
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"(\d{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def read_time(text: str) -> datetime:
    """Parse a time: ISO 8601, by default in UTC; or `now`; or an age such as `90m`, `24h` or `7d`.

    Raises:
        ValueError: The text has none of these forms.
    """
    now = datetime.now(UTC)
    if text == "now":
        return now
    if ago := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
