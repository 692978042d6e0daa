"""Times as people write them on the command line."""

import re
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"(\d{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def read_time(text: str) -> datetime:
    """Read a time: ISO 8601, in UTC unless it says otherwise; or `now`; or how long ago, as `90m`, `24h` or `7d`.

    Raises:
        ValueError: It is none of these.
    """
    now = datetime.now(UTC)
    if text == "now":
        return now
    if ago := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
