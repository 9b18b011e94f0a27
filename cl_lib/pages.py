"""The generated pages of the site, as text made from the registry and the verdicts: adding a paper touches no page."""
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape

import yaml

from cl_lib import evidence
from cl_lib.evidence import STATUSES, Effect, Verdict
from cl_lib.papers import EVERYWHERE, FRAMEWORK, Claim, Contrast, Notebook, Paper, Part

Judged = Mapping[str, tuple[tuple[Claim, Verdict], ...]]  # paper id -> its claims with their verdicts
MARKS = {"reproduced": "●", "partly": "◐", "contradicted": "✕", "not separated": "○", "no evidence": "–"}
STALE = '<span class="cl-badge cl-stale" title="the code has changed since the rows were made">stale</span>'
GROUPS = "Start here", "The book", "Evidence"


def text(plain: str) -> str:
    """`plain` as Markdown that renders as itself."""
    return re.sub(r"([\\`*_{}\[\]<>$#|~^])", r"\\\1", plain)


def doc(title: str, path: str) -> str:
    """A link to a page by its path from the top of the book."""
    return f"{{doc}}`{title} <{path}>`"


def badge(verdict: Verdict | str, label: str = "") -> str:
    """A verdict as HTML: a mark, a word and a colour, so that none of them is needed alone."""
    status = verdict if isinstance(verdict, str) else verdict.status
    html = f'<span class="cl-badge cl-{status.replace(" ", "-")}"><span aria-hidden="true">{MARKS[status]}</span> ' \
           f'{escape(label)}{": " if label else ""}{status}</span>'
    if isinstance(verdict, Verdict) and verdict.stale:
        html += f" {STALE}"
    return html


def number(x: float) -> str:
    return f"{x:+.3g}".replace("-", "−")


def in_words(claim: Claim, e: Effect) -> str:
    """One contrast as a sentence."""
    c = next(c for c in claim.contrasts if (c.arm, c.against) == (e.arm, e.against))
    wanted = f"at least {c.min_effect:g} wanted" if c.margin is None else f"margin {c.margin:g}"
    more = f"; about {e.needed} seeds would separate them" if e.status == "not separated" and e.needed else ""
    return (f"{e.arm} against {e.against}: {number(e.mean)}, 95 % interval {number(e.low)} to {number(e.high)} "
            f"over {e.n} seeds, {wanted}{more}")


def drawn(claim: Claim, verdict: Verdict, width: int = 150) -> str:
    """The intervals of a claim as a small inline SVG, one line a contrast, with the same in words for screen readers.

    Zero is the upright line, the wanted effect (or the margin) the dotted one; right of zero is as claimed.
    """
    if not verdict.effects:
        return ""
    bars = {(c.arm, c.against): (c.min_effect,) if c.margin is None else (-c.margin, c.margin) for c in claim.contrasts}
    finite = [x for e in verdict.effects for x in (e.low, e.mean, e.high, *bars[e.arm, e.against]) if abs(x) < 1e300]
    low, high = min(0.0, *finite), max(0.0, *finite)
    pad = (high - low or 1.0) * 0.06
    low, high = low - pad, high + pad

    def at(x: float) -> str:
        return f"{(min(max(x, low), high) - low) / (high - low) * width:.1f}"

    step, lines = 14, []
    for i, e in enumerate(verdict.effects):
        y = i * step + step / 2
        lines += [f'<line class="wanted" x1="{at(b)}" x2="{at(b)}" y1="{y - 6}" y2="{y + 6}"/>'
                  for b in bars[e.arm, e.against] if b]
        lines += [f'<g class="cl-{e.status.replace(" ", "-")}">'
                  f'<line x1="{at(e.low)}" x2="{at(e.high)}" y1="{y}" y2="{y}"/>'
                  f'<circle cx="{at(e.mean)}" cy="{y}" r="4"/></g>']
    tall = step * len(verdict.effects)
    words = escape("; ".join(in_words(claim, e) for e in verdict.effects))
    return (f'<svg class="interval" role="img" aria-label="{words}" viewBox="0 0 {width} {tall}" width="{width}" '
            f'height="{tall}"><title>{words}</title>'
            f'<line class="zero" x1="{at(0)}" x2="{at(0)}" y1="0" y2="{tall}"/>{"".join(lines)}</svg>')


