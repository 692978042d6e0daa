"""Hooks of MkDocs for `make docs`: pages and links that work on a repository's web page and on the site.

README.md, CONTRIBUTING.md, SECURITY.md and CHANGELOG.md are pages of the site. Any other file outside docs/ that a page
links to is copied to the site as text, so that the site needs no address of the repository.
"""

import os.path
import pathlib
import posixpath
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parents[1]

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages outside docs/, with their addresses on the site."""

_LINK = re.compile(r"\]\((?!\w+://|#)([^)#]+)")
_NESTED_ITEM = re.compile(r"^  - ", re.MULTILINE)
_FENCE_TITLE = re.compile(r"^```(\w+) title=(\S+)$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for name, address in PAGES.items():
        files.append(File.generated(config, address, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links for the site, and titles of code blocks and nested lists as the Markdown of MkDocs requires."""
    source = pathlib.Path(page.file.abs_src_path or "")

    def rewrite(match: re.Match[str]) -> str:
        name = os.path.relpath(source.parent / match[1], ROOT)
        address = _address(name)
        if address is None:
            return match[0]  # MkDocs reports it
        if address not in files.src_uris and not address.endswith(".md"):
            files.append(File.generated(config, address, content=(ROOT / name).read_bytes()))
        return f"]({posixpath.relpath(address, posixpath.dirname(page.file.src_uri) or '.')}"

    markdown = _FENCE_TITLE.sub(r'```\1 title="\2"', markdown)
    markdown = _NESTED_ITEM.sub("    - ", markdown)
    return _LINK.sub(rewrite, markdown)


def _address(name: str) -> str | None:
    """Return the address on the site of a file of the repository, or None if there is no such file."""
    if not (ROOT / name).is_file():
        return None
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return PAGES.get(name, f"repository/{name}.txt")
