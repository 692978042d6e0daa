"""Classification of messages by whether they belong to persons, by ids in payload, attributes, keys and event id."""

import enum
import functools
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from functions.core.dead_letters import EventRejected
from functions.core.decode import decode
from functions.core.message import Message
from functions.events import EventType, event_types
from sluice.erase.encodings import DecodedTexts, Decoder, embedded_bytes, unescaped_variants
from sluice.erase.id_index import FEW, FormIndex, IdIndex, longest_plain_part

MIN_LONG = 8
"""Minimum characters of an unambiguous id, which counts inside a longer text and as a number of any field."""

MAX_BYTES = 2_000_000
"""Maximum size of all ids as JSON: a statement has each up to three times, escaped, in a request of 10 MB."""

_PATTERN_CHARACTERS = 50_000
"""Maximum size of a regular expression of BigQuery: RE2 rejects one of some 100 000 characters as too large."""

_VALUE = re.compile(rb'"[^"]|-?[1-9]')
"""Beginning of a value with which a person field decides whose an event is: no empty text, zero, struct or boolean."""


class _Line(msgspec.Struct, gc=False):
    """The part of an envelope that decides whether it has to be parsed."""

    event_id: str
    event_type: str | None = None
    payload: str = "{}"


_decode_line = msgspec.json.Decoder(_Line).decode


class Ownership(enum.IntEnum):
    """Says whether a message belongs to the person."""

    NO = enum.auto()
    DOUBTFUL = enum.auto()
    """The message may belong to the person and is kept: another person's event names the person, or it has the id only
    inside a longer text, or a short id in a field of any meaning."""
    UNPARSED = enum.auto()
    """The message is not JSON, but has the id in quotes, after its field, or an unambiguous one."""
    YES = enum.auto()


class Verdict(NamedTuple):
    """Result of the classification of a message.

    Attributes:
        ownership: Whether the message belongs to the person.
        opaque: Reason why a part cannot be inspected, unless another part shows that the message belongs to the person.
    """

    ownership: Ownership
    opaque: str | None = None

    @property
    def belongs_to_person(self) -> bool:
        """Return whether the message is erased."""
        return self.ownership >= Ownership.UNPARSED

    def __or__(self, other: "Verdict") -> "Verdict":
        """Return the combined verdict on two parts of a message."""
        return Verdict(max(self.ownership, other.ownership), self.opaque or other.opaque)


_NO = Verdict(Ownership.NO)


class _Mention(enum.Flag):
    """Certainty with which a value mentions an id."""

    NONE = 0
    WEAK = enum.auto()
    """The value contains the id in a way that may be a coincidence."""
    STRONG = enum.auto()
    """The id is in its field, or too long for a coincidence."""
    SURE = enum.auto()
    """The id is the whole value: in its field, as a text, or as a long number."""


_NAMED = _Mention.WEAK | _Mention.STRONG | _Mention.SURE


def person_fields() -> list[str]:
    """Return the person fields of all event types."""
    return sorted({event_type.person_field for event_type in event_types().values() if event_type.person_field})


def size_of(ids: Mapping[str, Collection[str]], event_ids: Collection[str]) -> int:
    """Return the size in bytes of all ids as JSON, of which a run takes `MAX_BYTES`."""
    return len(msgspec.json.encode([*map(list, ids.values()), list(event_ids)]))


