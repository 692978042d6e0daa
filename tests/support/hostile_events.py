"""Hypothesis strategies: events as no producer should send them, from almost right to nearly random.

A payload is drawn as a tree whose objects are lists of pairs, so that a key may be duplicate, and whose leaves are
JSON's own text, so that they may be numbers, strings and words that no encoder would write. Then its bytes are damaged.
"""

import json
import random
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from tests.support import samples


class Text(str):
    """A leaf as it stands in the payload."""

    __slots__ = ()


type Tree = Text | list[Tree] | tuple[tuple[Text, Tree], ...]
"""A leaf, an array, or an object."""


def tree(value: Any) -> Tree:
    """A JSON value as a tree."""
    match value:
        case dict():
            return tuple((Text(json.dumps(key)), tree(inner)) for key, inner in value.items())
        case list():
            return [tree(inner) for inner in value]
    return Text(json.dumps(value))


def written(value: Tree, separators: tuple[str, str] = (",", ":")) -> str:
    """The text of a tree."""
    comma, colon = separators
    match value:
        case Text():
            return value
        case list():
            return f"[{comma.join(written(inner, separators) for inner in value)}]"
    return f"{{{comma.join(f'{key}{colon}{written(inner, separators)}' for key, inner in value)}}}"


def _words(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from(text.split())


_SPECIAL_NUMBERS = _words("""
    0 -0 0.0 -0.0 1 -1 100 101 1e2 1E+2 1e-9 5e-10 0.1 1e15 9007199254740993 9223372036854775807 9223372036854775808
    -9223372036854775809 18446744073709551615 18446744073709551616 1e28 1e29 1e38 1e308 1e309 -1e309 1e400 1e-400
    1e999999 1e-999999 1e9999999999 1e99999999999999999999 0.30000000000000004 1000000000000 1000000000000.0000000001
    01 +1 .5 5. 1.e1 0x10 1_000 NaN Infinity -Infinity nan --1 1e 2.5 2.0
""")
NUMBERS = _SPECIAL_NUMBERS | st.builds(
    lambda sign, digit, count, rest: f"{sign}{digit * count}{rest}",
    st.sampled_from(["", "-"]),
    st.sampled_from("1379"),
    st.sampled_from([1, 19, 20, 39, 309, 4299, 4300, 4301, 9000]),
    st.sampled_from(["", ".0", ".5", "e5", "e-5", ".123456789", ".1234567891", "e400", "e-400", "e999999999999999999"]),
)

_SPECIAL_TIMES = _words("""
    2026-11-23T11:59:58Z 2026-11-23T11:59:60Z 2026-11-23T24:00:00Z 2026-02-30T00:00:00Z 0000-01-01T00:00:00Z
    0001-01-01T00:00:00+23:59 9999-12-31T23:59:59-23:59 2026-11-23t11:59:58z 2026-11-23T11:59:58.123456789123Z
    2026-11-23T11:59:58-00:00 2026-11-23T11:59:58+14:00 2026-11-23T11:59:58+24:00 2026-11-23T11:59:58 2026-11-23
    2016-12-31T23:59:60Z 2026-11-23T11:59:58,5Z 2026-W48-1T00:00:00Z 20261123T115958Z 1600-01-01T00:00:00Z
    +2026-11-23T11:59:58Z 2026-11-23T11:59:58.Z 2026-11-23T11:59:58+01 2026-11-23T11:59:58+01:00:30
""")
TIMES = _SPECIAL_TIMES | st.datetimes(timezones=st.timezones() | st.none()).map(lambda moment: moment.isoformat())

ADDRESSES = _words(
    "203.0.113.7 ::1 ::ffff:1.2.3.4 fe80::1%eth0 1.2.3.4.5 01.2.3.4 1.2.3 ::g 2001:db8::/32 \uff11.2.3.4 127.1"
) | st.ip_addresses().map(str)

WORDS = st.sampled_from(list(samples.EVENTS)) | _words(
    "pending shipped lost sale restock login web mobile tv __proto__ __class__ ' \" \\ $ . [0]"
)

_SPECIAL_STRINGS = _words(r"""
    "\ud800" "\udfff" "\ud83d\ude00" "\ude00\ud83d" "\ud83d" "\u0000" "\uFEFF" "\uffff" "\u00e9" "\/" "\x41" "\u12"
    "\" "\": "," ":"
""")
STRINGS = (
    (st.text(max_size=20) | TIMES | ADDRESSES | WORDS).flatmap(
        lambda text: st.sampled_from([json.dumps(text), json.dumps(text, ensure_ascii=False)])
    )
    | _SPECIAL_STRINGS
    | st.builds(
        lambda unit, count: f'"{unit * count}"',
        st.sampled_from(["x", "é", "漢", "\U0001f600", r"\u0001", '\\":', r"\\", " ", "\x00", "{", "\u202e"]),
        st.sampled_from([1, 63, 64, 65, 128, 129, 256, 257, 1024, 1025, 2048, 2049, 5000]),
    )
)

LEAVES: st.SearchStrategy[Tree] = (st.sampled_from(["null", "true", "false", "", "undefined"]) | NUMBERS | STRINGS).map(
    Text
)

VALUES: st.SearchStrategy[Tree] = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(STRINGS.map(Text), inner), max_size=4).map(tuple),
    max_leaves=8,
)

