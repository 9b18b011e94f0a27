"""The generated pages say what the registry and the rows say, and staging changes nothing else."""
import csv
import io
import itertools
import json
import re
import shutil
from base64 import b64decode
from hashlib import sha1
from io import BytesIO
from xml.etree import ElementTree

import pytest
import yaml
from PIL import Image

from cl_lib import cards, evidence, experiment, figures, history, maps, pages, papers, reading, report, scoreboard, status
from cl_lib.errors import InputError
from cl_lib.papers import ROOT

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def image(alt=None):
    return {"output_type": "display_data", "data": {"image/png": PIXEL, "text/plain": "a figure"},
            "metadata": {"image/png": {"alt": alt}} if alt else {}}


def cell(kind, source, *tags, outputs=()):
    extra = {"outputs": list(outputs), "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "id": sha1(source.encode()).hexdigest()[:8], "metadata": {"tags": list(tags)},
            "source": source, **extra}


def notebook():
    stderr = {"output_type": "stream", "name": "stderr", "text": ["a progress bar\n"]}
    kernel = {"name": "python3", "display_name": "Python 3"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": [
        cell("markdown", "# Rewriting the objective\n\nText."),
        cell("code", "tier = 'cpu'", "parameters"),
        cell("markdown", "## Decoupled *contrast*\n\nSee [the card](#dcl).", "paper:dcl", "idea"),
        cell("code", "def dcl(z): ...", "paper:dcl", "method"),
        cell("code", "assert True", "paper:dcl", "oracle"),
        cell("code", "draw()", "paper:dcl", "claim", outputs=[stderr, image("first alt"), image("second alt")]),
        cell("markdown", "Reading.", "paper:dcl", "reading"),
    ]}


