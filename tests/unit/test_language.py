"""The check of the code's language finds what it is there for."""

import pathlib

import pytest

from tools.language import problems


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ('"""Of a payload."""', "does not begin with Of"),
        ('LIMIT = 1\n"""That a request has to arrive."""', "does not begin with That"),
        ('def read(): "Whether it is read."', None),
        ('def read(): "What it reads."', "does not begin with What"),
        ('def read(): "Return what it reads."', None),
        ("one = 1", "the name one"),
        ("[found for found in ()]", "the name found"),
        ("def told(): pass", "the name told"),
        ("def read(left): pass", "the name left"),
        ("def tell(): pass", "the name tell has the word tell"),
        ("def read_told_line(): pass", "has the word told"),
        ("def read(refused): pass", "has the word refused"),
        ("class RowRefused: pass", "has the word refused"),
        ("async def mend_row(): pass", "has the word mend"),
        ("def recommend(): pass", None),
        (f"def test_{'x' * 60}(): pass", None),
        (f"def test_{'x' * 61}(): pass", "has 66 characters"),
        ("class Event:\n    known: int", "the name known"),
        ("event.found", None),
        (
            'class Erased:\n    """A result.\n\n    Attributes:\n        left: A number.\n    """\n    rest: int',
            "has no left",
        ),
        ('class Erased:\n    """A result.\n\n    Attributes:\n        rest: A number.\n    """\n    rest: int', None),
        ('def read(file):\n    """Read it.\n\n    Args:\n        path: The file.\n    """', "read has no path"),
        ('def read(*files):\n    """Read them.\n\n    Args:\n        *files: The files.\n    """', None),
    ],
)
def test_fragments_and_meaningless_names_are_reported(tmp_path: pathlib.Path, code: str, problem: str | None) -> None:
    file = tmp_path / "code.py"
    file.write_text(code)
    listed = list(problems(file))
    assert len(listed) == (problem is not None)
    assert all(problem is not None and problem in line for line in listed)
