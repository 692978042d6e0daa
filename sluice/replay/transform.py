"""Transforms: files with a function that fixes payloads before they are replayed."""

import contextlib
import hashlib
import pathlib
import runpy
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Self

from functions.files.sources import Unreadable

ATTRIBUTE = "sluice_transform"
"""Attribute of a replayed message: the name and the digest of the transform that changed its payload."""


class NoTransform(ValueError):
    """Raised for a file that is not a transform; has the reason."""


class Transform:
    """`transform(payload: bytes, attributes: dict[str, str]) -> bytes | None` of a file.

    Args:
        file: Its path.
        function: The function.
        digest: 16 hex digits of the file's content.
    """

    def __init__(self, file: pathlib.Path, function: Callable[[bytes, dict[str, str]], Any], digest: str) -> None:
        self._file = file
        self._function = function
        self.name = f"{file.name}:{digest}"

    @classmethod
    def load(cls, file: pathlib.Path) -> Self:
        """Load the function of a file.

        Raises:
            NoTransform: The file cannot be run, or does not have the function.
        """
        try:
            content = file.read_bytes()
            names = runpy.run_path(str(file))
        except Exception as error:
            raise NoTransform(
                f"{file}{_line(file, error)}: {type(error).__name__}: {getattr(error, 'msg', error)}"
            ) from error
        function = names.get("transform")
        if not callable(function):
            raise NoTransform(f"{file}: has no function transform(payload: bytes, attributes: dict[str, str])")
        return cls(file, function, hashlib.blake2b(content, digest_size=8).hexdigest())

    @classmethod
    def replacing(cls, payload: bytes, author: str) -> Self:
        """Return a transform to a payload that somebody has edited with a program, the author."""
        digest = hashlib.blake2b(payload, digest_size=8).hexdigest()
        return cls(pathlib.Path(author), lambda _, __: payload, digest)

    def __call__(self, payload: bytes, attributes: Mapping[str, str], event_id: str) -> bytes | None:
        """Return the fixed payload; None to skip the event.

        Raises:
            Unreadable: The function failed for this event; names its line.
        """
        try:
            repaired = self._function(payload, dict(attributes))
        except Exception as error:
            raise Unreadable(
                f"{self._file}{_line(self._file, error)}, event {event_id}: {type(error).__name__}: {error}"
            ) from error
        if repaired is None or isinstance(repaired, bytes):
            return repaired
        raise Unreadable(
            f"{self._file}, event {event_id}: transform returned {type(repaired).__name__}, not bytes or None"
        )


def _line(file: pathlib.Path, error: Exception) -> str:
    """Return the last line of the file that an error came through, as `:12`."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f":{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if _same(frame.filename, file)]
    return f":{lines[-1]}" if lines else ""


def _same(name: str, file: pathlib.Path) -> bool:
    with contextlib.suppress(OSError):
        return pathlib.Path(name).samefile(file)
    return False