def rows(claim, differences, **more):
    return [dict(paper="dcl", claim=claim, arm=arm, seed=i, tier="cpu", value=value, metrics={}, settings={},
                 tuning=None, seconds=30.0, peak_mb=1, device="cpu", torch="2", code="old", data="x", commit="c",
                 utc="2026-01-02T03:04:05+00:00", **more)
            for i, d in enumerate(differences) for arm, value in (("dcl", 0.5 + d), ("info_nce", 0.5))]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project of two chapters: one written, with evidence for one of its papers; one only planned."""
    (tmp_path / "data/papers").mkdir(parents=True)
    (tmp_path / "book/foundations").mkdir(parents=True)
    (tmp_path / "book/_static").mkdir()
    (tmp_path / "data/book.yml").write_text(yaml.safe_dump([
        {"name": "foundations", "title": "Foundations", "intro": "First things.",
         "notebooks": [{"name": "objectives", "title": "Rewriting", "intro": "One softmax, six changes."}]},
        {"name": "text", "title": "Text", "intro": "Words.",
         "notebooks": [{"name": "sentence-views", "title": "Two views", "intro": "What is a view of a sentence?"}]}]))

    def row(id, **more):
        return {"id": id, "title": f"Title of {id} <b> & $x$", "authors": "Yeh et al.", "year": 2022,
                "venue": None, "arxiv": "2110.06848", "code": "a/b",
                "idea": "An *idea* with_under_scores, a_b $5 [x](y) <script>.",
                "headline": None, "departures": ["smaller"], "claims": [], **more}

    def claim(id, **more):
        return {"id": id, "says": f"{id} <says>", "where": "Table 1", "fidelity": "scaled-down",
                "metric": "knn_accuracy", "better": "higher", **more}

    contrasts = {"kind": "effect", "contrasts": [{"arm": "dcl", "against": "info_nce", "min_effect": 0.01}]}
    claims = [claim("small-batch", **contrasts), claim("exact", kind="identity", tolerance=1e-10),
              claim("untried", **contrasts)]
    (tmp_path / "data/papers/objectives.yml").write_text(yaml.safe_dump([row("dcl", claims=claims), row("cacr")]))
    (tmp_path / "data/papers/sentence-views.yml").write_text(yaml.safe_dump([row("simcse")]))
    (tmp_path / "book/foundations/objectives.ipynb").write_text(json.dumps(notebook()))
    (tmp_path / "book/intro.md").write_text("# Start\n\nHello.\n")
    for name in ("rerun", "protocols", "glossary"):
        shutil.copy(ROOT / "book" / f"{name}.md", tmp_path / "book")
    for name in (ROOT / "book/_static").iterdir():
        shutil.copy(name, tmp_path / "book/_static")
    shutil.copy(ROOT / "_config.yml", tmp_path)
    found = rows("dcl.small-batch", [0.02, 0.03, 0.025, 0.02, 0.03])
    found += [{**r, "claim": "dcl.exact", "arm": "all", "value": 3e-12} for r in found[::2]]
    (tmp_path / "data/results/objectives").mkdir(parents=True)
    (tmp_path / "data/results/objectives/dcl.jsonl").write_text("".join(json.dumps(r) + "\n" for r in found))
    monkeypatch.setattr(experiment, "ROOT", tmp_path)
    yield tmp_path
    papers.book.cache_clear()


def judged(root, paper):
    return report.judge(papers.paper(paper, root), evidence.rows(paper, root / "data/results"))


def read(root):
    out = report.site(root / "build/src", root=root)
    return {p.relative_to(out).as_posix(): p.read_text(errors="ignore") for p in out.rglob("*") if p.is_file()}


def test_every_paper_and_chapter_has_a_page(root):
    found = read(root)
    assert {f"papers/{p}.md" for p in ("dcl", "cacr", "simcse")} <= set(found)
    assert "text/sentence-views.md" in found and "foundations/objectives.ipynb" in found
    toc = yaml.safe_load(found["_toc.yml"])
    files = re.findall(r"file: (\S+)", found["_toc.yml"])
    assert toc["root"] == "intro" and {"foundations/objectives", "text/sentence-views", "scoreboard"} <= set(files)


def test_missing_papers_say_so_and_are_counted(root):
    found = read(root)
    assert "Not written yet" in found["papers/cacr.md"] and "Not written yet" not in found["papers/dcl.md"]
    assert "3 papers are planned. Written so far: 1. **Missing: 2.**" in found["scoreboard.md"]
    assert "Not written yet" in found["text/sentence-views.md"]
    assert all("What is a view of a sentence?" in found[f"text/{page}.md"] for page in ("sentence-views", "index"))
    assert "#cacr" in json.loads(found["foundations/objectives.ipynb"])["cells"][-1]["source"]


def test_verdicts_on_card_scoreboard_and_section_are_those_of_the_rule(root):
    found = read(root)
    verdicts = dict((c.id, v) for c, v in judged(root, "dcl"))
    assert [v.status for v in verdicts.values()] == ["reproduced", "reproduced", "no evidence"]
    assert verdicts["small-batch"].stale  # the rows carry another code hash than the notebook
    cells = json.loads(found["foundations/objectives.ipynb"])["cells"]
    section = next(c["source"] for c in cells if "idea" in c["metadata"]["tags"])
    for page in (found["papers/dcl.md"], found["scoreboard.md"], section):
        assert page.count("cl-badge cl-reproduced") >= 2 and "cl-no-evidence" in page and "cl-stale" in page
    e = verdicts["small-batch"].effects[0]
    assert f"{e.mean:+.3g}" in found["scoreboard.md"] and f"{e.low:+.3g} to {e.high:+.3g}" in found["papers/dcl.md"]
    assert "3.0e-12" in found["scoreboard.md"]
    assert section.startswith("(dcl-section)=\n## Decoupled")


def test_registry_text_reaches_the_page_as_plain_text(root):
    card, board = read(root)["papers/dcl.md"], read(root)["scoreboard.md"]
    assert r"An \*idea\* with\_under\_scores, a\_b \$5 \[x\](y) \<script\>." in card
    assert "<says>" not in board and "&lt;says&gt;" in board


def test_staging_moves_alternative_texts_to_one_cell_each_and_drops_stderr(root):
    cells = json.loads(read(root)["foundations/objectives.ipynb"])["cells"]
    shown = [c for c in cells if c["cell_type"] == "code" and c["outputs"]]
    assert [c["metadata"]["mystnb"]["image"]["alt"] for c in shown] == ["first alt", "second alt"]
    assert [len(c["outputs"]) for c in shown] == [1, 1] and shown[0]["source"] == "draw()"
    assert "progress bar" not in json.dumps(cells)
    folded = {t for c in cells for t in c["metadata"].get("tags", []) if "hide-input" in c["metadata"]["tags"]}
    assert folded == {"hide-input", "parameters", "oracle", "paper:dcl"}


def test_staging_touches_only_what_changed_and_removes_what_is_gone(root):
    out = report.site(root / "build/src", root=root)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    (out / "papers" / "ghost.md").write_text("# Ghost")
    (root / "book/intro.md").write_text("# Start\n\nChanged.\n")
    report.site(out, root=root)
    after = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    assert set(after) == set(before)
    assert [p.name for p in after if after[p] != before[p]] == ["intro.md"]


def test_broken_notebook_is_refused_by_name(root):
    path = root / "book/foundations/objectives.ipynb"
    path.write_text('{"cells": [')
    with pytest.raises(InputError, match="objectives.ipynb: not a notebook"):
        report.site(root / "build/src", root=root)


def test_a_dead_reference_fails_the_strict_build_each_time_and_not_the_lenient_one(root, capfd):
    (root / "book/intro.md").write_text("# Start\n\n[nowhere](#no-such-paper)\n")
    for _ in range(2):
        with pytest.raises(InputError, match="not built"):
            report.build(root=root)
        assert "no-such-paper" in capfd.readouterr().err
    assert (report.build(strict=False, root=root) / "intro.html").is_file()
    (root / "book/intro.md").write_text("# Start\n\n[a card](#simcse)\n")
    html = report.build(root=root)
    assert 'href="papers/simcse.html#simcse"' in (html / "intro.html").read_text()
    assert 'alt="second alt"' in (html / "foundations/objectives.html").read_text()


def test_interval_is_drawn_where_the_numbers_are():
    contrast = papers.Contrast("a", "b", min_effect=1.0)
    claim = papers.Claim("p", "c", "says", "abstract", "effect", "same", "accuracy", "higher", (contrast,))
    e = evidence.effect(claim, contrast, {i: v for i, v in enumerate([1.0, 2.0, 3.0])}, dict.fromkeys(range(3), 0.0))
    svg = pages.drawn(claim, evidence.Verdict(e.status, effects=(e,)), width=200)
    zero, wanted, line = (list(map(float, re.search(rf'{p}[^>]*x1="([\d.]+)" x2="([\d.]+)"', svg).groups()))
                          for p in ("zero", "wanted", '<g class="[^"]*"><line'))
    mean = float(re.search(r'cx="([\d.]+)"', svg)[1])
    unit = wanted[0] - zero[0]  # one unit of the metric in the drawing
    assert mean == pytest.approx(zero[0] + 2 * unit, abs=0.3)
    assert line == pytest.approx([zero[0] + e.low * unit, zero[0] + e.high * unit], abs=0.3)
    assert "95 % interval" in svg and 'role="img"' in svg


def test_drawing_one_seed_has_an_infinite_interval_that_stays_inside():
    contrast = papers.Contrast("a", "b", min_effect=1.0)
    claim = papers.Claim("p", "c", "says", "abstract", "effect", "same", "accuracy", "higher", (contrast,))
    e = evidence.effect(claim, contrast, {0: 2.0}, {0: 0.0})
    svg = pages.drawn(claim, evidence.Verdict(e.status, effects=(e,)), width=100)
    assert all(0 <= float(x) <= 100 for x in re.findall(r'[xc]+[12]?="([-\d.einf]+)"', svg))


def test_legend_shows_each_verdict_the_rule_can_give_an_effect():
    found = re.findall(r"cl-badge cl-([a-z-]+)", pages.legend())
    assert found == ["reproduced", "partly", "not-separated", "contradicted"]


def test_language_models_are_a_table_of_their_curves():
    made = [json.loads(p.read_text()) for p in sorted((ROOT / "data" / "bundled").glob("*_curve.json"))]
    text = pages.language_models(made)
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.split("\n") if line.startswith("| mini")]
    assert [r[0] for r in rows] == ["mini-bert", "mini-gpt", "mini-gpt-small"] and {len(r) for r in rows} == {7}
    for row, m in zip(rows, made, strict=True):
        assert float(row[3].replace(",", "")) == pytest.approx(m["test"]["perplexity"], abs=0.5)
    assert f"{made[0]['stsb']['4']:.0f} after layer 4" in text and pages.language_models([]) == ""


def test_bibtex_is_read_back_by_a_bibtex_reader():
    from pybtex.database import parse_string

    entries = parse_string(pages.bibtex(papers.book()), "bibtex").entries
    assert set(entries) == set(papers.papers())
    assert str(entries["simcse"].persons["author"][-1]) == "others"
    assert entries["simcse"].fields["eprint"] == "2104.08821"


def test_scoreboard_is_a_well_formed_table(root):
    html = re.search(r"<table.*</table>", read(root)["scoreboard.md"])[0]
    table = ElementTree.fromstring(html.replace("<br>", "<br/>"))
    assert {len(row) for row in table.iter("tr")} == {8} and len(list(table.iter("tr"))) == 1 + 3 + 2
    assert [row.get("data-status") for row in table.iter("tr")][1:] == [
        "reproduced", "reproduced", "no evidence", "not written", "not written"]


def test_the_table_as_data_gives_each_contrast_a_line_and_no_infinite_number(root):
    found = read(root)
    records = json.loads(found[scoreboard.JSON], parse_constant=pytest.fail)
    assert [r["claim"] for r in records] == ["dcl.small-batch", "dcl.exact", "dcl.untried", None, None]
    assert records[0]["effects"][0]["mean"] == pytest.approx(0.025) and records[0]["stale"] and records[0]["seeds"] == 5
    lines = list(csv.DictReader(io.StringIO(found[scoreboard.CSV])))
    assert len(lines) == 5 and float(lines[0]["mean"]) == pytest.approx(0.025) and lines[3]["verdict"] == "not written"
    assert scoreboard._finite(-float("inf")) is None


def test_five_hundred_claims_make_a_page_of_less_than_a_megabyte_and_a_half(root):
    claim, verdict = judged(root, "dcl")[0]
    parts = papers.book(root)
    html = scoreboard.page(parts, {"dcl": ((claim, verdict),) * 500, "cacr": (), "simcse": ()})
    assert html.count("<tr data-status=") == 502 and len(html) < 1.0e6


def test_a_failed_run_and_a_missing_section_are_shown(root):
    path = root / "data/results/objectives/dcl.jsonl"
    failed = {**json.loads(path.read_text().splitlines()[0]), "seed": 9, "value": None, "error": "diverged"}
    with open(path, "a") as file:
        file.write(json.dumps(failed) + "\n")
    found = read(root)
    for page in ("scoreboard.md", "papers/dcl.md", "status.md"):
        assert "cl-badge cl-failed" in found[page], page
    (root / "book/foundations/objectives.ipynb").unlink()
    assert "its section does not exist yet" in read(root)["papers/dcl.md"]


def test_history_is_what_the_rule_said_after_each_recording():
    contrast = papers.Contrast("dcl", "info_nce", min_effect=0.01)
    claim = papers.Claim("dcl", "x", "says", "abstract", "effect", "same", "accuracy", "higher", (contrast,))
    first = rows("dcl.x", [0.001, -0.002, 0.003])
    again = [{**r, "code": "new", "utc": "2026-02-03T00:00:00+00:00"} for r in rows("dcl.x", [0.02, 0.03, 0.025])]
    same = [{**r, "utc": "2026-03-04T00:00:00+00:00"} for r in again]
    entries = history.history(claim, [*first, *again, *same])
    assert [(e.utc[:7], e.verdict.status) for e in entries] == [("2026-01", "not separated"), ("2026-02", "reproduced")]
    found = history.changes({"dcl.x": entries})
    assert [(now.verdict.status, before and before.status) for _, now, before in found] == [
        ("reproduced", "not separated"), ("not separated", None)]
    page, feed = history.page({"dcl.x": claim}, {"dcl.x": entries}), history.feed({"dcl.x": claim}, {"dcl.x": entries})
    assert page.index("2026-02-03") < page.index("2026-01-02") and "→" in page
    root = ElementTree.fromstring(feed.encode())
    atom = {"a": history.ATOM}
    assert [e.findtext("a:title", "", atom) for e in root.findall("a:entry", atom)] == [
        "dcl.x: not separated → reproduced", "dcl.x: not separated"]
    assert len({e.findtext("a:id", "", atom) for e in root.findall("a:entry", atom)}) == 2


def test_a_card_holds_figures_history_cost_neighbours_and_a_reference(root):
    registry = root / "data/papers/objectives.yml"
    entries = yaml.safe_load(registry.read_text())
    entries[1]["relations"] = {"reduces_to": ["dcl"]}
    registry.write_text(yaml.safe_dump(entries))
    book = json.loads((root / "book/foundations/objectives.ipynb").read_text())
    shown = {"output_type": "display_data", "metadata": {},
             "data": {"text/html": '<div class="cl-verdict">', "text/plain": "dcl.exact: reproduced"}}
    book["cells"][5]["source"] = 'run.claim("dcl.small-batch", arms, measure)'
    book["cells"][5]["outputs"] = [image("first alt"), shown, image("second alt")]
    (root / "book/foundations/objectives.ipynb").write_text(json.dumps(book))
    papers.book.cache_clear()
    found = read(root)
    card = found["papers/dcl.md"]
    assert card.index("figures/dcl.small-batch-1.png") < card.index("figures/dcl.exact-1.png")
    assert {"papers/figures/dcl.small-batch-1.png", "papers/figures/dcl.exact-1.png"} <= set(found)
    assert '<time datetime="2026-01-02T03:04:05+00:00">' in card and "took 8 min (15 rows" in card
    assert "Reduces to this: [Title of cacr" in card and "Reduces to: [Title of dcl" in found["papers/cacr.md"]
    assert "```bibtex\n@misc{dcl," in card and "[Title of cacr" in card.splitlines()[-1]


def test_the_map_puts_no_two_works_on_one_place_and_draws_each_relation_once():
    book = papers.papers()
    g = maps.graph(book.values(), papers.landmarks())
    at = maps.layout(tuple(sorted(tuple(sorted(e)) for e in g.edges)))
    assert set(at) == set(g) and all(0 < x < maps.WIDTH and 0 < y < maps.HEIGHT for x, y in at.values())
    places = sorted(at.values())
    assert min((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 for a, b in itertools.combinations(places, 2)) > 8 ** 2
    svg = maps.drawing(papers.book(), {p: () for p in book}, papers.landmarks())
    tree = ElementTree.fromstring(svg)
    assert len(list(tree.iter("path"))) == g.number_of_edges()
    assert {a.get("href") for a in tree.iter("a")} == {f"papers/{n}.html" for n in g if n in book}


def test_glossary_terms_are_linked_once_in_plain_text_and_nowhere_else():
    names = reading.terms("Text.\n:::{glossary}\ntemperature\n  A number.\n\nhard negative\n  A.\n\nnegative\n  B.\n\ncontrast\n  C.\n:::\n")
    assert names == ["temperature", "hard negative", "negative", "contrast"]
    source = ("# The temperature\n\n`temperature` $temperature$ [temperature](#x). Hard\nnegatives at a low temperature; "
              "a negative number, a negative; temperature, contrast.\n")
    unlinked = reading.patterns(names)
    linked = reading.link_terms(source, unlinked)
    assert linked == ("# The temperature\n\n`temperature` $temperature$ [temperature](#x). {term}`Hard\nnegatives <hard negative>` "
                      "at a low {term}`temperature`; a negative number, a {term}`negative`; temperature, contrast.\n")
    assert not unlinked and reading.link_terms(source, unlinked) == source
    assert reading.link_terms("{term}`Low temperature <temperature>`, temperature", reading.patterns(names)).count("{term}") == 1


def test_displayed_equations_get_a_number_to_refer_to_and_keep_their_own_label():
    source = "$$\na\n$$\n\n$$ b $$\n\n$$c$$ (mine)\n"
    assert reading.number_equations(source, "nb", 3) == ("$$\na\n$$ (nb-eq-3)\n\n$$ b $$ (nb-eq-4)\n\n$$c$$ (mine)\n", 5)


def test_a_number_without_evidence_is_shown_as_such_and_a_mistyped_one_is_left_to_fail(root):
    book = json.loads((root / "book/foundations/objectives.ipynb").read_text())
    book["cells"][-1]["source"] = "By {glue:text}`dcl.untried.mean:.2f`, {glue:text}`dcl.small-batch.mean`, {glue:text}`dcl.typo.mean`."
    (root / "book/foundations/objectives.ipynb").write_text(json.dumps(book))
    source = json.loads(read(root)["foundations/objectives.ipynb"])["cells"][-2]["source"]
    assert source.startswith("By <span") and "not measured yet</span>, {glue:text}`dcl.small-batch.mean`, {glue:text}`dcl.typo" in source


def test_a_chapter_offers_colab_and_binder_where_the_repository_has_an_address(root):
    nb = papers.notebook("objectives", root)
    with_address = status.run_box(nb, {}, "https://github.com/someone/book")
    assert "colab.research.google.com/github/someone/book/blob/main/book/foundations/objectives.ipynb" in with_address
    assert "mybinder.org/v2/gh/someone/book/HEAD?urlpath=lab/tree/book/foundations/objectives.ipynb" in with_address
    without = status.run_box(nb, {}, None)
    assert "colab.research" not in without and "need a public address" in without
    page = json.loads(read(root)["foundations/objectives.ipynb"])["cells"][0]["source"]
    assert page.index("# Rewriting") < page.index("minutes to read") < page.index("Run this chapter") < page.index("Text.")
    assert set(status.PARAMETERS) == {"tier", "seeds", "device", "papers", "settings"}


def test_show_carries_its_alternative_text_and_refuses_an_empty_one(monkeypatch):
    import matplotlib.pyplot as plt

    shown = []
    monkeypatch.setattr(figures, "display", lambda data, **kw: shown.append((data, kw)))
    fig, ax = plt.subplots()
    ax.plot([0, 1])
    figures.show(fig, alt="One line that rises from left to right.")
    data, kw = shown[0]
    assert kw["metadata"]["image/png"]["alt"] == "One line that rises from left to right." == data["text/plain"]
    assert not plt.fignum_exists(fig.number)
    for colors in (16, 256):
        fig, ax = plt.subplots()
        ax.imshow([[i * 32 + j for j in range(32)] for i in range(32)])
        figures.show(fig, alt="A square of all colours of the map.", colors=colors)
        picture = Image.open(BytesIO(b64decode(shown[-1][0]["image/png"])))
        assert colors // 2 < len(picture.getcolors()) <= colors
    with pytest.raises(InputError, match="alt must say"):
        figures.show(plt.figure(), alt="")
    plt.close("all")


def test_sketches_have_a_sixteenth_of_the_pixels(monkeypatch):
    import matplotlib.pyplot as plt

    shown = []
    monkeypatch.setattr(figures, "display", lambda data, **kw: shown.append((data, kw)))
    with plt.rc_context():
        plt.rcParams["savefig.dpi"] = figures.DPI
        for _ in range(2):
            figures.show(plt.figure(figsize=(4, 2)), alt="A figure without anything in it.")
            figures.sketch()
    sizes = [Image.open(BytesIO(b64decode(data["image/png"]))).size for data, _ in shown]
    assert sizes == [(4 * figures.DPI, 2 * figures.DPI), (figures.DPI, figures.DPI // 2)]
    assert shown[0][1] == shown[1][1]  # the page shows both at the same width


def test_the_palette_can_be_seen_on_its_paper():
    from matplotlib.colors import to_rgb

    def light(colour):
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for colour in figures.CYCLE:
        assert 1.05 / (light(colour) + 0.05) >= 3, colour


def test_the_framework_lists_every_paper_once_and_leads_to_its_card():
    html = pages.framework(papers.places())
    assert sorted(re.findall(r'href="../papers/([\w.-]+).html"', html)) == sorted(papers.papers())
    rows = re.findall(r"<summary><b>([\w]+)</b> \((\d+)\)", html)
    assert sum(int(n) for _, n in rows) == len(papers.papers()) and "transformation" in dict(rows)
    assert '<a href="../papers/simcse.html">simcse</a>' in html
    table = ElementTree.fromstring(html).find("table")
    counts = [[int(cell.text or 0) for cell in row.findall("td")] for row in table.find("tbody")]
    assert [sum(row[:-1]) for row in counts] == [row[-1] for row in counts] and counts[-1][-1] == len(papers.papers())
    assert [sum(column) for column in zip(*counts[:-1], strict=True)] == counts[-1]
    assert ElementTree.fromstring(html).tag == "div"
    nb = papers.notebook("sentence-views")
    part = next(p for p in papers.book() if p.name == nb.part)
    card = cards.card(papers.paper("simcse"), nb, part, [], True, histories={}, rows=[], shown={}, kin="")
    assert ("[the framework](crl-framework.md): positives **transformation**, negatives **batch**, encoder **shared**, "
            "head **projection**, loss **softmax**.") in card
