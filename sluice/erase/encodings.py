"""Decoding of bytes into texts, for all encodings in which payloads arrive. Without I/O.

A dead letter may be UTF-16, an 8-bit text, gzip, base64, or a nesting of these. `Reader.read` undoes them;
`embedded` finds base64 and hexadecimal digits inside a text, and `spellings` its escapes.
"""

import base64
import binascii
import bz2
import codecs
import html
import lzma
import re
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from encodings.aliases import aliases
from typing import NamedTuple, Protocol

MAX_UNPACKED_BYTES = 32 * 2**20
"""Maximum decompressed bytes of one payload: three times the largest message. The rest is not read."""

MAX_NESTING = 6
"""Maximum number of nested encodings: base64 of gzip of base64 of gzip is four."""

_BOMS = {  # UTF-32's little-endian mark begins as UTF-16's does.
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    codecs.BOM_UTF8: "utf-8",
}
_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_EIGHT_BIT = ("cp1252", "latin-1")

_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd-\uffff\ud800-\udfff]")
"""Characters that do not occur in texts, except ESC in terminal output. Undecodable bytes become U+FFFD."""

_MAX_NO_TEXT_UTF8 = 0.1
_MAX_NO_TEXT = 0.02
_MIN_ZEROS = 0.1
"""Minimum share of zero bytes in UTF-16 and UTF-32: all syntax characters of JSON have them."""

_MIN_ASCII = 0.5
"""Minimum share of ASCII in an 8-bit text. Random bytes have 0.38; the syntax and the names of JSON are ASCII."""

_SAMPLE = 100_000
"""Number of characters by which a long text is judged."""

_DIGITS = re.compile(r"(?:[A-Za-z0-9+/_-]{60,}[ \t]*\r?\n[ \t]*)*[A-Za-z0-9+/_-]{8,}={0,2}")
"""Base64 or its URL-safe form, padded or not. Lines of 60 digits or more are continued: MIME has 76, PEM 64."""

_HEX = re.compile(r"(?:[0-9a-f]{2}|[0-9A-F]{2})+")
_MIXED = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9+/_-])", re.DOTALL)

_MIN_MIXED_BYTES = 24
"""Minimum size of decoded base64 that may be anything: no word of capitals, small letters and digits is as long."""

_MIN_HIDDEN_BYTES = 64
"""Minimum size of decoded base64 that is no text and counts as unreadable. A shorter one is a token or a digest."""

_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_UNESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_MAX_ESCAPING = 3


class DecodedTexts(NamedTuple):
    """Texts that were decoded from bytes.

    Attributes:
        texts: Possible texts; several if the encoding is uncertain.
        opaque: Reason why a part cannot be decoded; None if all parts can.
        is_packed: Whether the bytes have an unambiguous format.
    """

    texts: tuple[str, ...] = ()
    opaque: str | None = None
    is_packed: bool = False


class Embedded(NamedTuple):
    """Bytes that are encoded inside a text.

    Attributes:
        data: The bytes.
        is_hidden: Whether they are long and the whole text, so that binary data in them may hide an id.
    """

    data: bytes
    is_hidden: bool


class _Decompressor(Protocol):
    """Common interface of the decompressors of the standard library."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_FORMATS: dict[bytes, Callable[[], _Decompressor]] = {
    b"\x1f\x8b\x08": lambda: zlib.decompressobj(31),
    **{b"BZh%d1AY&SY" % level: bz2.BZ2Decompressor for level in range(1, 10)},
    b"\xfd7zXZ\x00": lambda: lzma.LZMADecompressor(memlimit=2**27),
}
_ERRORS = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)

_UNREAD_FORMATS = {
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"PK\x03\x04": "ZIP",
    b"Obj\x01": "Avro",
    b"PAR1": "Parquet",
    b"-----BEGIN PGP MESSAGE": "an encrypted PGP message",
}

_MARKS = (*_BOMS, *_FORMATS, *_UNREAD_FORMATS)


class Decoder:
    """Decodes the bytes of one payload and of embedded data, with a limit on their total decompressed size."""

    def __init__(self) -> None:
        self._left = MAX_UNPACKED_BYTES

    def read(self, data: bytes, nesting: int = 0) -> DecodedTexts:
        """Return the texts of bytes.

        Args:
            data: The bytes.
            nesting: Number of encodings that were decoded before.
        """
        if nesting > MAX_NESTING:
            return DecodedTexts(opaque=f"more than {MAX_NESTING} nested encodings", is_packed=True)
        for mark, name in _UNREAD_FORMATS.items():
            if data.startswith(mark):
                return DecodedTexts((data.decode("latin-1"),), f"{name} is not supported", is_packed=True)
        for mark, decompressor in _FORMATS.items():
            if data.startswith(mark):
                return self._unpacked(decompressor, data, nesting)
        return self._without_mark(data, nesting)

    def _without_mark(self, data: bytes, nesting: int) -> DecodedTexts:
        """Return the texts of plain text or of zlib data, whose header is ambiguous or missing."""
        inflated = self._unpacked(zlib.decompressobj, data, nesting) if _is_zlib(data) else DecodedTexts()
        if inflated.texts and inflated.opaque is None:
            return inflated
        if (texts := _texts(data)) or not data:
            return DecodedTexts(texts)
        if not inflated.texts:
            inflated = self._unpacked(lambda: zlib.decompressobj(-zlib.MAX_WBITS), data, nesting)
            if not inflated.texts or inflated.opaque:
                return DecodedTexts((data.decode("latin-1"),), f"{len(data)} bytes that are not text")
        return inflated

    def _unpacked(self, decompressor: Callable[[], _Decompressor], data: bytes, nesting: int) -> DecodedTexts:
        """Return the texts of compressed bytes; of damaged or huge data, of the part before the error or the limit."""
        unpacked, problem = bytearray(), None
        try:
            while data and problem is None:
                member = decompressor()
                part = member.decompress(data, self._left + 1)
                unpacked += part[: self._left]
                if len(part) > self._left:
                    problem = f"its decompressed size exceeds {MAX_UNPACKED_BYTES} bytes"
                elif not member.eof:
                    problem = "compressed data is truncated"
                self._left -= min(len(part), self._left)
                data = member.unused_data.lstrip(b"\0")
        except _ERRORS as error:
            problem = f"damaged compressed data: {error}"
        if not unpacked:
            return DecodedTexts(opaque=problem, is_packed=True)
        contents = self.read(bytes(unpacked), nesting + 1)
        return DecodedTexts(contents.texts, problem or contents.opaque, is_packed=True)


def _is_zlib(data: bytes) -> bool:
    """Return whether bytes begin as https://www.rfc-editor.org/rfc/rfc1950 requires, with a window of 32 KiB."""
    return data[:1] == b"\x78" and int.from_bytes(data[:2]) % 31 == 0


