"""Check the language of the code: docstrings are no fragments, and names exist and say what a thing is: `make lint`."""

import ast
import pathlib
import re
import sys
from collections.abc import Iterator

FOLDERS = ("benchmarks", "dataflow", "fake_google", "functions", "sluice", "tests", "tools")
"""Folders that are checked."""

_is_fragment = re.compile(
    r"\W*(?:Above|After|And|As|At|Before|Below|Besides|Between|But|By|Every|For|From|How|If|In|Into|Of|On|Or|Over|Since|Than"
    r"|That|Then|Through|To|Towards|Under|Until|Upon|What|Whatever|When|Where|Which|While|Who|Whoever|Whose|Why|With|Within"
    r"|Without)\b"
).match
"""Whether a docstring begins with a word that leaves its subject to the line above."""

BANNED = frozenset({"found", "known", "left", "one", "some", "told"})
"""Names that do not say what they hold."""

MAX_TEST_NAME = 65
"""Maximum characters of the name of a test, with its prefix."""

_dialect = re.compile(r"(?:^|_)(mend\w*?|refus\w*?|tell|tells|telling|told)(?:_|$)").search
"""Search a name in snake case for a word that the code has another word for: fix, reject, report."""

_hump = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
"""Place in the name of a class where a word begins."""

_SECTION = re.compile(r"^(?:Args|Attributes):\n((?:    .*\n?|\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^    \*{0,2}(\w+):", re.MULTILINE)


def _unknown(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield the names that a docstring explains and its function or class does not have."""
    documented = [
        name for section in _SECTION.findall(ast.get_docstring(node) or "") for name in _ENTRY.findall(section)
    ]
    if documented and not (isinstance(node, ast.ClassDef) and node.bases):  # A base class may have the others.
        names = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
        names |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
        names |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
        yield from (name for name in documented if name not in names)


def problems(file: pathlib.Path) -> Iterator[str]:
    """Yield each docstring that is a fragment or explains what is missing, and each bad name, with its place."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (f"{file}:{node.lineno}: {node.name} has no {name}" for name in _unknown(node))
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))) if _is_fragment(text):
                yield f"{file}:{node.lineno}: a docstring is a sentence, and does not begin with {text.split()[0]}"
            case ast.Name(id=name, ctx=ast.Store()) if name in BANNED:
                yield f"{file}:{node.lineno}: the name {name} does not say what it stands for"
            case (
                ast.arg(arg=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ) if problem := _problem_of_name(name):
                yield f"{file}:{node.lineno}: the name {name} {problem}"


def _problem_of_name(name: str) -> str | None:
    """Return what is wrong with the name of a function, a class or an argument, or None."""
    if name in BANNED:
        return "does not say what it stands for"
    if word := _dialect(_hump.sub("_", name).lower()):
        return f"has the word {word[1]}, for which the code has fix, reject or report"
    if name.startswith("test_") and len(name) > MAX_TEST_NAME:
        return f"has {len(name)} characters; a test's name has at most {MAX_TEST_NAME}"
    return None


def main() -> None:
    """Print all problems, and exit with 1 if there are any."""
    files = [pathlib.Path("main.py")]
    for folder in FOLDERS:
        files += sorted(pathlib.Path(folder).rglob("*.py"))
    lines = [line for file in files for line in problems(file)]
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