def effect(claim: Claim, verdict: Verdict) -> str:
    """What was measured, in short, as HTML."""
    if verdict.error is not None:
        return f"error {verdict.error:.1e}<br>allowed {claim.tolerance:.0e}"
    return "<br>".join(f"{number(e.mean)} [{number(e.low)}, {number(e.high)}]" for e in verdict.effects) or "–"


def facts(verdict: Verdict) -> str:
    """Seeds, tier, cost and date of the rows behind a verdict."""
    if verdict.tier is None:
        return ""
    minutes = verdict.seconds / 60
    spent = f"{minutes:.0f} min" if minutes >= 1 else f"{verdict.seconds:.0f} s"
    failed = f", {verdict.failed} runs failed" if verdict.failed else ""
    return f"{len(verdict.seeds)} seeds, tier {verdict.tier}, {spent}, {verdict.utc[:10]}{failed}"


def links(p: Paper) -> str:
    """Where to find the paper, as Markdown."""
    found = [f"[arXiv {p.arxiv}](https://arxiv.org/abs/{p.arxiv})"] * bool(p.arxiv)
    found += [f"[code](https://github.com/{p.code})"] * bool(p.code)
    return " · ".join(found)


def legend() -> str:
    """One invented example of each verdict, drawn and judged by the same code as the real ones."""
    contrast = Contrast("method", "baseline", min_effect=1.0)
    claim = Claim("example", "example", "", "", "effect", "same", "accuracy", "higher", (contrast,))
    reasons = {(2.0, 0.9): "The whole interval is above zero, and the mean beyond what was wanted.",
               (0.6, 0.35): "There is an effect, but it is smaller than what was wanted.",
               (0.5, 1.3): "The interval includes zero: more seeds are needed, or there is nothing to see.",
               (-1.2, 0.7): "The whole interval is below zero: the opposite was found."}
    lines = ["| example | verdict | how to read it |", "|---|---|---|"]
    for (mean, spread), reason in reasons.items():
        seeds = {i: mean + spread * z for i, z in enumerate((-1.2, -0.5, 0.0, 0.4, 1.3))}
        e = evidence.effect(claim, contrast, seeds, dict.fromkeys(seeds, 0.0))
        lines.append(f"| {drawn(claim, Verdict(e.status, effects=(e,)))} | {badge(e.status)} | {reason} |")
    reading = "The upright line is zero, the dotted one the smallest effect of interest. (These four are invented.)"
    return "\n".join([*lines, "", reading])


def citation(p: Paper) -> str:
    return text(f"{p.authors} ({p.year})") + (f", {text(p.venue)}" if p.venue else "")


def card(p: Paper, nb: Notebook, part: Part, claims: Iterable[tuple[Claim, Verdict]], written: bool) -> str:
    """The page of one paper: what it says, what was measured, what differs, and how to run it."""
    lines = ["---", "orphan: true", "---", f"({p.id})=", f"# {text(p.title)}", "",
             f"{citation(p)}" + (f" · {links(p)}" if links(p) else ""), "",
             f"In the book: {doc(part.title, f'/{part.name}/index')} › {doc(nb.title, f'/{part.name}/{nb.name}')}"
             + (f" › [its section](#{p.id}-section)" if written else ""), "",
             "## The idea", "", text(p.idea), ""]
    if p.framework:
        place = ", ".join(f"{axis} **{word}**" for axis, word in p.framework.items())
        lines += [f"Its place in [the framework](#crl-framework): {place}.", ""]
    if p.headline:
        h = p.headline
        lines += ["## What the paper reports", "", text(h["says"]), ""]
        if h.get("value") is not None:
            lines += [f"{h['value']}" + (f" against {h['baseline']}" if h.get("baseline") is not None else "")
                      + (f" ({text(h['unit'])})" if h.get("unit") else ""), ""]
    lines += ["## What was found here", ""]
    claims = list(claims)
    if not written and not claims:
        lines += ["```{admonition} Not written yet", ":class: missing",
                  "This paper is part of the plan of the book, but nobody has reproduced it here yet: it has no",
                  "section, no claims and no evidence, and counts as missing on the {doc}`/scoreboard`.", "```", ""]
    lines += [_claim(c, v) for c, v in claims]
    if written or claims:
        lines += ["## What differs from the paper", ""]
        lines += [f"- {text(d)}" for d in p.departures] or ["Nothing that we know of."]
        lines += ["", "## Run it yourself", "", "```bash", f"python -m cl_lib show {p.id}",
                  f"python -m cl_lib run {p.id} --tier cpu --seeds 10-14", "```", "",
                  "Rows of your own seeds go to `runs/results/`, and the published verdict is shown beside yours;",
                  "see {doc}`/rerun`.", ""]
    return "\n".join(lines)


