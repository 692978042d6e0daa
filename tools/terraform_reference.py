"""The generated part of `docs/terraform.md`: variables and outputs of the module, from `terraform/*.tf`.

The files are read as `terraform fmt` writes them: a block begins and ends at the start of a line, its arguments are
indented by two spaces.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Iterator

_ROOT = pathlib.Path(__file__).parent.parent

FILE = _ROOT / "docs" / "terraform.md"

MARK = "<!-- From here on generated from terraform/, by UPDATE_DOCS=1 make test -->\n"

_BLOCK = r'^%s "(\w+)" \{\n(.*?)^\}'
_ARGUMENT = re.compile(r"^  (\w+) += ", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^ +([a-z_]+(?:, [a-z_]+)*): ", re.MULTILINE)
_OPTIONAL = re.compile(r"(\w+) += optional\(\w+(?:\(\w+\))?, (.+)\)$", re.MULTILINE)
"""An attribute with a default."""

_SUBJECTS = {
    "Project, data and access": ("variables", "agents", "budget", "production"),
    "Functions": ("variables-functions", "logs"),
    "Batch mode": ("variables-batch",),
    "Dataflow": ("variables-dataflow",),
    "Delivery, archive and backups": ("pubsub", "archive", "backup"),
    "Privacy, keys and networks": ("privacy", "encryption", "network", "audit", "ci"),
    "Alerts and objectives": ("variables-monitoring",),
}
"""Titles of the sections of variables, and the names of their files."""


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """A variable or an output.

    Attributes:
        name: The name that it is called by.
        arguments: The text of each of its arguments, such as `description` or `type`, by name.
    """

    name: str
    arguments: dict[str, str]

    @property
    def description(self) -> str:
        """The description as one line of Markdown, with a line break before each attribute that it explains."""
        text = self.arguments["description"]
        heredoc = re.fullmatch(r"<<-(\w+)\n(.*)\n +\1", text, re.DOTALL)
        plain = heredoc[2] if heredoc else text[1:-1].replace('\\"', '"')
        return _one_line(_ATTRIBUTE.sub(r"<br>`\1`: ", plain)).replace("|", r"\|")


def update() -> str:
    """Return the page with its generated part as it should be."""
    head, _, _ = FILE.read_text(encoding="utf-8").partition(MARK)
    return head + render()


def render(folder: pathlib.Path = _ROOT / "terraform") -> str:
    """Return the tables of all variables and outputs of a module, as Markdown."""
    outputs = sorted(read("output", folder), key=lambda block: block.name)
    return "\n".join(
        [
            MARK,
            "## Variables",
            "",
            "Attributes of objects are shown with their defaults.",
            "",
            *(line for subject, files in _SUBJECTS.items() for line in _variables(subject, folder, files)),
            "## Outputs",
            "",
            "| output | |",
            "|---|---|",
            *(f"| `{block.name}` | {block.description} |" for block in outputs),
            "",
        ]
    )


def _variables(subject: str, folder: pathlib.Path, files: Iterable[str]) -> list[str]:
    """Return the section of the variables of some files, the required ones first."""
    blocks = [block for file in files for block in read("variable", folder, f"{file}.tf")]
    variables = sorted(blocks, key=lambda block: ("default" in block.arguments, block.name))
    rows = [f"| `{block.name}` | {_type(block)} | {_default(block)} | {block.description} |" for block in variables]
    return [f"### {subject}", "", "| variable | type | default | |", "|---|---|---|---|", *rows, ""]


def read(kind: str, folder: pathlib.Path, files: str = "*.tf") -> Iterator[Block]:
    """Return the blocks of a kind, `variable` or `output`, in the files of a module that match a pattern."""
    for file in sorted(folder.glob(files)):
        for name, body in re.findall(_BLOCK % kind, file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            parts = _ARGUMENT.split(re.split(r"^  \w+ \{", body, maxsplit=1, flags=re.MULTILINE)[0])
            yield Block(name, {key: value.strip() for key, value in zip(parts[1::2], parts[2::2], strict=True)})


def _type(block: Block) -> str:
    """Return a type as code, each attribute of an object with its default instead of its type."""
    defaults = _OPTIONAL.sub(r"\1 = \2", block.arguments["type"])
    attributes = re.sub(r"\n +(?!\})", ", ", defaults).replace("({, ", "({ ")
    return f"`{_one_line(attributes)}`"


def _default(block: Block) -> str:
    return f"`{_one_line(block.arguments['default'])}`" if "default" in block.arguments else "required"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
