"""Markdown of `docs/` as HTML, with the addresses of the console."""

import functools
import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

FILES = "/docs/files"
"""Path under which `docs/` is served, for the pictures of its pages."""

_REFERENCE = re.compile(r"(?:docs/)?([\w-]+)\.md(#[\w-]+)?")


def address(reference: str) -> str:
    """Return the address of a page or a section, for example of `docs/operate.md#no-events-at-all`."""
    page = _REFERENCE.fullmatch(reference)
    return f"/docs?page={page[1]}{page[2] or ''}" if page else reference


def rendered(text: str) -> Markup:
    """Return a page of Markdown as HTML. Tags in it are text."""
    return Markup(_markdown().render(text))  # noqa: S704 - the parser escapes


def rendered_inline(text: str) -> Markup:
    """Return a line of Markdown as HTML. Tags in it are text."""
    return Markup(_markdown().renderInline(text))  # noqa: S704 - the parser escapes


@functools.cache
def _markdown() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.core.ruler.push("addresses", lambda state: _adapt(state.tokens))
    parser.add_render_rule("fence", _fence)
    return parser


def _adapt(tokens: Sequence[Token]) -> None:
    """Give sections their anchors, links the addresses of the console, and what may scroll the keyboard's focus."""
    for number, token in enumerate(tokens):
        _adapt(token.children or ())
        match token.type:
            case "heading_open":
                token.attrSet("id", slug(tokens[number + 1].content))
            case "table_open":
                token.attrSet("tabindex", "0")
            case "th_open" | "td_open":
                token.attrs.pop("style", None)  # Content-Security-Policy forbids it.
            case "image":
                token.attrSet("src", f"{FILES}/{token.attrGet('src')}")
            case "link_open":
                target = str(token.attrGet("href"))
                token.attrSet("href", address(target))
                if target.startswith("../"):  # A file of the repository.
                    del token.attrs["href"]


def _fence(_: object, tokens: Sequence[Token], index: int, *__: object) -> str:
    return Markup('<pre tabindex="0"><code>{}</code></pre>\n').format(tokens[index].content)


def slug(heading: str) -> str:
    """Return the anchor of a section, as the site of the documentation and GitHub make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