def _claim(c: Claim, v: Verdict) -> str:
    """A claim on its card, as one block of HTML."""
    if v.error is not None:
        measured = f"Largest error {v.error:.1e}; {c.tolerance:.0e} is allowed."
    else:
        measured = "<br>".join(escape(in_words(c, e)) for e in v.effects) or "No rows have been recorded."
    how = " · ".join(filter(None, [f"<code>{c.name}</code>", escape(c.where), c.kind.replace("_", " "), c.fidelity,
                                   f"{escape(c.metric.replace('_', ' '))}, {c.better} is better", facts(v)]))
    return (f'<div class="claim cl-{v.status.replace(" ", "-")}"><p>{badge(v)} <strong>{escape(c.says)}</strong></p>'
            f'<div class="measured">{drawn(c, v, 320)}<p>{measured}</p></div><p class="facts">{how}</p></div>\n')


def section_row(paper: str, claims: Iterable[tuple[Claim, Verdict]]) -> str:
    """One line under a paper's heading in its chapter: the verdicts, the card, the command."""
    claims = list(claims)
    badges = " ".join(badge(v.status, c.id) for c, v in claims) or badge("no evidence")
    badges += f" {STALE}" if any(v.stale for _, v in claims) else ""
    return (f'<p class="paper-row">{badges} <a href="../papers/{paper}.html">card</a> '
            f"<code>python -m cl_lib run {paper}</code></p>")


def listing(papers: Iterable[Paper], judged: Judged) -> str:
    """Papers as a Markdown list: name, idea, verdicts."""
    out = []
    for p in papers:
        found = Counter(v.status for _, v in judged[p.id])
        state = " ".join(badge(s, f"{n}" if n > 1 else "") for s, n in found.items()) or \
            '<span class="cl-badge cl-missing">not written yet</span>'
        out.append(f"- **[{text(p.title)}](#{p.id})** ({text(p.authors)}, {p.year}) {state}<br>\n  {text(p.idea)}")
    return "\n".join(out)


def framework(places: Mapping[tuple[str, str], list[Paper]], rows: str = "positives", columns: str = "loss") -> str:
    """Where every paper stands on two axes, as HTML: a table of counts, darker where more, and under it the papers.

    `places` is what `papers.places(rows, columns)` gives. Each row unfolds; a paper leads to its card, which has the other axes.
    """
    across = [c for c in (*FRAMEWORK[columns], *EVERYWHERE) if any(c == key[1] for key in places)]
    down = [r for r in (*FRAMEWORK[rows], *EVERYWHERE) if any(r == key[0] for key in places)]
    most = max(map(len, places.values()))
    table, folds = [], []
    for row in down:
        here = {c: places[row, c] for c in across if (row, c) in places}
        cells = "".join(f'<td style="background:rgba(0,103,172,{0.6 * (len(here[c]) / most) ** 0.5:.2f})">{len(here[c])}</td>'
                        if c in here else "<td></td>" for c in across)
        total = sum(map(len, here.values()))
        table.append(f"<tr><th>{row}</th>{cells}<td>{total}</td></tr>")
        lists = "".join(f"<li>{c}: " + ", ".join(f'<a href="../papers/{p.id}.html">{p.id}</a>' for p in here[c]) + "</li>" for c in here)
        meaning = (FRAMEWORK[rows] | EVERYWHERE)[row]
        folds.append(f"<details><summary><b>{row}</b> ({total}): {escape(meaning)}</summary><ul>{lists}</ul></details>")
    head = "".join(f"<th>{c}</th>" for c in across)
    last = "".join(f"<td>{sum(len(found) for key, found in places.items() if key[1] == c)}</td>" for c in across)
    total = sum(map(len, places.values()))
    return (f'<div class="cl-framework"><table><caption>Papers by {rows} (down) and {columns} (across)</caption>'
            f"<thead><tr><th></th>{head}<th>all</th></tr></thead><tbody>{''.join(table)}"
            f"<tr><th>all</th>{last}<td>{total}</td></tr></tbody></table>{''.join(folds)}</div>")


