"""A prompt for SQL statements in a terminal, with history and completion."""

import contextlib
import os
import pathlib
import re
import readline
from collections.abc import Callable, Iterator, Sequence

_HISTORY_LINES = 1000
"""Maximum number of lines in the history file."""

_END = re.compile(r""";\s*((--|#)[^'"`]*)?$""")
"""The end of a statement's last line. What a quote is in may be a string, not a comment."""

_LEAVE = re.compile(r"\s*(exit|quit)\s*;?\s*", re.IGNORECASE)
"""The line that ends the prompt, as in other prompts."""


def statements(words: Sequence[str]) -> Iterator[str]:
    """Read statements from the terminal until Ctrl-D, `exit` or `quit`.

    A statement ends with a semicolon at the end of a line, before a comment or not.

    Ctrl-C discards what is typed so far.

    Args:
        words: Names that the Tab key completes.
    """
    readline.set_completer(_completer(words))
    readline.set_completer_delims(" \t\n`.,()=")
    readline.parse_and_bind("tab: complete")
    with _history():
        lines: list[str] = []
        while True:
            try:
                lines.append(input("....> " if lines else "sql> "))
            except EOFError:
                print()  # noqa: T201 - the shell's prompt begins a new line
                return
            except KeyboardInterrupt:
                print()  # noqa: T201
                lines = []
                continue
            if len(lines) == 1 and _LEAVE.fullmatch(lines[0]):
                return
            if _END.search(lines[-1]):
                yield "\n".join(lines)
                lines = []
            elif not any(line.strip() for line in lines):
                lines = []


def _completer(words: Sequence[str]) -> Callable[[str, int], str | None]:
    def complete(text: str, number: int) -> str | None:
        matching = [word for word in words if word.startswith(text)]
        return matching[number] if number < len(matching) else None

    return complete


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Load the history of earlier prompts, and save it at the end."""
    file = _history_file()
    readline.set_history_length(_HISTORY_LINES)
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a home that cannot be written has no history
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            readline.write_history_file(file)


def _history_file() -> pathlib.Path:
    state = os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local" / "state"
    return pathlib.Path(state, "sluice", "sql_history")
