"""The scoreboard: every claim of every paper in one table, as a page, as CSV and as JSON."""
import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable
from html import escape

from cl_lib import pages
from cl_lib.evidence import STATUSES, Verdict
from cl_lib.pages import Judged, badge, doc
from cl_lib.papers import Claim, Paper, Part

CSV, JSON = "_static/scoreboard.csv", "_static/scoreboard.json"
COLUMNS = ("Paper", "Claim", "Verdict", "Effect", "Seeds", "Fidelity", "Cost", "Last run")
EFFECTS = ("arm", "against", "mean", "low", "high", "n", "status")
MISSING = "not written"


def page(parts: tuple[Part, ...], judged: Judged) -> str:
    """Every claim with its verdict, every paper without one, and how far each part is; a plain table without scripts."""
    papers = [p for part in parts for nb in part.notebooks for p in nb.papers]
    verdicts = [v for p in papers for _, v in judged[p.id]]
    count = Counter(v.status for v in verdicts)
    missing = sum(not judged[p.id] for p in papers)
    tiles = "".join(f'<li class="cl-{s.replace(" ", "-")}"><b>{count[s]}</b> {badge(s)}</li>' for s in STATUSES)
    tiles += "".join(f'<li class="cl-{name}"><b>{n}</b> <span class="cl-badge cl-{name}">{words}</span></li>'
                     for name, words, n in (("stale", "stale", sum(v.stale for v in verdicts)),
                                            ("failed", "with failed runs", sum(v.failed > 0 for v in verdicts))) if n)
    rows = "".join(_rows(part, judged) for part in parts)
    heads = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    return "\n".join([
        "---", "html_theme.sidebar_secondary.remove: true", "---", "# Scoreboard", "",
        f"{len(papers)} papers are planned. Written so far: {len(papers) - missing}. **Missing: {missing}.** "
        f"Every verdict below is computed from recorded runs by {doc('one rule', 'protocols')}, never typed.", "",
        f'<ul class="tiles">{tiles}</ul>', "",
        "Right of the upright line is as claimed; the dotted line is the smallest effect of interest (or the margin),",
        "set before the first run; the bar is the 95 % interval over paired seeds.", "",
        f'<p class="downloads">The whole table: <a href="{CSV}" download>CSV</a> · <a href="{JSON}" download>JSON</a></p>', "",
        '<div class="wide" tabindex="0" role="region" aria-label="All claims with their verdicts">'
        f'<table id="claims"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>', "",
        "## What is missing", "",
        "| part | chapters written | papers written | papers missing |", "|---|--:|--:|--:|",
        *(_progress(part, judged) for part in parts), ""])


def _rows(part: Part, judged: Judged) -> str:
    return "".join(_row(part, nb.title, p, c, v) for nb in part.notebooks for p in nb.papers
                   for c, v in judged[p.id] or ((None, None),))


def _row(part: Part, chapter: str, p: Paper, c: Claim | None, v: Verdict | None) -> str:
    """A claim as a row of the table; what sorts differently from how it reads carries its key."""
    name = (f'<a href="papers/{p.id}.html" title="{escape(p.title)}">{p.id}</a>'
            f"<small>{escape(p.authors)} {p.year}</small><small>{escape(chapter)}</small>")
    if c is None:
        cells = [(name, p.id), (f"<small>{escape(p.title)}</small>", None),
                 (f'<span class="cl-badge cl-missing">{MISSING} yet</span>', len(STATUSES)), *[("–", "")] * 5]
        marks = {"status": MISSING}
    else:
        cells = [(name, p.id), (f"{escape(c.says)}<small>{c.kind.replace('_', ' ')}</small>", None),
                 (badge(v), STATUSES.index(v.status)),
                 (pages.drawn(c, v, 120, spoken=False) + pages.effect(c, v), min((e.mean for e in v.effects), default="")),
                 (f"{len(v.seeds) or '–'}<small>{v.tier or ''}</small>", len(v.seeds)), (c.fidelity, None),
                 (pages.duration(v.seconds) if v.tier else "–", round(v.seconds) if v.tier else ""),
                 ((v.utc or "–")[:10], v.utc or "")]
        marks = {"status": v.status, "fidelity": c.fidelity, "kind": c.kind.replace("_", " ")}
        marks |= {"stale": "yes"} if v.stale else {}
    marks |= {"part": part.title, "year": str(p.year)}
    data = "".join(f' data-{k}="{escape(value)}"' for k, value in marks.items())
    tds = "".join(f"<td>{cell}</td>" if key is None else f'<td data-key="{escape(str(key))}">{cell}</td>' for cell, key in cells)
    return f"<tr{data}>{tds}</tr>"


def _progress(part: Part, judged: Judged) -> str:
    papers = [p for nb in part.notebooks for p in nb.papers]
    done = sum(bool(judged[p.id]) for p in papers)
    chapters = sum(any(judged[p.id] for p in nb.papers) for nb in part.notebooks)
    return (f"| {doc(part.title, f'/{part.name}/index')} | {chapters} of {len(part.notebooks)} | "
            f"{done} | {len(papers) - done} |")


def records(parts: Iterable[Part], judged: Judged) -> list[dict]:
    """The table as data: one record a claim, and one for each paper without claims, with verdict `not written`."""
    out = []
    for part in parts:
        for p in (p for nb in part.notebooks for p in nb.papers):
            about = {"paper": p.id, "title": p.title, "authors": p.authors, "year": p.year, "part": part.name, "chapter": p.notebook}
            out += [{**about, **_claim(c, v)} for c, v in judged[p.id]] or [{**about, "claim": None, "verdict": MISSING, "effects": []}]
    return out


def _claim(c: Claim, v: Verdict) -> dict:
    return {"claim": c.name, "says": c.says, "where": c.where, "kind": c.kind, "fidelity": c.fidelity, "metric": c.metric,
            "better": c.better, "verdict": v.status, "stale": v.stale, "failed_runs": v.failed, "tier": v.tier,
            "seeds": len(v.seeds), "seconds": round(v.seconds, 1), "last_run": v.utc, "error": v.error, "tolerance": c.tolerance,
            "effects": [{name: _finite(getattr(e, name)) for name in EFFECTS} for e in v.effects]}


def _finite(x):
    """None for an interval's end that is infinite: JSON has no word for it."""
    return None if isinstance(x, float) and not math.isfinite(x) else x


def as_json(found: list[dict]) -> str:
    return json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(found: list[dict]) -> str:
    """One line a claim and contrast: a claim of two contrasts stands on two lines."""
    names = list(dict.fromkeys(name for r in found for name in r if name != "effects"))
    file = io.StringIO()
    writer = csv.DictWriter(file, [*names, *EFFECTS[:-1], "contrast_verdict"], lineterminator="\n")
    writer.writeheader()
    for r in found:
        for e in r["effects"] or [{}]:
            flat = {("contrast_verdict" if k == "status" else k): x for k, x in e.items()}
            writer.writerow({**{k: x for k, x in r.items() if k != "effects"}, **flat})
    return file.getvalue()