def overview(parts: Iterable[Part], written: set[str]) -> str:
    """The parts of the book in a list, with how far each is."""
    out = []
    for part in parts:
        papers = [p for nb in part.notebooks for p in nb.papers]
        done = sum(p.id in written for p in papers)
        out.append(f"- **{doc(part.title, f'/{part.name}/index')}**: {text(part.intro)} "
                   f"({done} of {len(papers)} papers written)")
    return "\n".join(out)


def stub(nb: Notebook, part: Part, judged: Judged) -> str:
    """A chapter that is planned: the papers it will hold."""
    return "\n".join([
        f"# {text(nb.title)}", "", "```{admonition} Not written yet", ":class: missing",
        f"This chapter of {doc(part.title, 'index')} is planned with {len(nb.papers)} papers; "
        "its notebook does not exist yet.",
        "```", "", listing(nb.papers, judged), ""])


def rest(papers: list[Paper], judged: Judged) -> str:
    """The end of a written chapter: its papers that have no section yet."""
    return "\n".join(["## Planned for this chapter", "", "These papers have no section here yet.", "",
                      listing(papers, judged), ""])


def part_page(part: Part, written: set[str], judged: Judged) -> str:
    """The opening page of a part: its chapters and how far each one is."""
    lines = [f"# {text(part.title)}", "", text(part.intro), ""]
    for nb in part.notebooks:
        done = [p for p in nb.papers if p.id in written]
        lines += [f"## {doc(nb.title, f'/{part.name}/{nb.name}')}", "",
                  f"{len(done)} of {len(nb.papers)} papers written.", "",
                  " · ".join(f"[{p.id}](#{p.id})" for p in nb.papers), ""]
    return "\n".join(lines)


def bibliography(parts: Iterable[Part]) -> str:
    """All papers by first author and year, with a file for reference managers."""
    papers = sorted((p for part in parts for nb in part.notebooks for p in nb.papers),
                    key=lambda p: (p.authors.casefold(), p.year, p.title.casefold()))
    lines = ["# Bibliography", "", f"The {len(papers)} papers of this book. For a reference manager: "
             "{download}`references.bib`.", ""]
    for p in papers:
        where = f" {text(p.venue)}." if p.venue else ""
        more = f" {links(p)}." if links(p) else ""
        lines.append(f"- {text(p.authors)} ({p.year}). [{text(p.title)}](#{p.id}).{where}{more}")
    return "\n".join(lines) + "\n"


def bibtex(parts: Iterable[Part]) -> str:
    """The same papers as BibTeX; the key is the paper's id."""
    out = []
    for p in (p for part in parts for nb in part.notebooks for p in nb.papers):
        names = re.sub(r",? et al\.?$", " and others", p.authors)
        names = " and ".join(n.strip() for n in re.split(r",| & | and ", names) if n.strip())
        fields = {"title": f"{{{p.title}}}", "author": names, "year": str(p.year), "booktitle": p.venue,
                  "eprint": p.arxiv, "archiveprefix": "arXiv" if p.arxiv else None}
        body = ",\n".join(f"  {k} = {{{_tex(v)}}}" for k, v in fields.items() if v)
        out.append(f"@{'inproceedings' if p.venue else 'misc'}{{{p.id},\n{body}\n}}\n")
    return "\n".join(out)


