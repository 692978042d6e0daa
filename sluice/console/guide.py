"""The pages of `docs/`, to which health, alerts and rules refer."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from sluice.console.page import NotThere
from sluice.console.sources import Sources
from sluice.package import ROOT

FOLDER = ROOT / "docs"


class GuideParameters(msgspec.Struct, frozen=True):
    """Parameters of a page of the documentation.

    Attributes:
        page: Its name, without `.md`.
    """

    page: Annotated[str, Meta(pattern=r"^[a-z-]+$")] = "operate"


class Guide(msgspec.Struct, frozen=True):
    """A page of the documentation.

    Attributes:
        page: Its name.
        title: Its title.
        text: Its Markdown.
        others: Names of all pages.
    """

    page: str
    title: str
    text: str
    others: Sequence[str]


def guide(_: Sources, parameters: GuideParameters) -> Guide:
    """Return a page of the documentation.

    Raises:
        NotThere: It does not exist.
    """
    others = sorted(path.stem for path in FOLDER.glob("*.md"))
    if parameters.page not in others:
        raise NotThere(f"no page {parameters.page} in docs/; pages are {', '.join(others)}")
    text = (FOLDER / f"{parameters.page}.md").read_text(encoding="utf-8")
    return Guide(parameters.page, text.partition("\n")[0].removeprefix("# "), text, others)
