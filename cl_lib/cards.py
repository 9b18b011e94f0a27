"""The card of a paper: what it says, what was found here, what differs, how to run it, how its verdicts came to be, its kin."""
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

from cl_lib.evidence import Verdict
from cl_lib.history import Entry, Histories
from cl_lib.pages import STALE, badge, bibtex_entry, doc, drawn, duration, facts, in_words, links, text
from cl_lib.papers import RELATIONS, Claim, Landmark, Notebook, Paper, Part

BACKWARDS = {"reduces_to": "Reduces to this", "builds_on": "Builds on this", "compared_with": "Compared with this"}
FORWARDS = {name: words[0].upper() + words[1:] for name, words in RELATIONS.items()}


@dataclass(frozen=True)
class Figure:
    """A picture that a claim's cell has shown."""
    png: bytes
    alt: str


def figures(content: dict) -> dict[str, list[Figure]]:
    """The pictures of a notebook by the claim under whose verdict they stand; one above it belongs to its cell's first claim."""
    found: dict[str, list[Figure]] = {}
    for cell in content["cells"]:
        if "claim" not in cell["metadata"].get("tags", []):
            continue
        claim = next(iter(re.findall(r"""run\.claim\(\s*["']([\w.-]+)""", "".join(cell["source"]))), None)
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "cl-verdict" in "".join(data.get("text/html", "")):
                claim = "".join(data["text/plain"]).partition(":")[0]
            alt = output.get("metadata", {}).get("image/png", {}).get("alt")
            if claim and alt:
                found.setdefault(claim, []).append(Figure(b64decode("".join(data["image/png"])), alt))
    return found


def neighbours(paper: Paper, papers: Mapping[str, Paper], landmarks: Mapping[str, Landmark]) -> str:
    """The papers that this one reduces to, builds on and is compared with, and those that say so of it, as a Markdown list."""
    def name(other: str) -> str:
        if other in papers:
            return f"[{text(papers[other].title)}]({other}.md)"
        mark = landmarks[other]
        return f"[{text(mark.title)}](https://arxiv.org/abs/{mark.arxiv})" if mark.arxiv else text(mark.title)

    lines = [f"- {FORWARDS[r]}: {', '.join(map(name, others))}" for r, others in paper.relations.items()]
    for relation, words in BACKWARDS.items():
        if others := [p.id for p in papers.values() if paper.id in p.relations.get(relation, ())]:
            lines.append(f"- {words}: {', '.join(map(name, others))}")
    return "\n".join(lines)


def cost(rows: Iterable[dict]) -> str:
    """What the recorded runs of a paper took, on which machine; tuning and all repetitions included."""
    rows = list(rows)
    if not rows:
        return ""
    peak = max((r["peak_mb"] or 0 for r in rows), default=0)
    seen = [", ".join(sorted({r[name] for r in rows})) for name in ("device", "torch")]
    return (f"All recorded runs took {duration(sum(r['seconds'] for r in rows))} ({len(rows)} rows, tuning included), at most "
            f"{peak:,.0f} MB of memory, on {seen[0]} with torch {seen[1]}; the last one on {max(r['utc'] for r in rows)[:10]}.")


def card(p: Paper, nb: Notebook, part: Part, claims: Iterable[tuple[Claim, Verdict]], written: bool, *, histories: Histories,
         rows: list[dict], shown: Mapping[str, list[str]], kin: str) -> str:
    """The page of one paper; `shown` holds Markdown of the figures of each claim, `kin` its neighbours."""
    claims = list(claims)
    lines = ["---", "orphan: true", "---", f"({p.id})=", f"# {text(p.title)}", "",
             f"`{p.id}` · {citation(p)}" + (f" · {links(p)}" if links(p) else ""), "",
             f"In the book: {doc(part.title, f'/{part.name}/index')} › {doc(nb.title, f'/{part.name}/{nb.name}')}"
             + (f" › [its section](#{p.id}-section)" if written else ""), "",
             "## The idea", "", text(p.idea), "", *_place(p), *_beside(p, claims), "## What was found here", ""]
    if not written:
        lines += _missing(claims)
    for c, v in claims:
        lines += [_claim(c, v), *shown.get(c.name, ())]
    if written or claims:
        lines += ["## What differs from the paper", "",
                  *([f"- {text(d)}" for d in p.departures] or ["Nothing that we know of."]), "",
                  "## Run it yourself", "", "```bash", f"python -m cl_lib show {p.id}",
                  f"python -m cl_lib run {p.id}                  # what is missing or stale; known rows are reused",
                  f"python -m cl_lib run {p.id} --seeds 10-14    # an independent repetition, beside the published verdict",
                  "```", "", f"{cost(rows)} Rows of your own seeds go to `runs/results/`; see {{doc}}`/rerun`.".strip(), "",
                  *_history(claims, histories)]
    if kin:
        lines += ["## Neighbours", "", kin, "", "All of them at once: {doc}`/map`.", ""]
    return "\n".join([*lines, "## Cite", "", "```bibtex", bibtex_entry(p).rstrip(), "```", "", *_ways(p, nb)])


