"""The files of the code that functions and commands read when they start: contracts, handlers and SQL."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any


class InvalidFile(ValueError):
    """A file of the code cannot be used. Names the file, the place in it where there is one, and the rule."""


@contextlib.contextmanager
def reading(file: str) -> Iterator[None]:
    """Raise an error of the content of a file with the name of the file.

    Raises:
        InvalidFile: The context raised a ValueError.
    """
    try:
        yield
    except InvalidFile:
        raise
    except ValueError as error:
        raise InvalidFile(f"{file}: {error}") from error


def parse_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON.

    Raises:
        ValueError: It is none; says where and why.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno} column {error.colno} is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
