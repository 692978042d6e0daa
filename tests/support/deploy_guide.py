"""The pages on deployment, whose commands share the variables of a shell and so are run as one script."""

import pathlib

DOCS = pathlib.Path(__file__).parents[2] / "docs"

PAGES = ("deploy", "access", "deploy-gcloud", "deploy-dataflow", "new-version")
"""Names in the order in which their commands run."""


def text() -> str:
    """Return the text of all pages."""
    return "".join((DOCS / f"{page}.md").read_text() for page in PAGES)


def joined(place: pathlib.Path) -> pathlib.Path:
    """Write all pages into one file of a folder, and return it."""
    file = place / "deploy.md"
    file.write_text(text())
    return file