def _tex(plain: str) -> str:
    return re.sub(r"([&%$#_])", r"\\\1", plain)


def scoreboard(parts: tuple[Part, ...], judged: Judged) -> str:
    """Every claim with its verdict, and what is missing."""
    papers = [p for part in parts for nb in part.notebooks for p in nb.papers]
    claims = [(p, c, v) for p in papers for c, v in judged[p.id]]
    count = Counter(v.status for _, _, v in claims)
    missing = sum(not judged[p.id] for p in papers)
    title = {nb.name: nb.title for part in parts for nb in part.notebooks}
    tiles = "".join(f'<li class="cl-{s.replace(" ", "-")}"><b>{count[s]}</b> {badge(s)}</li>' for s in STATUSES)
    rows = "".join(_row(p, c, v, title[p.notebook]) for p, c, v in claims)
    return "\n".join([
        "---", "html_theme.sidebar_secondary.remove: true", "---", "# Scoreboard", "",
        f"{len(papers)} papers are planned. Written so far: {len(papers) - missing}. **Missing: {missing}.** "
        f"Every verdict below is computed from recorded runs by {doc('one rule', 'protocols')}, never typed.", "",
        f'<ul class="tiles">{tiles}</ul>', "",
        "Right of the upright line is as claimed; the dotted line is the smallest effect of interest (or the margin),",
        "set before the first run; the bar is the 95 % interval over paired seeds.", "",
        '<div class="wide" tabindex="0" role="region" aria-label="All claims with their verdicts">'
        '<table id="claims"><thead><tr><th>Paper</th><th>Claim</th><th>Verdict</th><th>Effect</th>'
        "<th>Seeds</th><th>Tier</th><th>Fidelity</th><th>Last run</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>", "",
        "## What is missing", "",
        "| part | chapters written | papers written | papers missing |", "|---|--:|--:|--:|",
        *(_progress(part, judged) for part in parts), ""])


def _row(p: Paper, c: Claim, v: Verdict, chapter: str) -> str:
    mean = min((e.mean for e in v.effects), default="")
    cells = [f'<a href="papers/{p.id}.html" title="{escape(p.title)}">{p.id}</a><small>{escape(chapter)}</small>',
             f"{escape(c.says)}", badge(v), drawn(c, v) + effect(c, v), len(v.seeds) or "–", v.tier or "–", c.fidelity,
             (v.utc or "–")[:10]]
    keys = [p.id, c.says, STATUSES.index(v.status), mean, len(v.seeds), v.tier or "", c.fidelity, v.utc or ""]
    tds = "".join(f'<td data-key="{escape(str(k))}">{cell}</td>' for k, cell in zip(keys, cells, strict=True))
    return f'<tr data-status="{v.status}">{tds}</tr>'


def _progress(part: Part, judged: Judged) -> str:
    papers = [p for nb in part.notebooks for p in nb.papers]
    done = sum(bool(judged[p.id]) for p in papers)
    chapters = sum(any(judged[p.id] for p in nb.papers) for nb in part.notebooks)
    return (f"| {doc(part.title, f'/{part.name}/index')} | {chapters} of {len(part.notebooks)} | "
            f"{done} | {len(papers) - done} |")


def toc(parts: Iterable[Part]) -> str:
    """The table of contents; cards stay out of it, as their chapters lead to them."""
    chapters = [{"file": f"{part.name}/index",
                 "sections": [{"file": f"{part.name}/{nb.name}"} for nb in part.notebooks]} for part in parts]
    groups = [[{"file": name} for name in ("rerun", "protocols", "glossary")], chapters,
              [{"file": name} for name in ("scoreboard", "bibliography")]]
    captioned = [{"caption": caption, "chapters": group} for caption, group in zip(GROUPS, groups, strict=True)]
    return yaml.safe_dump({"format": "jb-book", "root": "intro", "parts": captioned}, sort_keys=False)
