"""The built site: strict, complete and closed: it asks no other server for anything, and its links lead somewhere."""
import csv
import functools
import gzip
import json
import re
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from cl_lib import export, papers
from cl_lib.errors import InputError
from cl_lib.papers import ROOT

FETCHED = {("script", "src"), ("img", "src"), ("img", "srcset"), ("link", "href"), ("iframe", "src"), ("source", "src"),
           ("video", "src"), ("audio", "src"), ("object", "data"), ("embed", "src"), ("image", "href"), ("use", "href")}


class Page(HTMLParser):
    """What a page fetches, shows and links to."""

    def __init__(self, path: Path):
        super().__init__()
        self.fetched, self.links, self.ids, self.speechless, self.inline = [], [], set(), [], []
        self.within = ""
        self.feed(path.read_text(encoding="utf8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.within = tag
        self.ids |= {given[k] for k in ("id", "name") if given.get(k)}
        self.fetched += [v for k, v in attributes if (tag, k) in FETCHED and v]
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "img" and (given.get("alt") is None or given["alt"].startswith(("_images/", "../_images/"))):
            self.speechless.append(given.get("src"))
        if tag == "svg" and not (given.get("aria-label") or given.get("aria-hidden")):
            self.speechless.append("an svg")

    def handle_data(self, data):
        if self.within in ("script", "style"):
            self.inline.append(data)


def foreign(url: str) -> bool:
    return bool(urlsplit(url).netloc)


@pytest.fixture(scope="module")
def found(site) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}


def test_every_paper_part_and_chapter_is_a_page(site):
    wanted = {f"papers/{p}.html" for p in papers.papers()}
    wanted |= {f"{nb.part}/{nb.name}.html" for nb in papers.notebooks().values()}
    wanted |= {f"{part.name}/index.html" for part in papers.book()}
    wanted |= {f"{n}.html" for n in ("index", "intro", "rerun", "protocols", "glossary", "scoreboard", "changes", "map",
                                           "timeline", "status", "bibliography")}
    assert not {w for w in wanted if not (site / w).is_file()}


def test_no_page_asks_another_server_for_anything(found):
    assert not {(p.name, url) for p, page in found.items() for url in page.fetched if foreign(url)}
    loaders = re.compile(r"""(?:import|src\s*=|fetch|load\w*)\s*[("'=\s]+https?://""")
    assert not {p.name for p, page in found.items() if loaders.search("".join(page.inline))}


def test_no_style_sheet_asks_another_server_for_anything(site):
    asks = re.compile(r"""(?:url\(\s*|@import\s+)["']?(?:https?:)?//""")
    assert not {p.name for p in site.rglob("*.css") if asks.search(p.read_text(encoding="utf8"))}


def test_what_pages_fetch_is_there(site, found):
    missing = defaultdict(set)
    for path, page in found.items():
        for url in page.fetched:
            here = not foreign(url) and not url.startswith("data:")
            if here and not (path.parent / unquote(urlsplit(url).path)).exists():
                missing[url].add(path.name)
    assert not missing


def test_mathjax_and_its_fonts_come_with_the_site(site, found):
    assert (site / "_static/mathjax/tex-chtml.js").stat().st_size > 10**6
    assert any((site / "_static/mathjax/output/chtml/fonts/woff-v2").glob("MathJax_Main-Regular.woff"))
    with_formula = [page for path, page in found.items() if path.name == "protocols.html"]
    assert any("mathjax/tex-chtml.js" in url for page in with_formula for url in page.fetched)


def test_every_link_within_the_site_leads_somewhere(site, found):
    dead = defaultdict(set)
    for path, page in found.items():
        for link in page.links:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not target.exists():
                dead[link].add(path.name)
            elif url.fragment and target in found and unquote(url.fragment) not in found[target].ids:
                dead[link].add(path.name)
    assert not dead


def test_every_picture_has_words(found):
    assert not {(p.name, what) for p, page in found.items() for what in page.speechless}


def test_a_page_stands_for_each_count_on_the_scoreboard(site, found):
    text = (site / "scoreboard.html").read_text(encoding="utf8")
    missing = sum(not p.claims for p in papers.papers().values())
    assert f"{len(papers.papers())} papers are planned" in text and f"Missing: {missing}." in text
    assert text.count('<tr data-status="') == sum(len(p.claims) or 1 for p in papers.papers().values())
    records = json.loads((site / "_static/scoreboard.json").read_text(encoding="utf8"))
    assert {r["paper"] for r in records} == set(papers.papers())
    with open(site / "_static/scoreboard.csv", encoding="utf8", newline="") as file:
        assert {r["claim"] for r in csv.DictReader(file)} - {""} == {r["claim"] for r in records} - {None}


def test_every_paper_is_on_the_timeline_and_each_joined_one_on_the_map(found, site):
    cards = {f"papers/{p}.html" for p in papers.papers()}
    assert cards <= set(found[site / "timeline.html"].links) and cards <= {
        link.partition("#")[0] for link in found[site / "map.html"].links}


@functools.lru_cache
def sent(path: Path) -> int:
    """Bytes of a file as a web server sends it, compressed."""
    return len(gzip.compress(path.read_bytes(), 6))


def test_no_page_weighs_more_than_a_megabyte_and_a_half(found):
    """With all it fetches; MathJax, which every page shares and a browser keeps, aside."""
    def weight(path: Path, page: Page) -> int:
        fetched = {(path.parent / unquote(urlsplit(url).path)).resolve() for url in page.fetched if not url.startswith("data:")}
        return sent(path) + sum(sent(f) for f in fetched if f.is_file() and "mathjax" not in f.parts)

    assert not {p.name: w for p, page in found.items() if (w := weight(p, page)) > 1.5e6}


def test_the_site_says_nothing_of_the_machine_it_was_built_on(site):
    told = [p.name for p in site.rglob("*.html") if str(ROOT) in p.read_text(encoding="utf8")]
    assert not told


def test_a_chapter_exports_as_one_file_that_needs_no_other(site, tmp_path):
    file = export.chapter(papers.notebook("objectives"), site, tmp_path / "chapter.html")
    page = Page(file)
    assert page.fetched and all(url.startswith("data:image/png;base64,") for url in page.fetched)
    assert all(foreign(link) or link[1:] in page.ids for link in page.links)
    assert "Decoupled Contrastive Learning" in file.read_text(encoding="utf8") and not page.speechless
    with pytest.raises(InputError, match="not built yet; run"):
        export.chapter(papers.notebook("objectives"), tmp_path)
