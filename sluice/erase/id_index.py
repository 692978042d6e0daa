"""Search for any of many ids in texts and bytes, at about the same cost for one id and for thousands. Without I/O.

A few ids are searched one after the other. Of many, each has a word by which it is looked up: a text is split into
words, and only ids whose word is there are searched.
"""

import html.entities
import itertools
import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from sluice.erase.encodings import encoded_forms

FEW = 8
"""Maximum number of ids that are searched one after the other, which is faster than to split a text into words."""

_JSON_ESCAPED = re.compile(r'["\\/\x00-\x1f]')
_WORD = re.compile("[0-9A-Za-z]+")
_WORDS_APART = bytes(byte if _WORD.fullmatch(chr(byte)) else 0x20 for byte in range(256))
_SMALL_LETTERS = string.ascii_lowercase.encode()

_ESCAPE_LETTERS = ("", "b", "f", "n", "r", "t")
r"""Letters of JSON's escapes: after `\n`, a word of the text has one more letter in its JSON."""

_ENTITIES = sorted((name for name in html.entities.html5 if not name.endswith(";")), key=len, reverse=True)
_OTHER_ESCAPES = re.compile(rf"%[0-9A-Fa-f]{{2}}|&(?:#[0-9]+|#[xX][0-9A-Fa-f]+|{'|'.join(_ENTITIES)})".encode())

_GRAM_BYTES = 3
_MIN_FORM_BYTES = _GRAM_BYTES


def longest_plain_part(text: str) -> str:
    """Return the longest part of a text that JSON writes as it is, unless it escapes more than it has to."""
    return max(_JSON_ESCAPED.split(text), key=len)


def _by_rarest(texts: Iterable[str], words: Callable[[str], Collection[str]]) -> dict[str, list[str]]:
    """Return texts by that of their words which the fewest of them have, or else the longest; by "" without words."""
    words_of = {text: words(text) for text in texts}
    counts = Counter(itertools.chain.from_iterable(map(set, words_of.values())))
    by_word: defaultdict[str, list[str]] = defaultdict(list)
    for text, of_text in words_of.items():
        by_word[min(of_text, key=lambda word: (counts[word], -len(word)), default="")].append(text)
    return by_word


def _without_small_letters(text: str) -> list[str]:
    keys = (word.encode().translate(None, _SMALL_LETTERS).decode() for word in _WORD.findall(text))
    return list(filter(None, keys))


class _Lookup:
    """Search of JSON for the parts of ids by words.

    Args:
        parts: Parts by one of their words.
        deleted: Characters that all words are without.
    """

    def __init__(self, parts: Mapping[str, Collection[str]], deleted: bytes = b"") -> None:
        letters = _ESCAPE_LETTERS if not deleted else ("",)
        self._parts: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for (word, of_word), letter in itertools.product(parts.items(), letters):
            self._parts[f"{letter}{word}".encode()] += (part.encode() for part in of_word)
        self._words = frozenset(self._parts)
        self._deleted = deleted

    def finds(self, json: bytes) -> bool:
        words = json.translate(_WORDS_APART, self._deleted).split()
        if self._words.isdisjoint(words):
            return False
        hits = self._words.intersection(words)
        return any(part in json for word in hits for part in self._parts[word])


class IdIndex:
    """Search for ids.

    Args:
        ids: The ids.
    """

    def __init__(self, ids: Collection[str]) -> None:
        self._few = list(ids) if len(ids) <= FEW else None
        self._by_word = _by_rarest(ids, _WORD.findall)
        self._without_word = self._by_word.pop("", [])
        self._words = frozenset(self._by_word)
        parts = sorted({longest_plain_part(value) for value in ids})
        # Most words of an event are its fields' names, in small letters: without these, few words remain.
        by_key = _by_rarest(parts, _without_small_letters)
        keys = {key: of_key for key, of_key in by_key.items() if key and len(of_key) <= FEW}
        rest = itertools.chain.from_iterable(of_key for key, of_key in by_key.items() if key not in keys)
        by_word = _by_rarest(rest, _WORD.findall)
        self._searched = [part.encode() for part in (parts if self._few is not None else by_word.pop("", []))]
        self._lookups = [_Lookup(keys, _SMALL_LETTERS)] if keys else []
        self._lookups += [_Lookup(by_word)] if by_word else []

    def candidates(self, text: str) -> Iterator[str]:
        """Yield the ids that are in a text and are not parts of longer words there, and maybe others in it."""
        searched: Iterable[str]
        if self._few is None:
            words = self._words.intersection(_WORD.findall(text))
            searched = itertools.chain(*(self._by_word[word] for word in words), self._without_word)
        else:
            searched = self._few
        return (value for value in searched if value in text)

    def may_be_in(self, json: bytes) -> bool:
        r"""Return whether JSON, or texts with JSON in them, may have an id as no part of a longer word.

        An id that JSON has as `\uXXXX` is not found.
        """
        if any(part in json for part in self._searched):
            return True
        return self._few is None and (
            any(lookup.finds(json) for lookup in self._lookups)
            or ((b"%" in json or b"&" in json) and self._finds_unescaped(json))
        )

    def _finds_unescaped(self, json: bytes) -> bool:
        unescaped = _OTHER_ESCAPES.sub(b" ", json)
        return any(lookup.finds(unescaped) for lookup in self._lookups)


class FormIndex:
    """Search for ids in all encodings that Python has, also as parts of longer words.

    Args:
        ids: The ids.
    """

    def __init__(self, ids: Collection[str]) -> None:
        forms = {form for value in ids for form in encoded_forms(value) if len(form) >= _MIN_FORM_BYTES}
        self._by_end: defaultdict[tuple[int, ...], list[bytes]] = defaultdict(list)
        for form in forms:
            self._by_end[tuple(form[-_GRAM_BYTES:])].append(form)
        self._all = list(forms) if len(ids) <= FEW else None

    def is_in(self, data: bytes) -> bool:
        """Return whether bytes contain an id in any encoding."""
        if self._all is not None:
            return any(form in data for form in self._all)
        ends = set(filter(self._by_end.__contains__, zip(data, data[1:], data[2:], strict=False)))
        return any(form in data for end in ends for form in self._by_end[end])
