"""Sources: what is read of files, and what is said where one cannot be read."""

import bz2
import gzip
import io
import lzma
import os
import pathlib
from typing import NoReturn

import pytest

from functions.files import sources
from functions.files.sources import Line, Source, Unreadable, find


def no_storage() -> NoReturn:
    raise AssertionError("files need no client")


def files(*names: pathlib.Path | str) -> list[Source]:
    return find([str(name) for name in names], no_storage)


def test_each_file_is_read_once_and_in_the_order_of_names(tmp_path: pathlib.Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).write_text(f"{{{name}}}\n")
    sources = files(tmp_path / "c", tmp_path, tmp_path / "[ab]")
    assert [pathlib.Path(source.name).name for source in sources] == ["a", "b", "c"]
    assert [line.data for source in sources for line in source.lines()] == [b"{a}", b"{b}", b"{c}"]


def test_a_file_of_several_names_is_read_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    names = ("a", "a/x", "./a/../a/x", tmp_path / "a", "link", "link/x")
    assert [source.name for source in files(*names)] == ["a/x"]


def test_a_file_may_have_the_name_of_a_glob(tmp_path: pathlib.Path) -> None:
    (tmp_path / "[1].ndjson").write_text("{}")
    assert len(files(tmp_path / "[1].ndjson")) == 1


@pytest.mark.parametrize("compress", [False, True])
def test_lines_keep_their_numbers_and_lose_nothing_but_white_space(tmp_path: pathlib.Path, *, compress: bool) -> None:
    text = b' {"a": 1} \r\n\n \t\n\xff\n{"b": 2}'
    file = tmp_path / "events"
    file.write_bytes(gzip.compress(text) if compress else text)
    [source] = files(file)
    assert list(source.lines()) == [
        Line(str(file), 1, b'{"a": 1}'),
        Line(str(file), 4, b"\xff"),
        Line(str(file), 5, b'{"b": 2}'),
    ]


def test_progress_counts_stored_bytes_up_to_the_size(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "events.gz"
    file.write_bytes(gzip.compress(b"".join(b"{" + os.urandom(500).hex().encode() + b"\n" for _ in range(5_000))))
    sizes: list[int] = []
    [source] = files(file)
    assert sum(1 for _ in source.lines(sizes.append)) == 5_000
    assert len(sizes) > 2
    assert sum(sizes) == source.size == file.stat().st_size


@pytest.mark.parametrize("compress", [False, True])
def test_a_pipe_is_read_to_its_end(*, compress: bool) -> None:
    text = b'{"a": 1}\n' * 2_500
    reading, writing = os.pipe()
    os.write(writing, gzip.compress(text) if compress else text)
    os.close(writing)
    assert len(list(Source("-", 0, lambda: io.FileIO(reading)).lines())) == 2_500


def test_named_pipe_loses_no_lines() -> None:
    """A shell gives the output of a command so: sluice backfill <(zstdcat events.zst)."""
    reading, writing = os.pipe()
    os.write(writing, b'{"a": 1}\n')
    os.close(writing)
    [source] = files(pathlib.Path(f"/dev/fd/{reading}"))
    assert [line.data for line in source.lines()] == [b'{"a": 1}']
    os.close(reading)


def test_an_empty_file_has_no_lines(tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").touch()
    [source] = files(tmp_path)
    assert list(source.lines()) == []


@pytest.mark.parametrize("name", ["missing", "miss*", "folder"])
def test_missing_source_is_named(tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(Unreadable, match=rf"/{name.replace('*', r'\*')}: no file, folder or object has this name"):
        files(tmp_path / name)


def test_unreadable_file_is_reported_immediately(tmp_path: pathlib.Path) -> None:
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Unreadable, match="No such file"):
        files(tmp_path)


def test_error_without_a_text_has_its_name() -> None:
    def time_out() -> NoReturn:
        raise TimeoutError

    with pytest.raises(Unreadable, match=r"^events: TimeoutError$"):
        next(Source("events", 0, time_out).lines())


def test_overlong_line_is_rejected_before_it_fills_the_memory(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 100)
    (tmp_path / "events").write_bytes(b"{" * 99 + b"\n" + b"x" * 101)
    [source] = files(tmp_path)
    lines = source.lines()
    assert next(lines).data == b"{" * 99
    with pytest.raises(Unreadable, match=r"line 2 has more than 100 bytes; is this NDJSON\?"):
        next(lines)


TEXT = "".join(f'{{"name": "東京 {number}"}}\n' for number in range(3))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("compress", [False, True])
def test_file_in_another_encoding_is_rejected_by_name(tmp_path: pathlib.Path, encoding: str, *, compress: bool) -> None:
    data = TEXT.encode(encoding)
    (tmp_path / "events").write_bytes(gzip.compress(data) if compress else data)
    [source] = files(tmp_path)
    with pytest.raises(Unreadable, match=r"/events: is not in UTF-8"):
        next(source.lines())


def test_byte_order_mark_of_another_encoding_is_rejected(tmp_path: pathlib.Path) -> None:
    (tmp_path / "events").write_bytes("\ufeff東京".encode("utf-16-be"))
    [source] = files(tmp_path)
    with pytest.raises(Unreadable, match=r"is not in UTF-8"):
        next(source.lines())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"Obj\x01\x04\x14avro.codec", "is Avro"),
        (b"PAR1\x15\x04", "is Parquet"),
        (bz2.compress(b"{}\n"), "is bzip2"),
        (lzma.compress(b"{}\n"), "is xz"),
        (b'[\n  {"a": 1},\n  {"a": 2}\n]\n', "is a JSON array; write one event a line: jq -c"),
        (b'[{"a": 1}]', "is a JSON array"),
        (b'{"a": 1,\n "b": 2}\n', "is indented JSON; write one event a line: jq -c"),
        (b'{\n  "a": 1\n}\n', "is indented JSON; write one event a line: jq -c"),
        (b"id,name\n1,a\n", "is not NDJSON: byte 0 begins a line that is no JSON object, expected {; is it CSV"),
    ],
)
def test_file_that_is_not_ndjson_is_rejected_by_name(tmp_path: pathlib.Path, data: bytes, why: str) -> None:
    (tmp_path / "b").write_bytes(data)
    [source] = files(tmp_path)
    with pytest.raises(Unreadable, match=f"/b: .*{why}"):
        next(source.lines())


def test_the_error_of_another_format_has_no_content_of_the_file(tmp_path: pathlib.Path) -> None:
    """The error may reach the log of a Dataflow worker, where no personal data may be."""
    (tmp_path / "b").write_bytes(b"\n \nada@example.org,1\n")
    [source] = files(tmp_path)
    with pytest.raises(Unreadable) as raised:
        next(source.lines())
    assert str(raised.value) == (
        f"{tmp_path}/b: is not NDJSON: byte 3 begins a line that is no JSON object, expected {{; is it CSV?"
    )


def test_a_line_with_a_nul_is_one_bad_line_among_good_ones(tmp_path: pathlib.Path) -> None:
    (tmp_path / "events").write_bytes(b'{"a": "\0\0"}\n' + TEXT.encode())
    [source] = files(tmp_path)
    assert len(list(source.lines())) == 4


def test_white_space_and_byte_order_mark_are_stripped(tmp_path: pathlib.Path) -> None:
    (tmp_path / "events.ndjson").write_bytes(b'\xef\xbb\xbf{"a": 1} \t\r\n  {"a": 2}\n \r\n')
    [source] = files(tmp_path / "events.ndjson")
    assert [line.data for line in source.lines(lambda _: None)] == [b'{"a": 1}', b'{"a": 2}']
