"""The site: stages the book with its generated pages under build/ and has it built; never executes a notebook."""
import copy
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from cl_lib import cards, evidence, experiment, history, maps, pages, papers, performance, pictures, reading, scoreboard, status
from cl_lib.errors import InputError
from cl_lib.papers import ROOT, Notebook, Paper

MATHJAX = ("tex-chtml.js", "output/chtml/fonts", "input/tex/extensions", "a11y", "sre/mathmaps/base.json",
           "sre/mathmaps/en.json")
# In a process of its own, because the builder leaves settings behind that would make the next build start from nothing.
BUILD = """import json, sys
from jupyter_book.sphinx import build_sphinx
sys.exit(bool(build_sphinx(**json.loads(sys.argv[1]))))"""
FIRST = """<!doctype html>
<meta charset="utf-8"><title>Contrastive Learning, Reproduced</title>
<meta http-equiv="refresh" content="0; url=intro.html"><a href="intro.html">Contrastive Learning, Reproduced</a>
"""
FOLDED = {"parameters": "the parameters of this run", "oracle": "the checks that must hold exactly",
          "experiment": "how the arms are measured"}
# The theme's icons also come as a font with its style sheet, and only the page of results searches.
ICONS, SEARCHED = (re.compile(rb'\s*<script[^>]* src="(?:[^"]*/)?(?:%s)\.js[^>]*></script>' % names)
                   for names in (b"fontawesome", b"searchtools|language_data|searchindex"))
GLUED = re.compile(r"\{glue:\w+\}`([\w-]+\.[\w-]+)[^`]*`")  # a number that the text quotes; first its claim
NOT_MEASURED = '<span class="cl-badge cl-missing">not measured yet</span>'
CLAIM_LINES = 8  # a claim cell that is longer draws a figure of its own, and is folded

Files = dict[str, str | bytes]  # path in the sources -> content


def build(strict: bool = True, *, root: Path = ROOT, out: Path | None = None, repository: str | None = None) -> Path:
    """Build the site and return its folder; a page that has not changed since the last time is not built again.

    `repository`: the public address, to which Colab and Binder lead; default: `repository.url` of `_config.yml`.

    Raises: InputError when the builder fails or, with `strict`, when a page has a warning (a dead reference, say).
    """
    begin = time.monotonic()
    out = out or root / "build"
    source, html = site(out / "src", root=root, repository=repository), out / "site"
    _mathjax(html / "_static" / "mathjax")
    known = out / ("doctrees" if strict else "doctrees-lenient")
    if _restyled(source / "_static", html / "_static"):
        shutil.rmtree(known, ignore_errors=True)  # the builder looks for changed pages alone, and would keep the old style
    arguments = dict(
        sourcedir=str(source), outputdir=str(html), noconfig=True, path_config=str(root / "_config.yml"),
        doctreedir=str(known), quiet=True, keep_going=True, warningiserror=strict, confoverrides={
            "external_toc_path": str(source / "_toc.yml"), "nitpicky": True, "latex_individualpages": False})
    if subprocess.run([sys.executable, "-c", BUILD, json.dumps(arguments)]).returncode:
        shutil.rmtree(known, ignore_errors=True)  # or a page with a warning would pass next time, unread
        raise InputError("the book was not built; see the warnings above")
    (html / "index.html").write_text(FIRST)
    _lighten(html)
    count = sum(1 for _ in html.rglob("*.html"))
    print(f"The book: {count} pages, built in {time.monotonic() - begin:.0f} s.\n"
          f"Open {html / 'index.html'} in a browser,\n"
          f"or serve it: python -m http.server 8000 -d {os.path.relpath(html)}   (then visit localhost:8000)")
    return html


