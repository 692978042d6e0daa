"""The pages of the documentation as the console shows them."""

import re

import pytest

from sluice.console.alerts import definitions
from sluice.console.guide import FOLDER, GuideParameters, guide
from sluice.console.markdown import address, rendered, rendered_inline
from sluice.console.page import NotThere

PAGES = {path.stem: str(rendered(path.read_text())) for path in FOLDER.glob("*.md")}


def shown(link: str, page: str = "") -> bool:
    """Return whether an address is a section or a page that the console shows."""
    target, _, anchor = link.partition("#")
    text = PAGES.get(target.removeprefix("/docs?page=") if target else page, "")
    return bool(text) and (not anchor or f'id="{anchor}"' in text)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_each_link_leads_to_a_section(page: str) -> None:
    links = [link for link in re.findall(r' href="([^"]+)"', PAGES[page]) if "://" not in link]
    assert [link for link in links if not shown(link, page)] == []
    pictures = re.findall(r' src="/docs/files/([^"]+)"', PAGES[page])
    assert [picture for picture in pictures if not (FOLDER / picture).exists()] == []


def test_each_alert_has_its_section() -> None:
    assert [alert.runbook for alert in definitions() if not shown(address(alert.runbook))] == []


def test_tags_are_text_and_pages_may_be_missing() -> None:
    assert "<b" not in rendered("<b onclick=x>bold</b>\n\n```sh\n<b>\n```\n")
    assert rendered_inline("`a` [b](javascript:c) <i>") == "<code>a</code> [b](javascript:c) &lt;i&gt;"
    with pytest.raises(NotThere, match=r"no page nothing in docs/; pages are access, "):
        guide(None, GuideParameters("nothing"))  # type: ignore[arg-type]
