"""The generated pages of the site, as text made from the registry and the verdicts: adding a paper touches no page."""
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import yaml

from cl_lib import evidence
from cl_lib.evidence import Effect, Verdict
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
    if isinstance(verdict, Verdict) and verdict.failed:
        html += f' <span class="cl-badge cl-failed" title="runs that ended in an error or diverged">{verdict.failed} failed</span>'
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


def drawn(claim: Claim, verdict: Verdict, width: int = 150, *, spoken: bool = True) -> str:
    """The intervals of a claim as a small inline SVG, one line a contrast; `spoken`: with the same in words, for screen readers.

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
    says = f' role="img" aria-label="{words}"' if spoken else ' aria-hidden="true"'
    return (f'<svg class="interval"{says} viewBox="0 0 {width} {tall}" width="{width}" height="{tall}">'
            f'<title>{words}</title>'
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
    return f"{len(verdict.seeds)} seeds, tier {verdict.tier}, {duration(verdict.seconds)}, {verdict.utc[:10]}"


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would choose."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


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
    """The parts of the book in a list, each with the first sentence of its introduction and how far it is."""
    out = []
    for part in parts:
        papers = [p for nb in part.notebooks for p in nb.papers]
        done = sum(p.id in written for p in papers)
        out.append(f"- **{doc(part.title, f'/{part.name}/index')}**: {text(re.split(r'(?<=[.]) ', part.intro)[0])} "
                   f"({done} of {len(papers)} papers written)")
    return "\n".join(out)


def stub(nb: Notebook, part: Part, judged: Judged) -> str:
    """A chapter that is planned: the papers it will hold."""
    return "\n".join([
        f"# {text(nb.title)}", "", text(nb.intro), "", "```{admonition} Not written yet", ":class: missing",
        f"This chapter of {doc(part.title, 'index')} is planned with {len(nb.papers)} papers; "
        "its notebook does not exist yet.",
        "```", "", listing(nb.papers, judged), ""])


def rest(papers: list[Paper], judged: Judged) -> str:
    """The end of a written chapter: its papers that have no section yet."""
    return "\n".join(["## Planned for this chapter", "", "These papers have no section here yet.", "",
                      listing(papers, judged), ""])


def part_page(part: Part, written: set[str], judged: Judged) -> str:
    """The opening page of a part: its chapters, how far each one is and how its claims stand."""
    lines = [f"# {text(part.title)}", "", text(part.intro), ""]
    for nb in part.notebooks:
        done = [p for p in nb.papers if p.id in written]
        found = Counter(v.status for p in nb.papers for _, v in judged[p.id])
        state = " ".join(badge(s, f"{n}") for s, n in found.items()) or '<span class="cl-badge cl-missing">not written yet</span>'
        lines += [f"## {doc(nb.title, f'/{part.name}/{nb.name}')}", "", text(nb.intro), "",
                  f"{len(done)} of {len(nb.papers)} papers written. {state}", "",
                  *[f"- [{text(p.title)}](#{p.id}) ({p.year})" for p in nb.papers], ""]
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
    """The same papers as BibTeX."""
    return "\n".join(bibtex_entry(p) for part in parts for nb in part.notebooks for p in nb.papers)


def bibtex_entry(p: Paper) -> str:
    """One paper as BibTeX; the key is its id."""
    names = re.sub(r",? et al\.?$", " and others", p.authors)
    names = " and ".join(n.strip() for n in re.split(r",| & | and ", names) if n.strip())
    fields = {"title": f"{{{p.title}}}", "author": names, "year": str(p.year), "booktitle": p.venue,
              "eprint": p.arxiv, "archiveprefix": "arXiv" if p.arxiv else None}
    body = ",\n".join(f"  {k} = {{{_tex(v)}}}" for k, v in fields.items() if v)
    return f"@{'inproceedings' if p.venue else 'misc'}{{{p.id},\n{body}\n}}\n"


def language_models(made: Sequence[Mapping]) -> str:
    """The book's own language models as a Markdown table; each of `made` is what `cl_lib.pretraining` writes beside the weights."""
    if not made:
        return ""
    lines = ["| model | shape | has read | perplexity | counting tokens | counting pairs | right |", "|---|---|---|---|---|---|---|"]
    for m in made:
        r, test = m["recipe"], m["test"]
        read = r["steps"] * r["batch"] * r["longest"]
        pairs = f"{math.exp(test['bigram']):,.0f}" if "bigram" in test else ""
        shape = f"{r['layers']} layer{'s' * (r['layers'] > 1)} of {r['d']}, {m['parameters'] / 1e6:.2f} million weights"
        lines.append(f"| {m['model']} | {shape} | {read / 1e6:.1f} million tokens, {read / m['text']['tokens']:.1f} passes | "
                     f"{test['perplexity']:,.0f} | {math.exp(test['unigram']):,.0f} | {pairs} | {100 * test['accuracy']:.0f} % |")
    scores = [f"{m['model']}, mean over the tokens of a sentence, on the test part of STS-B (Spearman's correlation times 100): {_layers(m['stsb'])}. "
              f"The same network untrained: {_layers(m['stsb_untrained'])}." for m in made if "stsb" in m]
    return "\n".join([*lines, "", *scores])


def _layers(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{v:.0f} after layer {k}" if int(k) else f"{v:.0f} of the embeddings" for k, v in scores.items())


def _tex(plain: str) -> str:
    return re.sub(r"([&%$#_])", r"\\\1", plain)


def toc(parts: Iterable[Part]) -> str:
    """The table of contents; cards stay out of it, as their chapters lead to them."""
    chapters = [{"file": f"{part.name}/index",
                 "sections": [{"file": f"{part.name}/{nb.name}"} for nb in part.notebooks]} for part in parts]
    groups = [[{"file": name} for name in ("rerun", "protocols", "glossary")], chapters,
              [{"file": name} for name in ("scoreboard", "changes", "map", "timeline", "status", "performance", "peers", "bibliography")]]
    captioned = [{"caption": caption, "chapters": group} for caption, group in zip(GROUPS, groups, strict=True)]
    return yaml.safe_dump({"format": "jb-book", "root": "intro", "parts": captioned}, sort_keys=False)
