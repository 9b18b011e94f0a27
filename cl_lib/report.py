"""The site: stages the book with its generated pages under build/, and has it built; never executes a notebook."""
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from cl_lib import evidence, pages, papers
from cl_lib.errors import InputError
from cl_lib.papers import ROOT, Notebook

SOURCE, SITE = ROOT / "build" / "src", ROOT / "build" / "site"
MATHJAX = ("tex-chtml.js", "output/chtml/fonts", "input/tex/extensions", "a11y", "sre/mathmaps/base.json", "sre/mathmaps/en.json")
FOLDED = {"oracle": "Show the checks", "parameters": "Show the parameters"}


def build(strict: bool = True, *, root: Path = ROOT, out: Path | None = None) -> Path:
    """Build the site and return its folder; what has not changed since the last time is not built again.

    Raises: InputError when a page has a warning (a dead reference, say) and `strict` is set.
    """
    from jupyter_book.sphinx import build_sphinx

    start = time.monotonic()
    out = out or root / "build"
    source, html = site(out / "src", root=root), out / "site"
    _mathjax(html / "_static" / "mathjax")
    status = build_sphinx(
        source, html, path_config=root / "_config.yml", doctreedir=out / "doctrees", quiet=True, keep_going=True,
        warningiserror=strict, jobs=os.cpu_count(), confoverrides={
            "external_toc_path": str(source / "_toc.yml"), "external_toc_exclude_missing": False, "nitpicky": True,
            "latex_individualpages": False})
    if status:
        raise InputError(f"the book was not built: {status if isinstance(status, Exception) else 'see the warnings above'}")
    count = sum(1 for _ in html.rglob("*.html"))
    print(f"{count} pages in {time.monotonic() - start:.0f} s. Open {html / 'index.html'} in a browser,\n"
          f"or: python -m http.server 8000 -d {os.path.relpath(html)}   and visit localhost:8000")
    return html


def site(out: Path = SOURCE, *, root: Path = ROOT) -> Path:
    """Write the sources of the site to `out`: the book's own pages, notebooks with their badges, generated pages.

    A file is touched only when its content changes, and one that no longer belongs is removed.
    """
    parts = papers.book(root)
    judged = {p.id: tuple((c, evidence.verdict(c, rows)) for c in p.claims)
              for p in papers.papers(root).values() for rows in [evidence.rows(p.id, root / "data" / "results")]}
    files: dict[str, str | bytes] = {"_toc.yml": pages.toc(parts), "scoreboard.md": pages.scoreboard(parts, judged),
                                     "bibliography.md": pages.bibliography(parts), "references.bib": pages.bibtex(parts)}
    written: set[str] = set()
    for name, content in _own(root / "book"):
        files[name] = content
    for part in parts:
        for nb in part.notebooks:
            path = root / nb.path
            if path.exists():
                found = sections(cells := _read(path))
                written |= found
                files[f"{part.name}/{nb.name}.ipynb"] = stage(cells, nb, found, judged)
            else:
                files[f"{part.name}/{nb.name}.md"] = pages.stub(nb, part, judged)
            for p in nb.papers:
                files[f"papers/{p.id}.md"] = pages.card(p, nb, part, judged[p.id], p.id in written)
        files[f"{part.name}/index.md"] = pages.part_page(part, written, judged)
    _write(out, files)
    return out