def _texts(data: bytes) -> tuple[str, ...]:
    """Return the possible texts of uncompressed bytes."""
    for mark, name in _BOMS.items():
        if data.startswith(mark) and _is_text(text := data.removeprefix(mark).decode(name, "replace"), _MAX_NO_TEXT):
            return (text,)
    readings = []
    try:
        readings += [text] if _is_text(text := data.decode(), _MAX_NO_TEXT_UTF8) else []
        is_utf8 = True
    except UnicodeDecodeError:
        is_utf8 = False
    if _is_wide(data):
        wide = (data.decode(name, "replace") for name in _WIDE)
        readings += [text for text in wide if _is_text(text, _MAX_NO_TEXT)]
    elif not is_utf8 and _is_mostly_ascii(data):
        narrow = {data.decode(name, "replace") for name in _EIGHT_BIT}
        readings += [text for text in sorted(narrow) if _is_text(text, _MAX_NO_TEXT)]
    return tuple(readings)


def _is_text(text: str, limit: float) -> bool:
    """Return whether a text has few invalid characters. Those at its ends may come from truncation."""
    text = text.strip("\x00\ufeff\ufffd")
    sample = text[:: 1 + len(text) // _SAMPLE]
    return bool(text) and len(_NO_TEXT.findall(sample)) <= max(1, limit * len(sample))


def _is_wide(data: bytes) -> bool:
    return data.count(0) >= _MIN_ZEROS * len(data)


def _is_mostly_ascii(data: bytes) -> bool:
    return sum(data.translate(_ASCII)) >= _MIN_ASCII * len(data)


_ASCII = bytes(32 <= byte < 127 or byte in b"\t\r\n" for byte in range(256))


def embedded_bytes(text: str) -> Iterator[Embedded]:
    """Yield the bytes of base64 and hexadecimal digits inside a text, also of digits by chance."""
    whole = text.strip()
    for run in _DIGITS.finditer(text):
        digits = "".join(run[0].split()).rstrip("=")
        if _HEX.fullmatch(digits):
            yield Embedded(bytes.fromhex(digits), is_hidden=False)
            continue
        padded = digits.translate(_STANDARD) + "=" * (-len(digits) % 4)
        try:
            data = base64.b64decode(padded)
        except binascii.Error:  # A digit too many: it is no base64.
            continue
        is_mixed = bool(_MIXED.match(digits))
        if _may_be_read(data) or (is_mixed and len(data) >= _MIN_MIXED_BYTES):
            yield Embedded(data, is_mixed and len(data) >= _MIN_HIDDEN_BYTES and run[0] == whole)


def _may_be_read(data: bytes) -> bool:
    """Return whether bytes are plausible, as most words are not base64."""
    return data.startswith(_MARKS) or _is_zlib(data) or _is_wide(data) or _is_mostly_ascii(data)


_STANDARD = str.maketrans("-_", "+/")


def unescaped_variants(text: str) -> Iterator[str]:
    """Yield a text, and the text without escapes of JSON, URLs and HTML."""
    yield text
    unescaped = text
    for _ in range(_MAX_ESCAPING):
        if "\\" not in unescaped:
            break
        unescaped = _ESCAPE.sub(_unescape, unescaped).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        yield unescaped
    if "%" in text:
        yield urllib.parse.unquote_plus(text)
    if "&" in text:
        yield html.unescape(text)


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else _UNESCAPED.get(match[2], match[2])


def encoded_forms(text: str) -> set[bytes]:
    """Return a text in every encoding that Python has, and in CESU-8, which has surrogates in UTF-8."""
    utf16 = text.encode("utf-16-be")
    units = (utf16[start : start + 2].decode("utf-16-be", "surrogatepass") for start in range(0, len(utf16), 2))
    forms = {"".join(units).encode(errors="surrogatepass")}
    for name in set(aliases.values()):
        try:
            forms.add(text.encode(name))
        except (UnicodeError, LookupError):  # It has no such character, or is not of texts.
            continue
    return forms