class Persons:
    """The persons to erase.

    A message belongs to them if it belongs to one of them. The rules are the same for each, whoever the others are.

    Args:
        ids: Ids of persons by person field.
        event_ids: Ids of events that belong to a person whatever they contain.

    Attributes:
        traces: Regular expressions of BigQuery; one of them matches every JSON payload with an id in it.
        mentions: Regular expressions of BigQuery for texts that name a person; none if all ids are short.
    """

    def __init__(self, ids: Mapping[str, Collection[str]], event_ids: Collection[str] = ()) -> None:
        self.ids = {field: frozenset(values) for field, values in ids.items()}
        self.event_ids = frozenset(event_ids)
        self._types: Mapping[str, EventType] = event_types()
        self._values = frozenset(itertools.chain.from_iterable(self.ids.values()))
        ordered = sorted(self._values)
        # Any character of JSON may be written as an escape; some have to be.
        self.traces = [*_alternatives([r"\\u", *(re.escape(longest_plain_part(value)) for value in ordered)])]
        apart = r"(?:^|[^\pL\pN])(?:%s)(?:$|[^\pL\pN])"
        self.mentions = [apart % part for part in _alternatives(map(re.escape, filter(_is_long, ordered)))]
        self._index = IdIndex(ordered)
        self._forms = FormIndex(ordered)
        self._decode_owner = {
            name: event_type.person_field and _owner_decoder(event_type.person_field)
            for name, event_type in self._types.items()
        }

    @property
    def are_many(self) -> bool:
        """Return whether they are more than are searched one after the other."""
        return len(self._values) > FEW

    def is_named_in(self, event_id: str) -> bool:
        """Return whether the id of an event is or contains the id of a person."""
        return event_id in self._values or self._names_other_than("", event_id)

    def may_be_in(self, ndjson: bytes) -> bool:
        """Return whether the envelopes in NDJSON must be parsed."""
        return self._has_signs(ndjson) or not all(map(self._is_of_a_type, ndjson.splitlines()))

    def _has_signs(self, ndjson: bytes) -> bool:
        return b"\\u" in ndjson or b'"payload_base64"' in ndjson or self._index.may_be_in(ndjson)

    def _is_of_a_type(self, line: bytes) -> bool:
        """Return whether a line is an event that its type shows not to belong to a person, without parsing.

        An envelope has a type only if its payload is JSON.
        """
        try:
            envelope = _decode_line(line)
            if envelope.event_type not in self._decode_owner or envelope.event_id in self.event_ids:
                return False
            decode_owner = self._decode_owner[envelope.event_type]
            return not decode_owner or _VALUE.match(decode_owner(envelope.payload).value) is not None
        except (msgspec.DecodeError, RecursionError):
            return False

    def judge(self, message: Message) -> Verdict:
        """Return whether a message belongs to the person.

        An event of a type with a person field is classified by that field; an event of a type without one belongs to
        nobody. If such an event, its attributes, its ordering key or its event id name the person nevertheless, it is
        doubtful.

        An event without its person field, or of an unknown type, belongs to the person with the id as any text, as the
        number of its field, or as a long number; also in encoded parts, attributes and keys. In a text that is not
        JSON, the id must be in quotes, after its field, or long.
        """
        if message.event_id in self.event_ids:
            return Verdict(Ownership.YES)
        verdict, is_owned = self._event(message.data) or self._payload(message.data, Decoder())
        if verdict.belongs_to_person:
            return Verdict(verdict.ownership)
        places = [message.attributes, message.ordering_key, message.event_id]
        if is_owned:
            return verdict | self._of_others(places)
        verdict |= self._value(places, Decoder(), are_texts=True)
        return Verdict(verdict.ownership) if verdict.belongs_to_person else verdict

    def _event(self, data: bytes) -> tuple[Verdict, bool] | None:
        """Return the verdict on a payload that is plain JSON, and whether its type decides it."""
        try:
            verdict = self._of_its_type(decode(data))
        except EventRejected:
            return None
        return verdict and (verdict, True)

    def _payload(self, data: bytes, reader: Decoder, nesting: int = 0) -> tuple[Verdict, bool]:
        """Return the verdict on bytes, and whether they are an event whose type decides it."""
        return self._contents(reader.read(data, nesting), data, reader, nesting)

    def _contents(self, contents: DecodedTexts, data: bytes, reader: Decoder, nesting: int) -> tuple[Verdict, bool]:
        verdict = Verdict(Ownership.NO, contents.opaque)
        for text in contents.texts:
            text_verdict, is_owned = self._text(text, reader, nesting)
            if is_owned:
                return text_verdict, True
            verdict |= text_verdict
        if verdict.ownership is Ownership.NO and self._forms.is_in(data):
            verdict |= Verdict(Ownership.DOUBTFUL)
        return verdict, False

    def _text(self, text: str, reader: Decoder, nesting: int) -> tuple[Verdict, bool]:
        try:
            event = decode(text.encode(errors="surrogatepass"))
        except EventRejected:
            return self._no_json(text, reader, nesting), False
        if (verdict := self._of_its_type(event)) is not None:
            return verdict, True
        return self._value(event, reader, nesting), False

    def _of_its_type(self, event: dict[str, Any]) -> Verdict | None:
        """Return the verdict on an event by its type; None if the type does not decide it."""
        name = event.get("event_type")
        event_type = self._types.get(name) if isinstance(name, str) else None
        if event_type is None:
            return None
        if event_type.person_field is None:
            return self._of_others(event)
        owner = event.get(event_type.person_field)
        if not owner or isinstance(owner, bool | dict | list):
            return None
        if str(owner) in self.ids.get(event_type.person_field, ()):
            return Verdict(Ownership.YES)
        if str(owner) not in self._values:
            return self._of_others(event)
        # The same id of another field is another person's. It may name a third person.
        rest = {name: value for name, value in event.items() if name != event_type.person_field}
        is_named = self._names_other_than(str(owner), str(owner))
        return self._of_others(rest) | Verdict(Ownership.DOUBTFUL if is_named else Ownership.NO)

    def _no_json(self, text: str, reader: Decoder, nesting: int) -> Verdict:
        verdict = _NO
        for spelling in unescaped_variants(text):
            verdict |= self._of_text(spelling)
            verdict |= self._embedded(spelling, reader, nesting)
        return verdict

    def _of_text(self, text: str) -> Verdict:
        """Return the verdict on a text that is not JSON, without what is encoded in it."""
        candidates = list(self._index.candidates(text))
        if any(self._pattern_in_no_json(value).search(text) for value in candidates):
            return Verdict(Ownership.UNPARSED)
        is_mentioned = any(_long_pattern(value).search(text) for value in filter(_is_long, candidates))
        is_mentioned = is_mentioned or any(_short_pattern(value).search(text) for value in candidates)
        return Verdict(Ownership.DOUBTFUL) if is_mentioned else _NO

    def _pattern_in_no_json(self, value: str) -> re.Pattern[str]:
        """Return the pattern of an id by which a text that is not JSON belongs to the person."""
        return _pattern_in_no_json(value, tuple(field for field, values in self.ids.items() if value in values))

    def _embedded(self, text: str, reader: Decoder, nesting: int) -> Verdict:
        """Return the verdict on bytes that are encoded inside a text."""
        verdict = _NO
        for part in embedded_bytes(text):
            contents = reader.read(part.data, nesting + 1)
            if contents.opaque is None or contents.is_packed or part.is_hidden:
                verdict |= self._contents(contents, part.data, reader, nesting + 1)[0]
        return verdict

    def _value(self, value: object, reader: Decoder, nesting: int = 0, *, are_texts: bool = False) -> Verdict:
        """Return the verdict on a value without a person field.

        Args:
            value: Value of JSON.
            reader: Reads what is encoded in it.
            nesting: Number of encodings that it was in.
            are_texts: Whether all values are texts, so that a short text of digits is no more than a short number.
        """
        verdict = _NO
        for field, inner in _values(value):
            mention = self._mention(field, inner, are_texts=are_texts)
            if _Mention.SURE in mention:
                verdict |= Verdict(Ownership.YES)
            elif mention:
                verdict |= Verdict(Ownership.DOUBTFUL)
            if field is not None and isinstance(inner, str) and len(inner) >= MIN_LONG:
                if inner.lstrip()[:1] in {"{", "["}:
                    verdict |= self._text(inner, reader, nesting + 1)[0]
                else:
                    for spelling in unescaped_variants(inner):
                        verdict |= self._embedded(spelling, reader, nesting)
        return verdict

    def _of_others(self, value: object) -> Verdict:
        """Return the verdict on a value that does not belong to the person: whether it names the person."""
        encoded = msgspec.json.encode(value)
        if not self._index.may_be_in(encoded):
            return _NO
        mentions = (self._mention(field, inner) for field, inner in _values(value))
        return Verdict(Ownership.DOUBTFUL if any(_Mention.STRONG in mention for mention in mentions) else Ownership.NO)

    def _mention(self, field: str | None, value: object, *, are_texts: bool = False) -> _Mention:
        text = str(value)
        is_long = len(text) >= MIN_LONG
        if text in self._values:
            if field is None:  # A field's name may be the id by coincidence: `status`.
                return _Mention.WEAK | (_Mention.STRONG if is_long else _Mention.NONE)
            if text in self.ids.get(field, ()) or is_long:
                return _NAMED
            is_text = isinstance(value, str) and not (are_texts and text.isdecimal())
            return _Mention.WEAK | (_Mention.SURE if is_text else _Mention.NONE)
        if not isinstance(value, str):
            return _Mention.NONE
        if self._names_other_than("", value):
            return _Mention.WEAK | _Mention.STRONG
        variants = unescaped_variants(value)
        is_weak = any(_short_pattern(other).search(text) for text in variants for other in self._index.candidates(text))
        return _Mention.WEAK if is_weak else _Mention.NONE

    def _names_other_than(self, value: str, text: str) -> bool:
        """Return whether a text contains a long id, apart from one value, as no part of a longer word."""
        return any(
            _long_pattern(other).search(spelling)
            for spelling in unescaped_variants(text)
            for other in self._index.candidates(spelling)
            if other != value and _is_long(other)
        )


