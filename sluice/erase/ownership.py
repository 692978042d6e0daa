"""Classification of messages by whether they belong to a person, by ids in payload, attributes, keys and event id."""

import enum
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from functions.core.dead_letters import EventRejected
from functions.core.decode import decode
from functions.core.message import Message
from functions.events import EventType, event_types
from sluice.erase.encodings import DecodedTexts, Decoder, embedded_bytes, encoded_forms, unescaped_variants

MIN_LONG = 8
"""Minimum characters of an unambiguous id, which counts inside a longer text and as a number of any field."""

_MIN_FORM_BYTES = 3
_ESCAPED = re.compile(r'["\\/\x00-\x1f]')
_TYPE_OF_LINE = re.compile(rb'\{"event_id":("(?:[^"\\]++|\\.)*+"),"event_type":"(\w+)","message_id":')
"""Pattern of the beginning of an envelope, as the archive's writer orders its fields."""


class Ownership(enum.IntEnum):
    """Whether a message belongs to the person."""

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
        """Whether the message is erased."""
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


class Person:
    """The person to erase.

    Args:
        ids: The person's ids by person field.
        event_ids: Ids of events that belong to the person whatever they contain.

    Attributes:
        traces: Regular expression of BigQuery that matches every JSON payload with an id in it.
        mentions: Regular expression of BigQuery for texts that name the person; None if all ids are short.
    """

    def __init__(self, ids: Mapping[str, str], event_ids: Collection[str] = ()) -> None:
        self.ids = dict(ids)
        self.event_ids = frozenset(event_ids)
        self._types: Mapping[str, EventType] = event_types()
        self._values = set(self.ids.values())
        # Any character of JSON may be written as an escape; some have to be.
        plain = [max(_ESCAPED.split(value), key=len) for value in self._values]
        self.traces = "|".join([*(re.escape(text) for text in plain), r"\\u"])
        mentions = [rf"(?:^|[^\pL\pN]){re.escape(value)}(?:$|[^\pL\pN])" for value in self._long()]
        self.mentions = "|".join(mentions) or None
        self._pieces = [text.encode() for text in plain]
        self._signs = [*self._pieces, b"\\u", b'"payload_base64"']
        self._encoded_event_ids = frozenset(msgspec.json.encode(event_id) for event_id in self.event_ids)
        self._person_signs = {
            name.encode(): _quoted_sign(event_type.person_field) for name, event_type in self._types.items()
        }
        self._search = re.compile("|".join(self._erasing_patterns())).search
        self._search_long = re.compile("|".join(_apart(value, r"[^\W_]") for value in self._long()) or "(?!)").search
        self._search_short = re.compile("|".join(_apart(value, r"[\w-]") for value in self._values)).search
        self._forms = [form for v in self._values for form in encoded_forms(v) if len(form) >= _MIN_FORM_BYTES]

    def _long(self) -> list[str]:
        return [value for value in self._values if len(value) >= MIN_LONG]

    def _erasing_patterns(self) -> Iterator[str]:
        """Yield the patterns by which a text that is not JSON belongs to the person."""
        for value in self._values:
            yield f'"{re.escape(value)}"'
        for value in self._long():
            yield _apart(value, r"[\w-]")
        for field, value in self.ids.items():
            yield rf'"{re.escape(field)}"\s*:\s*"?{re.escape(value)}(?![\w.-])'

    def may_be_in(self, ndjson: bytes) -> bool:
        """Return whether the envelopes in NDJSON must be parsed."""
        return self._has_signs(ndjson) or not all(map(self._is_of_a_type, ndjson.splitlines()))

    def _has_signs(self, ndjson: bytes) -> bool:
        return any(sign in ndjson for sign in self._signs)

    def _is_of_a_type(self, line: bytes) -> bool:
        """Return whether a line is an event that its type shows not to belong to the person, without parsing.

        An envelope has a type only if its payload is JSON.
        """
        match = _TYPE_OF_LINE.match(line)
        if match is None or match[2] not in self._person_signs or match[1] in self._encoded_event_ids:
            return False
        sign = self._person_signs[match[2]]
        return sign is None or sign in line

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
        if verdict.ownership is Ownership.NO and any(form in data for form in self._forms):
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
        if self.ids.get(event_type.person_field) == str(owner):
            return Verdict(Ownership.YES)
        if str(owner) in self._values:  # The same id of another field is another person's.
            event = {name: value for name, value in event.items() if name != event_type.person_field}
        return self._of_others(event)

    def _no_json(self, text: str, reader: Decoder, nesting: int) -> Verdict:
        verdict = _NO
        for spelling in unescaped_variants(text):
            if self._search(spelling):
                verdict |= Verdict(Ownership.UNPARSED)
            elif self._is_mentioned(spelling):
                verdict |= Verdict(Ownership.DOUBTFUL)
            verdict |= self._embedded(spelling, reader, nesting)
        return verdict

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
        if not any(piece in encoded for piece in self._pieces):
            return _NO
        mentions = (self._mention(field, inner) for field, inner in _values(value))
        return Verdict(Ownership.DOUBTFUL if any(_Mention.STRONG in mention for mention in mentions) else Ownership.NO)

    def _mention(self, field: str | None, value: object, *, are_texts: bool = False) -> _Mention:
        text = str(value)
        is_long = len(text) >= MIN_LONG
        if text in self._values:
            if field is None:  # A field's name may be the id by coincidence: `status`.
                return _Mention.WEAK | (_Mention.STRONG if is_long else _Mention.NONE)
            if self.ids.get(field) == text or is_long:
                return _NAMED
            is_text = isinstance(value, str) and not (are_texts and text.isdecimal())
            return _Mention.WEAK | (_Mention.SURE if is_text else _Mention.NONE)
        if not isinstance(value, str):
            return _Mention.NONE
        if any(map(self._search_long, unescaped_variants(value))):
            return _Mention.WEAK | _Mention.STRONG
        return _Mention.WEAK if any(map(self._search_short, unescaped_variants(value))) else _Mention.NONE

    def _is_mentioned(self, text: str) -> bool:
        return bool(self._search_long(text) or self._search_short(text))


def _quoted_sign(field: str | None) -> bytes | None:
    """Return what the name of a field is in the payload of an envelope: a text in JSON."""
    return None if field is None else rf"\"{field}\"".encode()


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