DEEP: st.SearchStrategy[Tree] = st.builds(
    lambda opening, depth, closing, core: Text(opening * depth + core + closing * depth),
    st.just("["),
    st.sampled_from([5, 97, 98, 99, 100, 101, 500, 1000, 5000]),
    st.just("]"),
    st.sampled_from(["1", "", "{}"]),
) | st.builds(
    lambda depth: Text('{"a":' * depth + "1" + "}" * depth), st.sampled_from([5, 97, 98, 99, 100, 101, 1000, 5000])
)


def places(value: Tree) -> list[tuple[int, ...]]:
    """The way to each part of a tree."""
    inner: list[Tree] = []
    if isinstance(value, list):
        inner = value
    elif isinstance(value, tuple):
        inner = [item for _, item in value]
    return [(), *((index, *rest) for index, item in enumerate(inner) for rest in places(item))]


def at(value: Tree, place: tuple[int, ...]) -> Tree:
    """A part of a tree."""
    for index in place:
        value = value[index] if isinstance(value, list) else value[index][1]  # type: ignore[assignment]
    return value


def put(value: Tree, place: tuple[int, ...], part: Tree) -> Tree:
    """The tree with another part in a place."""
    if not place:
        return part
    index, *rest = place
    if isinstance(value, list):
        return [*value[:index], put(value[index], tuple(rest), part), *value[index + 1 :]]
    assert isinstance(value, tuple)
    key, inner = value[index]
    return (*value[:index], (key, put(inner, tuple(rest), part)), *value[index + 1 :])


@st.composite
def changed(draw: st.DrawFn, value: Tree) -> Tree:
    """A tree that differs in one place."""
    place = draw(st.sampled_from(places(value)))
    part = at(value, place)
    ways = ["replace"]
    if isinstance(part, tuple):
        ways += ["add", "twice", "drop", "rename"]
    if isinstance(part, list):
        ways += ["repeat", "drop", "append"]
    match draw(st.sampled_from(ways)), part:
        case "replace", _:
            part = draw(VALUES | DEEP)
        case "add", tuple():
            part = (*part, (Text(draw(STRINGS)), draw(VALUES | DEEP)))
        case "twice", tuple() if part:
            key, _ = draw(st.sampled_from(part))
            part = (*part, (key, draw(VALUES)))
        case "rename", tuple() if part:
            index = draw(st.integers(0, len(part) - 1))
            part = (*part[:index], (Text(draw(STRINGS)), part[index][1]), *part[index + 1 :])
        case "drop", tuple() | list() if part:
            index = draw(st.integers(0, len(part) - 1))
            part = part[:index] + part[index + 1 :]  # type: ignore[operator]
        case "repeat", list() if part:
            part = part * draw(st.sampled_from([2, 21, 200]))
        case "append", list():
            part = [*part, draw(VALUES)]
    return put(value, place, part)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """The bytes of an event with up to three changes, and sometimes damaged."""
    value = tree(draw(st.sampled_from(list(samples.EVENTS.values()))))
    for _ in range(draw(st.integers(0, 3))):
        value = draw(changed(value))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : "), (",\n", "\t:\r\n")]))
    data = written(value, separators).encode(errors="surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        data = draw(damaged(data))
    return data


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with something put in, taken out, cut off or put before."""
    start = draw(st.integers(0, len(data)))
    end = min(len(data), start + draw(st.sampled_from([0, 1, 2, 10])))
    return draw(
        st.sampled_from(
            [
                b"\xef\xbb\xbf" + data,
                data.decode(errors="replace").encode("utf-16"),
                data[:start],
                data + data,
                data + b"\x00",
                data[:start] + draw(DAMAGE) + data[end:],
            ]
        )
    )


DAMAGE = st.binary(max_size=4) | st.sampled_from(
    [
        b"\x00",
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"\x80",
        b'"',
        b"\\",
        b"{",
        b"]",
        b"\n",
        b"//",
    ]
)

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.\w]+|\s+|.', re.DOTALL)


def relatives(data: bytes, draw: random.Random, count: int) -> Iterator[bytes]:
    """Payloads that differ in a few tokens: much cheaper than drawn ones, and as wild."""
    tokens = _TOKEN.findall(data)[:2000]
    for _ in range(count if tokens else 0):
        changed = tokens.copy()
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(changed))
            match draw.randrange(5):
                case 0:
                    changed[place] = draw.choice(_TOKENS)
                case 1:
                    changed[place] = draw.choice(tokens)
                case 2:
                    changed.insert(place, draw.choice(_TOKENS))
                case 3:
                    changed[place : place + draw.randint(1, 4)] = []
                    changed = changed or [b""]
                case _:
                    start = draw.randrange(len(tokens))
                    changed[place:place] = tokens[start : start + draw.randint(1, 8)]
        yield b"".join(changed)


_TOKENS = rb"""
    { } [ ] , : " \ 0 -1 1e999 1e-999 1.5 9223372036854775808 18446744073709551616 NaN null true "" "x" "\ud800"
    "\u0000" "event_type" "items" "price" "order" 2026-11-23T23:59:60Z "0000-01-01T00:00:00Z" [] {} [[]] {"":{}}
    "a":1, "":0,
""".split()


ATTRIBUTES = st.dictionaries(
    st.sampled_from(["event_id", "schema_version", "source", "", "é"]),
    st.sampled_from(["", "1", "2", "0", "01", " 1", "9" * 5000, "x" * 128, "x" * 129, "\x00", "\U0001f600", "e-1"])
    | st.text(max_size=10),
    max_size=3,
)