def site(out: Path = ROOT / "build" / "src", *, root: Path = ROOT, repository: str | None = None) -> Path:
    """Write the sources of the site to `out`: the book's own pages, notebooks with their verdicts, generated pages.

    A file is touched only when its content changes, and one that no longer belongs is removed.
    """
    repository = repository or address(root)
    parts, known, landmarks = papers.book(root), papers.papers(root), papers.landmarks(root)
    notebooks = {nb.name: _read(root / nb.path) for nb in papers.notebooks(root).values() if (root / nb.path).exists()}
    written = {p for content in notebooks.values() for p in sections(content)}
    rows = {id: evidence.rows(id, root / "data" / "results") for id in known}
    judged = {p.id: judge(p, rows[p.id]) for p in known.values()}
    claims = {c.name: c for p in known.values() for c in p.claims}
    histories = {name: history.history(c, rows[c.paper]) for name, c in claims.items()}
    terms = reading.terms((root / "book" / "glossary.md").read_text(encoding="utf8"))
    table = scoreboard.records(parts, judged)

    files = _own_pages(root / "book", {"<!-- verdict legend -->": pages.legend(),
                                       "<!-- parts -->": pages.overview(parts, written),
                                       "<!-- language models -->": pages.language_models(_curves(root))}, terms)
    files |= {"_toc.yml": pages.toc(parts), "scoreboard.md": scoreboard.page(parts, judged),
              scoreboard.CSV: scoreboard.as_csv(table), scoreboard.JSON: scoreboard.as_json(table),
              "changes.md": history.page(claims, histories), history.FEED: history.feed(claims, histories),
              "map.md": maps.map_page(parts, judged, landmarks), "timeline.md": maps.timeline_page(parts, judged),
              "status.md": status.page(parts, judged, rows, written),
              "bibliography.md": pages.bibliography(parts), "references.bib": pages.bibtex(parts)}
    files |= performance.files(root / "data" / "perf")
    for part in parts:
        files[f"{part.name}/index.md"] = pages.part_page(part, written, judged)
        for nb in part.notebooks:
            shown: dict[str, list[str]] = {}
            if content := notebooks.get(nb.name):
                opening = _opening(content, nb, written) + status.run_box(nb, rows, repository)
                files[f"{part.name}/{nb.name}.ipynb"] = stage(content, nb.name, terms, nb, judged, opening)
                for claim, figures in cards.figures(content).items():
                    for i, figure in enumerate(figures, 1):
                        files[f"papers/figures/{claim}-{i}.png"] = figure.png
                        shown.setdefault(claim, []).append(
                            f"```{{image}} figures/{claim}-{i}.png\n:alt: {' '.join(figure.alt.split())}\n```\n")
            else:
                files[f"{part.name}/{nb.name}.md"] = pages.stub(nb, part, judged)
            for p in nb.papers:
                files[f"papers/{p.id}.md"] = cards.card(
                    p, nb, part, judged[p.id], p.id in written, histories=histories, rows=rows[p.id], shown=shown,
                    kin=cards.neighbours(p, known, landmarks))
    _write(out, files)
    return out


def address(root: Path = ROOT) -> str | None:
    """The public address of the repository, where `_config.yml` names one."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf8"))
    return (config.get("repository") or {}).get("url")


def _curves(root: Path) -> list[dict]:
    """What stands beside the weights of the book's own language models."""
    return [json.loads(path.read_text(encoding="utf8")) for path in sorted((root / "data" / "bundled").glob("*_curve.json"))]


def judge(paper: Paper, rows: list[dict]) -> tuple[tuple[papers.Claim, evidence.Verdict], ...]:
    """The claims of a paper with the verdicts of its rows, stale where the code has moved since."""
    code = experiment.current_code(paper) if rows else None
    return tuple((c, evidence.verdict(c, rows, code=code)) for c in paper.claims)


def _opening(content: dict, nb: Notebook, written: set[str]) -> str:
    """What stands under the title of a chapter: how much there is to read."""
    return (f'<p class="chapter-facts">About {reading.minutes(content["cells"])} minutes to read · '
            f"{sum(p.id in written for p in nb.papers)} of {len(nb.papers)} papers written</p>")


def sections(content: dict) -> list[str]:
    """The papers that have a section in a notebook, in order."""
    return list(dict.fromkeys(tag[6:] for cell in content["cells"] for tag in _tags(cell) if tag.startswith("paper:")))


def stage(content: dict, name: str, terms: list[str], nb: Notebook | None = None, judged: pages.Judged | None = None,
          opening: str = "") -> str:
    """A notebook as the site shows it: `opening` under its title, verdicts under the headings, equations numbered, glossary
    terms linked where they first stand, alternative texts where the page looks for them, technical cells folded, nothing
    that a terminal printed to stderr, and its missing papers listed at the end.
    """
    content = copy.deepcopy(content)
    cells, seen, equations, unlinked = [], set(), 1, reading.patterns(terms)
    for cell in content["cells"]:
        tags = _tags(cell)
        paper = next((tag[6:] for tag in tags if tag.startswith("paper:")), None)
        if cell["cell_type"] == "code":
            cells += _code(cell, _fold(cell, tags, nb))
            continue
        source, equations = reading.number_equations("".join(cell["source"]), name, equations)
        source = _unmeasured(reading.link_terms(source, unlinked), judged or {})
        if opening:
            source, opening = _below_heading(source, opening), ""
        if judged and paper in judged and paper not in seen:
            seen.add(paper)
            source = _below_heading(source, cards.section_row(paper, judged[paper]), anchor=f"{paper}-section")
        cells.append({**cell, "source": source})
    if nb and judged and (missing := [p for p in nb.papers if p.id not in sections(content)]):
        cells.append({"cell_type": "markdown", "id": "planned", "metadata": {}, "source": pages.rest(missing, judged)})
    content["cells"] = cells
    content["metadata"].setdefault("language_info", {"name": "python"})
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _unmeasured(source: str, judged: pages.Judged) -> str:
    """`source` with the numbers of claims that have no evidence yet shown as such, where the text quotes them."""
    without = {c.name for claims in judged.values() for c, v in claims if v.tier is None}
    return GLUED.sub(lambda m: NOT_MEASURED if m[1] in without else m[0], source)


