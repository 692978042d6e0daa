"""Payloads are read in all of their encodings."""

import base64
import bz2
import gzip
import lzma
import random
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.erase.encodings import MAX_UNPACKED_BYTES, Decoder, embedded_bytes, encoded_forms, unescaped_variants

TEXT = '{"event_type": "wish", "whom": "Zoë", "note": "for €5"}'

NOISE = random.Random(1).randbytes(300)


def latin(encoding: str) -> bytes:
    return TEXT.replace("€", "£").encode(encoding)


PLAIN = {
    "UTF-8": TEXT.encode(),
    "UTF-8 with BOM": TEXT.encode("utf-8-sig"),
    "UTF-16 with BOM": TEXT.encode("utf-16"),
    "UTF-16 with BOM, big-endian": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "UTF-16-LE": TEXT.encode("utf-16-le"),
    "UTF-16-BE": TEXT.encode("utf-16-be"),
    "UTF-32 with BOM": TEXT.encode("utf-32"),
    "UTF-32 with BOM, big-endian": b"\x00\x00\xfe\xff" + TEXT.encode("utf-32-be"),
    "UTF-32-LE": TEXT.encode("utf-32-le"),
    "UTF-32-BE": TEXT.encode("utf-32-be"),
    "second line of a UTF-16-LE file": b"\x00" + TEXT.encode("utf-16-le"),
    "second line of a UTF-32-LE file": b"\x00\x00\x00" + TEXT.encode("utf-32-le"),
    "cut UTF-16": TEXT.encode("utf-16")[:-1],
    "latin-1": latin("latin-1"),
    "cp1252": TEXT.encode("cp1252"),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda data: data,
    "gzip": gzip.compress,
    "gzip of two members": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]),
    "zlib": zlib.compress,
    "zlib, fast": lambda data: zlib.compress(data, 1),
    "deflate": lambda data: zlib.compress(data, wbits=-15),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "gzip twice": lambda data: gzip.compress(gzip.compress(data)),
}
WRITTEN: dict[str, Callable[[bytes], bytes]] = {
    "bytes": lambda data: data,
    "base64": base64.b64encode,
    "base64 in lines": base64.encodebytes,
    "base64 without padding": lambda data: base64.urlsafe_b64encode(data).rstrip(b"="),
    "base64 twice": lambda data: base64.b64encode(base64.b64encode(data)),
    "base64 of gzip of base64": lambda data: base64.b64encode(gzip.compress(base64.b64encode(data))),
    "hexadecimal": lambda data: data.hex().encode(),
    "a data URL": lambda data: b"data:application/json;base64," + base64.b64encode(data),
}


def everything(data: bytes, reader: Decoder | None = None, nesting: int = 0) -> list[str]:
    """All texts of a payload and of what is embedded in them."""
    reader = reader or Decoder()
    texts = list(reader.read(data, nesting).texts)
    for text in texts[:]:
        for part in embedded_bytes(text):
            texts += everything(part.data, reader, nesting + 1)
    return texts


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("plain", PLAIN)
def test_text_is_read_in_any_supported_encoding(plain: str, packed: str, written: str) -> None:
    data = WRITTEN[written](PACKED[packed](PLAIN[plain]))
    assert any('"whom": "Zoë"' in text for text in everything(data))
    assert Decoder().read(data).opaque is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (NOISE, "300 bytes that are not text"),
        (bytes(range(256)), "256 bytes that are not text"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 30, "Zstandard is not supported"),
        (b"PK\x03\x04" + b"x" * 30, "ZIP is not supported"),
        (gzip.compress(bytes(2 * MAX_UNPACKED_BYTES)), f"exceeds {MAX_UNPACKED_BYTES} bytes"),
        (gzip.compress(gzip.compress(bytes(2 * MAX_UNPACKED_BYTES))), f"exceeds {MAX_UNPACKED_BYTES} bytes"),
        (gzip.compress(TEXT.encode() * 99)[:-20], "truncated"),
        (gzip.compress(TEXT.encode())[:10] + b"\xff" * 30, "damaged compressed data"),
        (gzip.compress(NOISE), "300 bytes that are not text"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_unreadable_content_has_a_reason(data: bytes, reason: str) -> None:
    assert reason in str(Decoder().read(data).opaque)


@pytest.mark.parametrize(
    "text",
    ["", "healthcheck", "ping", "hello, world", "müsli", "\x1b[1mbold\x1b[0m", "x^2 + y^2 = z^2", "BZh", "\t\r\n", "7"],
)
def test_plain_text_is_not_mistaken_for_an_encoding(text: str) -> None:
    assert Decoder().read(text.encode()) == ((text,) if text else (), None, False)
    assert not any(part.is_hidden for part in embedded_bytes(text))


def test_long_base64_of_no_text_hides_something_and_digests_do_not() -> None:
    assert [part.is_hidden for part in embedded_bytes(base64.b64encode(bytes(range(100))).decode())] == [True]
    digests = "0" * 128, base64.b64encode(NOISE[:32]).decode(), "a-slug-of-many-words-" * 9
    assert not any(part.is_hidden for digest in digests for part in embedded_bytes(digest))


@pytest.mark.parametrize(
    "spelled",
    [
        "Zo\\u00eb",
        "\\\\u0022Zo\\\\u00eb\\\\u0022",
        "whom=Zo%C3%AB&of=",
        "Zo&#235;",
        'a "Zoë"',
        "\\ud83d\\ude00Zo\\u00EB",
    ],
)
def test_a_text_is_searched_without_its_escapes(spelled: str) -> None:
    assert any("Zoë" in spelling for spelling in unescaped_variants(spelled))


def test_id_is_recognized_in_every_encoding_of_python() -> None:
    forms = encoded_forms("Аня😀")
    assert "Аня😀".encode("gb18030") in forms
    assert "Аня".encode("koi8-r") in encoded_forms("Аня")
    assert "Аня".encode() + b"\xed\xa0\xbd\xed\xb8\x80" in forms


@given(st.binary() | st.binary().map(gzip.compress) | st.text().map(lambda text: text.encode("utf-16", "replace")))
def test_any_bytes_are_read(data: bytes) -> None:
    contents = Decoder().read(data)
    assert contents.texts or contents.opaque or contents.is_packed or not data
    everything(data)