def _owner_decoder(field: str) -> Callable[[str], Any]:
    """Return a decoder of payloads whose result has the JSON of a field as `value`: of its own, not of a nested one."""
    owner = msgspec.defstruct("Owner", [("value", msgspec.Raw, msgspec.Raw())], rename={"value": field}, gc=False)
    return msgspec.json.Decoder(owner).decode


def _is_long(value: str) -> bool:
    return len(value) >= MIN_LONG


def _alternatives(patterns: Iterable[str]) -> Iterator[str]:
    """Yield alternations of regular expressions, none of which is too large for BigQuery."""
    joined: list[str] = []
    size = 0
    for pattern in patterns:
        size += len(pattern) + 1
        if joined and size > _PATTERN_CHARACTERS:
            yield "|".join(joined)
            joined, size = [], len(pattern) + 1
        joined.append(pattern)
    if joined:
        yield "|".join(joined)


@functools.lru_cache(10_000)
def _pattern_in_no_json(value: str, fields: Sequence[str]) -> re.Pattern[str]:
    patterns = [f'"{re.escape(value)}"']
    if _is_long(value):
        patterns.append(_apart(value, r"[\w-]"))
    patterns += (rf'"{re.escape(field)}"\s*:\s*"?{re.escape(value)}(?![\w.-])' for field in fields)
    return re.compile("|".join(patterns))


@functools.lru_cache(10_000)
def _long_pattern(value: str) -> re.Pattern[str]:
    return re.compile(_apart(value, r"[^\W_]"))


@functools.lru_cache(10_000)
def _short_pattern(value: str) -> re.Pattern[str]:
    return re.compile(_apart(value, r"[\w-]"))


def _apart(text: str, neighbours: str) -> str:
    return f"(?<!{neighbours}){re.escape(text)}(?!{neighbours})"


def _values(value: Any, field: str = "") -> Iterator[tuple[str | None, Any]]:  # noqa: ANN401 - any value of JSON
    """Return the texts and numbers of a value, each with the innermost field around it; fields' names with None."""
    match value:
        case dict():
            for name, inner in value.items():
                yield None, name
                yield from _values(inner, name)
        case list():
            for inner in value:
                yield from _values(inner, field)
        case bool() | None:
            pass
        case _:
            yield field, value
