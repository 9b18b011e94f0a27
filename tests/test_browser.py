"""The built site in a real browser: it asks nobody else for anything, nothing breaks, everybody can use it."""
import functools
import gzip
import http.server
import json
import os
import shutil
import threading
import time

import pytest

from cl_lib import export, papers

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.skipif(not CHROMIUM, reason="no Chromium here"), pytest.mark.timeout(1800)]
KINDS = ("intro.html", "foundations/objectives.html", "scoreboard.html", "papers/dcl.html")  # one page of each kind
FOUND = """() => ({
  links: [...document.querySelectorAll("a[href]")].map((a) => new URL(a.getAttribute("href"), document.baseURI).href),
  mute: [...document.querySelectorAll("img, [role=img]:not([aria-hidden])")]
    .filter((e) => !e.closest("mjx-container, [aria-hidden]") && !e.alt
      && !e.getAttribute("aria-label") && !document.getElementById(e.getAttribute("aria-labelledby")))
    .map((e) => e.outerHTML.slice(0, 120)),
  broken: [...document.images].filter((i) => i.complete && !i.naturalWidth && i.loading !== "lazy").map((i) => i.src),
  ids: [...document.querySelectorAll("[id], [name]")].flatMap((e) => [e.id, e.getAttribute("name")])})"""


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served, as its readers get it."""
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    """A browser that no name leads out of this machine."""
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=[
            "--no-sandbox", "--disable-gpu", "--disable-quic", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(120_000)  # of a busy machine
    yield page
    page.context.close()


def settled(page, url: str) -> None:
    """Open a page and wait until its formulas stand."""
    page.goto(url, wait_until="load")
    page.evaluate("Promise.resolve(window.MathJax?.startup?.promise).then(() => null)")


def test_every_page_loads_without_a_foreign_request_an_error_or_a_dead_link(site, address, page):
    trouble, asked, links, ids, here = [], set(), {}, {}, {"page": ""}
    page.on("request", lambda r: asked.add(r.url))
    page.on("response", lambda r: r.status >= 400 and trouble.append((here["page"], r.status, r.url)))
    page.on("requestfailed", lambda r: r.failure != "net::ERR_ABORTED" and trouble.append((here["page"], r.failure, r.url)))
    page.on("pageerror", lambda e: trouble.append((here["page"], "script", str(e))))
    page.on("console", lambda m: m.type == "error" and trouble.append((here["page"], "console", m.text)))
    for path in sorted(site.rglob("*.html")):
        if "_static" in path.parts or path == site / "index.html":  # parts of the theme; the first page, which leads on
            continue
        here["page"] = name = path.relative_to(site).as_posix()
        settled(page, address + name)
        found = page.evaluate(FOUND)
        links[name], ids[name] = set(found["links"]), set(found["ids"])
        trouble += [(name, "no words", e) for e in found["mute"]] + [(name, "no picture", src) for src in found["broken"]]
    assert not trouble
    assert not {url for url in asked if not url.startswith((address, "data:", "blob:"))}
    for name, targets in links.items():
        for url in (u[len(address):] for u in targets if u.startswith(address)):
            target, _, fragment = url.partition("#")
            target = target.partition("?")[0]
            if not (site / target).is_file() or (fragment and "=" not in fragment and target in ids and fragment not in ids[target]):
                trouble.append((name, "dead link", url))
    assert not trouble
    assert len(links) > len(papers.papers())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", KINDS)
def test_axe_finds_no_serious_fault(address, page, name, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.emulate_media(color_scheme=scheme)
    settled(page, address + name)
    faults = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert not [(f["id"], f["help"], [n["html"][:150] for n in f["nodes"]][:3]) for f in faults
                if f["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("name", KINDS)
def test_a_page_fits_a_phone(address, page, name):
    page.set_viewport_size({"width": 390, "height": 800})
    settled(page, address + name)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), "scrolls sideways"


@pytest.mark.parametrize("name", KINDS)
def test_a_page_loads_within_two_seconds(address, page, name):
    if os.getloadavg()[0] > os.cpu_count():
        pytest.skip("the machine is busy with other work; its times say nothing")
    assert min(timed(page, address + name) for _ in range(3)) < 2


@pytest.mark.parametrize("name", KINDS)
def test_a_page_weighs_less_than_a_megabyte_and_a_half_as_it_is_sent(address, page, name):
    sent = []
    page.on("response", lambda r: sent.append((r.url, r.body())))
    settled(page, address + name)
    packed = (".png", ".woff", ".woff2")  # already compressed; a server packs the rest
    assert sum(len(body) if url.endswith(packed) else len(gzip.compress(body)) for url, body in sent) < 1_500_000
    assert not [url for url, _ in sent if "fontawesome.js" in url or "searchindex.js" in url]


def timed(page, url: str) -> float:
    begin = time.monotonic()
    page.goto(url, wait_until="load")
    return time.monotonic() - begin


def test_the_scoreboard_filters_sorts_and_remembers_the_view_in_its_address(address, page):
    page.goto(address + "scoreboard.html")
    count = lambda: page.locator("#claims tbody tr:visible").count()  # noqa: E731
    every = count()
    assert every == sum(len(p.claims) or 1 for p in papers.papers().values())
    for name, value in (("part", "Foundations"), ("fidelity", "scaled-down"), ("kind", "effect"), ("year", "2022"),
                        ("status", "reproduced")):
        before = count()
        page.select_option(f".filters [name={name}]", value)
        assert 0 < count() <= before and f"{name}=" in page.url
    page.fill(".filters [name=q]", "coupling batch")
    assert 0 < count() < every
    page.locator("#claims thead button", has_text="Effect").click()
    kept, shown = page.url, page.locator("#claims tbody tr:visible").all_inner_texts()
    page.goto("about:blank")
    page.goto(kept)
    assert page.locator("#claims tbody tr:visible").all_inner_texts() == shown
    assert page.locator("#claims th[aria-sort=ascending]").inner_text().startswith("Effect")
    page.locator(".filters [type=reset]").click()
    page.wait_for_function("n => document.querySelectorAll('#claims tbody tr:not([hidden])').length === n", arg=every)
    assert "q=" not in page.url and count() == every


def test_without_scripts_the_scoreboard_is_a_table_and_with_a_thousand_rows_it_is_fast(address, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + "scoreboard.html")
    assert page.locator("#claims tbody tr").count() > 237 and page.locator("#claims svg.interval").count() > 10
    assert page.locator(".filters").count() == 0
    context.close()
    page = browser.new_page()
    page.add_init_script("""document.addEventListener("readystatechange", () => {
      const body = document.querySelector("#claims tbody");
      if (document.readyState !== "interactive") return;
      while (body.rows.length < 1000) body.append(...[...body.rows].map((r) => r.cloneNode(true)));
    })""")
    page.goto(address + "scoreboard.html")
    spent = page.evaluate("""() => {
      const box = document.querySelector(".filters [name=q]"), begin = performance.now();
      box.value = "batch"; box.dispatchEvent(new Event("input", {bubbles: true})); document.body.offsetHeight;
      return performance.now() - begin; }""")
    assert page.locator("#claims tbody tr").count() >= 1000 and spent < 1000
    page.context.close()


@pytest.mark.parametrize(("words", "card"), [("Decoupled Contrastive Learning", "papers/dcl.html"), ("simcse", "papers/simcse.html"),
                                             ("tau", "glossary.html")])
def test_the_search_finds_a_title_a_method_and_a_symbol(address, page, words, card):
    page.goto(address + "search.html?q=" + words.replace(" ", "+"))
    page.wait_for_selector("#search-results li a")
    page.wait_for_function("document.querySelector('#search-results p.search-summary')?.textContent.match(/\\d/)")
    assert any(card in url for url in page.eval_on_selector_all("#search-results li a", "(all) => all.map((a) => a.href)"))


def test_the_map_dims_what_is_not_near_the_paper_that_has_the_focus(address, page):
    page.goto(address + "map.html")
    page.locator('svg.map a[data-n="simcse"]').focus()
    away = json.loads(page.evaluate("JSON.stringify([...document.querySelectorAll('svg.map [data-n].away')].map((e) => e.dataset.n))"))
    near = papers.paper("esimcse").relations["reduces_to"]
    assert near == ("simcse",) and "esimcse" not in away and "simcse" not in away and "dpo" in away


def test_an_exported_chapter_draws_its_formulas_by_itself(site, page, tmp_path):
    asked = []
    page.on("request", lambda r: asked.append(r.url))
    file = export.chapter(papers.notebook("objectives"), site, tmp_path / "chapter.html")
    settled(page, file.as_uri())
    assert page.locator("mjx-container").count() == page.locator(".math").count() > 10
    assert {url for url in asked if not url.startswith("data:")} == {file.as_uri()}