def citation(p: Paper) -> str:
    return text(f"{p.authors} ({p.year})") + (f", {text(p.venue)}" if p.venue else "")


def _place(p: Paper) -> list[str]:
    """Where the paper stands in the review's framework."""
    if not p.framework:
        return []
    place = ", ".join(f"{axis} **{word}**" for axis, word in p.framework.items())
    return [f"Its place in [the framework](crl-framework.md): {place}.", ""]


def _beside(p: Paper, claims: list[tuple[Claim, Verdict]]) -> list[str]:
    """The paper's own headline on the left, how its claims fare here on the right."""
    if not p.headline:
        return []
    h = p.headline
    reports = [f'<p class="value"><b>{h["value"]}</b>' + (f" against {h['baseline']}" if h.get("baseline") is not None else "")
               + (f" <small>{escape(h['unit'])}</small>" if h.get("unit") else "") + "</p>"] if h.get("value") is not None else []
    found = "".join(f"<li>{badge(v)} {escape(c.id)}{drawn(c, v)}</li>" for c, v in claims if not c.control)
    here = f"<ul>{found}</ul><small>Bars: 95 % intervals; right of the upright line is as claimed.</small>" if found else \
        '<p><span class="cl-badge cl-missing">not written yet</span></p>'
    return ["## The paper and here, side by side", "",
            f'<div class="beside"><section><h3>The paper reports</h3>{"".join(reports)}<p>{escape(h["says"])}</p></section>'
            f"<section><h3>Its claims here</h3>{here}</section></div>", ""]


def _missing(claims: list[tuple[Claim, Verdict]]) -> list[str]:
    """What a card says where there is no section."""
    if claims:
        words = ["What would count as holding is written down below, before any run; its section does not exist yet."]
    else:
        words = ["This paper is part of the plan of the book, but nobody has reproduced it here yet: it has no",
                 "section, no claims and no evidence, and counts as missing on the {doc}`/scoreboard`."]
    return ["```{admonition} Not written yet", ":class: missing", *words, "```", ""]


def _claim(c: Claim, v: Verdict) -> str:
    """A claim as one block of HTML."""
    if v.error is not None:
        measured = f"Largest error {v.error:.1e}; {c.tolerance:.0e} is allowed."
    else:
        measured = "<br>".join(escape(in_words(c, e)) for e in v.effects) or "No rows have been recorded."
    how = " · ".join(filter(None, [f"<code>{c.name}</code>", escape(c.where), c.kind.replace("_", " "), c.fidelity,
                                   f"{escape(c.metric.replace('_', ' '))}, {c.better} is better", facts(v)]))
    return (f'<div class="claim cl-{v.status.replace(" ", "-")}"><p>{badge(v)} <strong>{escape(c.says)}</strong></p>'
            f'<div class="measured">{drawn(c, v, 320)}<p>{measured}</p></div><p class="facts">{how}</p></div>\n')


def _history(claims: list[tuple[Claim, Verdict]], histories: Histories) -> list[str]:
    """When each verdict was given, and what it was before."""
    def step(c: Claim, entry: Entry) -> str:
        numbers = str(entry.verdict).partition(": ")[2]
        return (f'<li><time datetime="{entry.utc}">{entry.utc[:10]}</time> {badge(entry.verdict.status)} '
                f"<small>{escape(numbers)}</small></li>")

    found = [f"<dt><code>{c.name}</code></dt><dd><ol>{''.join(step(c, e) for e in histories[c.name])}</ol></dd>"
             for c, _ in claims if histories.get(c.name)]
    if not found:
        return []
    return ["## History of the verdicts", "", f'<dl class="history">{"".join(found)}</dl>', "",
            "Computed from all recorded rows by today's rule; what changed last in the whole book: {doc}`/changes`.", ""]


def _ways(p: Paper, nb: Notebook) -> list[str]:
    """The papers before and after this one in its chapter."""
    at = nb.papers.index(p)
    before, after = nb.papers[at - 1] if at else None, nb.papers[at + 1] if at + 1 < len(nb.papers) else None
    ways = [f"← [{text(before.title)}]({before.id}.md)"] if before else []
    ways += [f"[{text(after.title)}]({after.id}.md) →"] if after else []
    return ["---", "", " · ".join(ways), ""] if ways else []


def section_row(paper: str, claims: Iterable[tuple[Claim, Verdict]]) -> str:
    """One line under a paper's heading in its chapter: the verdicts, the card, the command."""
    claims = list(claims)
    badges = " ".join(badge(v.status, c.id) for c, v in claims) or badge("no evidence")
    badges += f" {STALE}" if any(v.stale for _, v in claims) else ""
    return (f'<p class="paper-row">{badges} <a href="../papers/{paper}.html">card</a> '
            f"<code>python -m cl_lib run {paper}</code></p>")
