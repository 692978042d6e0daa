"""JSON paths: where in a payload a value stands (RFC 9535)."""

import re
from collections.abc import Collection, Iterable

_PLAIN_NAME = re.compile(r"[^\W\d]\w*")

_STEP = re.compile(r"\.(\w+)|\[\d+\]|\['(?:[^'\\]|\\.)*'\]")

_ESCAPES = str.maketrans(
    {control: f"\\u{control:04x}" for control in range(0x20)}
    | {ord(plain): f"\\{short}" for plain, short in zip("\b\t\n\f\r\\'", "btnfr\\'", strict=True)}
)


def member(path: str, name: str) -> str:
    """The path of an object's member. `$` and `a` give `$.a`; any name that is no identifier gives `$['a.b']`.

    Args:
        path: Of the object; empty for paths that start below the root.
        name: The member's key.
    """
    if _PLAIN_NAME.fullmatch(name):
        return f"{path}.{name}" if path else name
    return f"{path}['{name.translate(_ESCAPES)}']"


def item(path: str, index: int) -> str:
    """The path of an array's item: `$.items[0]`."""
    return f"{path}[{index}]"


def from_root(steps: Iterable[str | int]) -> str:
    """The path that these keys and indexes lead along from the payload's root: `$.items[0].price`."""
    path = "$"
    for step in steps:
        path = item(path, step) if isinstance(step, int) else member(path, step)
    return path


def generalize(path: str, names: Collection[str] | None = None) -> str:
    """Return a path with wildcards for array indexes and unknown members: `$.items[0].price` as `$.items[*].price`.

    Args:
        path: From the payload's root; one that begins elsewhere (`attributes.event_id`) stays as it is.
        names: The members that are known, all of them identifiers as columns are; None stands for every identifier.
    """

    def step(matched: re.Match[str]) -> str:
        name = matched[1]
        return matched[0] if name is not None and (names is None or name in names) else "[*]"

    return f"${_STEP.sub(step, path[1:])}" if path.startswith("$") else path
