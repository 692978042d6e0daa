"""The generated part of `docs/terraform.md`: variables and outputs of the module, from `terraform/*.tf`.

The files are read as `terraform fmt` writes them: a block begins and ends at the start of a line, its arguments are
indented by two spaces.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterator

_ROOT = pathlib.Path(__file__).parent.parent

FILE = _ROOT / "docs" / "terraform.md"

MARK = "<!-- From here on generated from terraform/, by UPDATE_DOCS=1 make test -->\n"

_BLOCK = r'^%s "(\w+)" \{\n(.*?)^\}'
_ARGUMENT = re.compile(r"^  (\w+) += ", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^ +([a-z_]+(?:, [a-z_]+)*): ", re.MULTILINE)


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
    variables = sorted(read("variable", folder), key=lambda block: ("default" in block.arguments, block.name))
    outputs = sorted(read("output", folder), key=lambda block: block.name)
    return "\n".join(
        [
            MARK,
            "## Variables",
            "",
            "| variable | type | default | |",
            "|---|---|---|---|",
            *(f"| `{block.name}` | {_type(block)} | {_default(block)} | {block.description} |" for block in variables),
            "",
            "## Outputs",
            "",
            "| output | |",
            "|---|---|",
            *(f"| `{block.name}` | {block.description} |" for block in outputs),
            "",
        ]
    )


def read(kind: str, folder: pathlib.Path) -> Iterator[Block]:
    """Return the blocks of a kind, `variable` or `output`, in all files of a module."""
    for file in sorted(folder.glob("*.tf")):
        for name, body in re.findall(_BLOCK % kind, file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            parts = _ARGUMENT.split(re.split(r"^  \w+ \{", body, maxsplit=1, flags=re.MULTILINE)[0])
            yield Block(name, {key: value.strip() for key, value in zip(parts[1::2], parts[2::2], strict=True)})


def _type(block: Block) -> str:
    """Return a type as code, each attribute of an object with its default."""
    attributes = re.sub(r"\n +(?!\})", ", ", block.arguments["type"]).replace("({, ", "({ ")
    return f"`{_one_line(attributes)}`"


def _default(block: Block) -> str:
    return f"`{_one_line(block.arguments['default'])}`" if "default" in block.arguments else "required"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
