"""The site of the documentation: `make docs`."""

import html.parser
import os
import pathlib
import shutil
import subprocess
import urllib.parse

import pytest

from tests.support.requires import missing

pytestmark = pytest.mark.check

ROOT = pathlib.Path(__file__).parents[2]
MKDOCS = ROOT / ".venv" / "docs" / "bin" / "mkdocs"


def build(root: pathlib.Path, site: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a copy of the repository."""
    if not MKDOCS.exists():
        missing("MkDocs is not installed: make docs")
    return subprocess.run(
        [str(MKDOCS), "build", "--strict", "--site-dir", str(site)],
        cwd=root,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


class Links(html.parser.HTMLParser):
    """Addresses and anchors of a page."""

    def __init__(self, page: pathlib.Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors = {""}
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors.add(values.get("id") or "")
        address = values.get("href") or values.get("src")
        if address:
            (self.links if tag == "a" else self.loaded).append(address)


def test_every_link_of_the_site_leads_to_a_file_and_an_anchor(site: pathlib.Path) -> None:
    pages = {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}
    assert len(pages) > 25
    for page, parsed in pages.items():
        for link in parsed.links + parsed.loaded:
            address, _, anchor = link.partition("#")
            if "://" in address or address.startswith("mailto:"):
                continue
            target = (page.parent / urllib.parse.unquote(address)).resolve() if address else page
            assert target.is_file(), (page.name, link)
            if target in pages and not anchor.startswith("__"):
                assert urllib.parse.unquote(anchor) in pages[target].anchors, (page.name, link)


def test_the_site_loads_nothing_from_the_network(site: pathlib.Path) -> None:
    """Material loads Mermaid later, for a page with a diagram."""
    for page in site.rglob("*.html"):
        assert [address for address in Links(page).loaded if "://" in address] == [], page.name


def test_the_search_works_without_a_server(site: pathlib.Path) -> None:
    """A browser loads no JSON and starts no worker from a file, but it runs scripts."""
    index = (site / "search" / "search_index.js").read_text()
    assert "sluice dead-letters replay" in index
    assert "javascripts/iframe-worker.js" in Links(site / "index.html").loaded


def test_pages_and_files_outside_docs_are_on_the_site(site: pathlib.Path) -> None:
    assert {"index.html", "contributing.html", "security.html", "changelog.html"} <= {
        page.name for page in site.glob("*.html")
    }
    copied = site / "repository" / "terraform" / "iam.tf.txt"
    assert copied.read_bytes() == (ROOT / "terraform" / "iam.tf").read_bytes()


@pytest.mark.parametrize("link", ["[x](missing.md)", "[x](operate.md#no-such-heading)", "[x](../no/such/file.py)"])
def test_a_broken_link_fails_the_build(tmp_path: pathlib.Path, link: str) -> None:
    for name in ("docs", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for file in [ROOT / "mkdocs.yml", *ROOT.glob("*.md")]:
        shutil.copy(file, tmp_path)
    with (tmp_path / "docs" / "producers.md").open("a") as page:
        page.write(f"\n{link}\n")
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    assert "producers.md" in built.stdout + built.stderr