def _fold(cell: dict, tags: list[str], nb: Notebook | None) -> str | None:
    """What is behind the fold of a technical cell; None for one that is read as it stands."""
    if nb and not tags:
        return "the set-up"
    if "claim" in tags and "".join(cell["source"]).count("\n") >= CLAIM_LINES:
        return "the code of this claim and its figure"
    return next((text for tag, text in FOLDED.items() if tag in tags), None)


def _tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def _below_heading(source: str, html: str, anchor: str = "") -> str:
    """`source` with a line of HTML under its first heading, and an anchor above that."""
    lines = source.split("\n")
    at = max(next((i for i, line in enumerate(lines) if line.startswith("#")), -1), 0)
    return "\n".join([*lines[:at], *([f"({anchor})="] if anchor else []), lines[at], "", html, "", *lines[at + 1:]])


def _code(cell: dict, fold: str | None) -> list[dict]:
    """A code cell, folded or not, split so that each picture has its own: the page takes alternative texts by cell."""
    if fold:
        cell["metadata"]["tags"] = [*_tags(cell), "hide-input"]
        cell["metadata"].setdefault("mystnb", {})["code_prompt_show"] = f"Show {fold}"
        cell["metadata"]["mystnb"]["code_prompt_hide"] = f"Hide {fold}"
    out, outputs = [cell], cell["outputs"]
    cell["outputs"] = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        here = out[-1]
        if alt and "image" in here["metadata"].get("mystnb", {}):
            # not empty: the page would leave out a cell without source, and its picture with it
            here = {"cell_type": "code", "id": f"{cell.get('id', 'cell')}-{len(out)}", "execution_count": None,
                    "source": "...", "metadata": {"tags": ["remove-input"]}, "outputs": []}
            out.append(here)
        if alt:
            here["metadata"].setdefault("mystnb", {})["image"] = {"alt": alt}
        here["outputs"].append(output)
    return out


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf8"))
        content["cells"][0]["cell_type"]
    except (ValueError, LookupError, TypeError):
        raise InputError(f"{path}: not a notebook with cells") from None
    pictures.put_back(content, path)
    return content


def _own_pages(book: Path, fillings: dict[str, str], terms: list[str]) -> Files:
    """What is written by hand at the top of the book and under _static; computed parts go where a mark stands."""
    def filled(text: str) -> str:
        for mark, filling in fillings.items():
            text = text.replace(mark, filling)
        return text

    files: Files = {}
    for path in sorted(p for p in book.glob("*") if p.suffix in {".md", ".ipynb"}):
        if path.suffix == ".md":
            files[path.name] = filled(path.read_text(encoding="utf8"))
            continue
        content = _read(path)
        for cell in content["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = filled("".join(cell["source"]))
        files[path.name] = stage(content, path.stem, terms)
    for path in sorted(p for p in (book / "_static").rglob("*") if p.is_file()):
        files[path.relative_to(book).as_posix()] = path.read_bytes()
    return files


def _write(out: Path, files: Files) -> None:
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        path = out / name
        if not (path.is_file() and path.read_bytes() == data):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    for path in out.rglob("*"):
        if path.is_file() and path.relative_to(out).as_posix() not in files:
            path.unlink()


def _restyled(source: Path, built: Path) -> bool:
    """Whether a style sheet, script or picture of the site's own is not yet there as it is in the sources."""
    return any(not (built / f.name).is_file() or (built / f.name).read_bytes() != f.read_bytes() for f in source.iterdir())


def _lighten(html: Path) -> None:
    """Take out the scripts that a page loads and does not need: they were half of its weight."""
    for page in html.rglob("*.html"):
        before = page.read_bytes()
        after = ICONS.sub(b"", before if page.name == "search.html" else SEARCHED.sub(b"", before))
        if after != before:
            page.write_bytes(after)


def _mathjax(out: Path) -> None:
    """Put MathJax, from the package that ships it, beside the pages: they render without any network."""
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None:
        raise InputError("MathJax is not installed: pip install sphinx-mathjax-offline")
    source = Path(spec.origin).parent / "static" / "mathjax"
    for name in MATHJAX:
        if (out / name).exists():
            continue
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (source / name).is_dir() else shutil.copy)(source / name, out / name)
