"""The site builds without a warning and without the network, and every link inside it leads somewhere."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.conftest import ROOT

# The build reads every page and imports the package. `.ci/run` calls `make docs`.
pytestmark = [pytest.mark.long, pytest.mark.processes]

# Nobody listens there.
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build a site as `make docs` does."""
    options = ["--fail-on-warning", "--keep-going", "--fresh-env", "--quiet", "-d", str(site.with_suffix(".trees"))]
    command = [sys.executable, "-m", "sphinx", *options, str(source), str(site)]
    return subprocess.run(command, env={**os.environ, **NO_NETWORK}, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the built site."""
    folder = tmp_path_factory.mktemp("site") / "html"
    done = build(ROOT / "docs", folder)
    assert done.returncode == 0, done.stderr
    return folder


class Page(HTMLParser):
    """The links, loaded files and anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        if "id" in given:
            self.anchors.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        elif "src" in given or (tag == "link" and "href" in given):
            self.loaded.add(given.get("src") or given["href"])


def test_every_link_inside_the_site_leads_to_a_page_and_an_anchor(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 40
    broken = set()
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[target].anchors if target in pages else set()
            if not target.is_file() or (parts.fragment and target in pages and unquote(parts.fragment) not in known):
                broken.add((str(path.relative_to(site)), link))
    assert not broken


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    loaded = {name for path in site.rglob("*.html") for name in Page(path).loaded}
    assert loaded
    assert not {name for name in loaded if urlsplit(name).netloc}


def test_links_to_nothing_are_errors(tmp_path: Path) -> None:
    source, links = tmp_path / "docs", ("nowhere.md", "other.md#nowhere", "#nowhere", "nowhere.png")
    (source / "_static").mkdir(parents=True)
    settings = (ROOT / "docs/conf.py").read_text().replace("Path(__file__).resolve().parent.parent", repr(str(ROOT)))
    (source / "conf.py").write_text(settings)
    (source / "other.md").write_text("# Other\n\n[index](index.md)\n")
    index = "# Index\n\n[there](other.md#other) {}\n\n```{{toctree}}\nother\n```\n"
    (source / "index.md").write_text(index.format(" ".join(f"[not there]({link})" for link in links)))
    broken = build(source, tmp_path / "broken")
    assert broken.returncode == 1
    assert len(broken.stderr.splitlines()) == len(links), broken.stderr
    (source / "index.md").write_text(index.format(""))
    whole = build(source, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
