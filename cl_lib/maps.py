"""Two pictures of the whole book, drawn when it is built: how its papers hang together, and when they came."""
from collections.abc import Iterable, Mapping
from functools import lru_cache
from html import escape

import networkx as nx
import numpy as np

from cl_lib.evidence import STATUSES
from cl_lib.pages import MARKS, Judged, badge, text
from cl_lib.papers import RELATIONS, Landmark, Paper, Part

OF_IT = {"reduces_to": "reduce to it", "builds_on": "build on it", "compared_with": "are compared with it"}
WIDTH, HEIGHT, ROOM = 1300, 1250, (72.0, 25.0)  # of the graph's drawing; what a label needs around its middle
COLUMN, LINE = 108, 17                           # of the timeline


def state(paper: Paper, judged: Judged) -> str:
    """One word for a paper among many: its most telling verdict, the bad news first; `missing` without claims."""
    found = {v.status for c, v in judged[paper.id] if not c.control}
    order = ("contradicted", "not separated", "partly", "reproduced", "no evidence")
    return next((s for s in order if s in found), "missing")


def graph(papers: Iterable[Paper], landmarks: Mapping[str, Landmark]) -> nx.Graph:
    """Papers and landmarks that have a relation, joined by their strongest one."""
    g = nx.Graph()
    for p in papers:
        for relation in RELATIONS:  # the first named is the strongest
            for other in p.relations.get(relation, ()):
                if not g.has_edge(p.id, other):
                    g.add_edge(p.id, other, relation=relation)
    return g


@lru_cache
def layout(edges: tuple[tuple[str, str], ...], width: float = WIDTH, height: float = HEIGHT) -> dict[str, tuple[float, float]]:
    """Where each node goes: springs along the edges, then labels pushed apart; the same each time."""
    g = nx.Graph(edges)
    names = sorted(g)
    middle, *_ = hubs = [max(sorted(c), key=g.degree) for c in sorted(nx.connected_components(g), key=len, reverse=True)]
    g.add_edges_from((middle, hub) for hub in hubs[1:])  # held, so that small groups do not fly away
    start = {n: (np.cos(2.4 * i) * (i + 1) ** 0.5, np.sin(2.4 * i) * (i + 1) ** 0.5) for i, n in enumerate(names)}
    found = nx.spring_layout(g, pos=start, k=1.5 / len(names) ** 0.5, iterations=250, seed=0)
    at = np.array([found[n] for n in names])
    rank = at.argsort(0).argsort(0) / max(len(names) - 1, 1)  # half of the way to an even spread, so that the middle breathes
    span = (at - at.min(0)) / np.ptp(at, axis=0).clip(1e-9)
    at = (0.5 * rank + 0.5 * span) * (width - 2 * ROOM[0], height - 2 * ROOM[1] - 10) + (ROOM[0], ROOM[1])
    at = _apart(at, np.array(ROOM), np.array([width, height - 10.0]))
    return {n: (round(float(x), 1), round(float(y), 1)) for n, (x, y) in zip(names, at, strict=True)}


def _apart(at: np.ndarray, room: np.ndarray, size: np.ndarray, steps: int = 400) -> np.ndarray:
    """Boxes of `room` around the points moved apart, along the axis where less is needed, within `size`."""
    for _ in range(steps):
        gap = at[:, None] - at[None]
        overlap = room - abs(gap)
        hit = (overlap > 0).all(-1) & ~np.eye(len(at), dtype=bool)
        if not hit.any():
            break
        along = overlap.argmin(-1)[..., None] == np.arange(2)
        push = np.where(along & hit[..., None], overlap * np.where(gap < 0, -1, 1) * 0.5, 0.0)
        at = (at + 0.6 * push.sum(1)).clip(room / 2, size - room / 2)
    return at


def drawing(parts: tuple[Part, ...], judged: Judged, landmarks: Mapping[str, Landmark]) -> str:
    """The graph as SVG: papers are links to their cards, coloured by verdict; landmarks are squares; lines are relations."""
    papers = {p.id: p for part in parts for nb in part.notebooks for p in nb.papers}
    g = graph(papers.values(), landmarks)
    if not g:
        return ""
    at = layout(tuple(sorted(tuple(sorted(e)) for e in g.edges)))
    lines = [f'<path class="{data["relation"].replace("_", "-")}" data-a="{a}" data-b="{b}" '
             f'd="M{at[a][0]} {at[a][1]}L{at[b][0]} {at[b][1]}"/>'
             for a, b, data in sorted(g.edges(data=True), key=lambda e: list(RELATIONS).index(e[2]["relation"]), reverse=True)]
    nodes = []
    for name, (x, y) in at.items():
        if name in papers:
            p, status = papers[name], state(papers[name], judged)
            nodes.append(f'<a href="papers/{name}.html" data-n="{name}" class="cl-{status.replace(" ", "-")}">'
                         f"<title>{escape(p.title)}, {escape(p.authors)} {p.year}: {status}</title>"
                         f'<circle cx="{x}" cy="{y}" r="4"/><text x="{x}" y="{y + 13}">{name}</text></a>')
        else:
            mark = landmarks[name]
            big = min(5 + g.degree(name) ** 0.5, 14)
            nodes.append(f'<g data-n="{name}" class="landmark"><title>{escape(mark.title)}, {mark.year}</title>'
                         f'<rect x="{x - big:.1f}" y="{y - big:.1f}" width="{2 * big:.1f}" height="{2 * big:.1f}"/>'
                         f'<text x="{x}" y="{y + big + 12:.1f}">{escape(mark.title)}</text></g>')
    label = (f"{len(g)} papers and landmarks joined by {g.number_of_edges()} lines. The largest squares, from which most start: "
             + ", ".join(landmarks[n].title if n in landmarks else n for n in sorted(g, key=g.degree, reverse=True)[:5])
             + ". The same relations follow as a list.")
    return (f'<svg class="map" role="group" aria-label="{escape(label)}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}"><g class="lines" aria-hidden="true">{"".join(lines)}</g>{"".join(nodes)}</svg>')


def map_page(parts: tuple[Part, ...], judged: Judged, landmarks: Mapping[str, Landmark]) -> str:
    """The page of the graph, with the same relations as a list."""
    papers = {p.id: p for part in parts for nb in part.notebooks for p in nb.papers}
    g = graph(papers.values(), landmarks)
    alone = [p for p in papers.values() if p.id not in g]
    return "\n".join([
        *WIDE, "# Map of the papers", "",
        f"{sum(n in papers for n in g)} papers (dots), and {sum(n in landmarks for n in g)} landmarks (squares) that they start from "
        "and that have no section of their own. A thick line: *reduces to*, an exact identity for some setting. A thin line: *builds on*. "
        "A dotted line: *is compared with*. Point at a paper to see its own lines only; a click leads to its card.", "",
        _colours(), "", '<div class="wide" tabindex="0" role="region" aria-label="Map of the papers">'
        f"{drawing(parts, judged, landmarks)}</div>", "", "## The same as a list", "", *_list(papers, landmarks, g), "",
        "## Not joined to others yet", "", " · ".join(f"[{p.id}](#{p.id})" for p in alone) or "None.", ""])


WIDE = ["---", "html_theme.sidebar_secondary.remove: true", "---"]


def _colours() -> str:
    words = [badge(s) for s in STATUSES if s != "no evidence"] + ['<span class="cl-badge cl-missing">not written yet</span>']
    return f"<p>{' '.join(words)} <small>Of several verdicts of a paper, the least favourable one colours it.</small></p>"


def _list(papers: Mapping[str, Paper], landmarks: Mapping[str, Landmark], g: nx.Graph) -> list[str]:
    """For each work that others name, those others by relation; the most named first."""
    out = []
    named = {o for p in papers.values() for others in p.relations.values() for o in others}
    for work in sorted(named, key=lambda n: (-g.degree(n), n)):
        title = f"[{text(papers[work].title)}](#{work})" if work in papers else text(landmarks[work].title)
        groups = [(words, [p.id for p in papers.values() if work in p.relations.get(r, ())]) for r, words in OF_IT.items()]
        said = "; ".join(f"{words}: " + ", ".join(f"[{i}](#{i})" for i in ids) for words, ids in groups if ids)
        out.append(f"- **{title}**: {said}")
    return out


def timeline(parts: tuple[Part, ...], judged: Judged) -> str:
    """Papers by year as SVG: a column a year, a band of colour for each part, a mark for the verdict."""
    years: dict[int, list[tuple[int, Paper]]] = {}
    for i, part in enumerate(parts):
        for p in (p for nb in part.notebooks for p in nb.papers):
            years.setdefault(p.year, []).append((i, p))
    tall = max(map(len, years.values())) * LINE + 34
    out = []
    for column, year in enumerate(sorted(years)):
        x = column * COLUMN + 6
        out.append(f'<text class="year" x="{x}" y="18">{year}</text><text class="count" x="{x + 44}" y="18">{len(years[year])}</text>')
        for row, (part, p) in enumerate(years[year]):
            y, status = 30 + row * LINE, state(p, judged)
            out.append(f'<a href="papers/{p.id}.html" class="cl-{status.replace(" ", "-")}"><title>{escape(p.title)}, {escape(p.authors)} '
                       f'{p.year}: {status}</title><rect class="part-{part}" x="{x}" y="{y}" width="5" height="{LINE}"/>'
                       f'<text x="{x + 9}" y="{y + 12}"><tspan class="mark">{MARKS.get(status, "·")}</tspan> {_short(p.id)}</text></a>')
    wide = len(years) * COLUMN + 12
    label = f"{sum(map(len, years.values()))} papers from {min(years)} to {max(years)}, in a column for each year."
    return (f'<svg class="timeline" role="group" aria-label="{label}" viewBox="0 0 {wide} {tall}" width="{wide}" height="{tall}">'
            f"{''.join(out)}</svg>")


def _short(id: str, most: int = 15) -> str:
    return id if len(id) <= most else id[:most - 1] + "…"


def timeline_page(parts: tuple[Part, ...], judged: Judged) -> str:
    keys = "".join(f'<li><svg aria-hidden="true" width="14" height="14"><rect class="part-{i}" width="14" height="14"/></svg> '
                   f"{escape(p.title)}</li>" for i, p in enumerate(parts))
    return "\n".join([
        *WIDE, "# Timeline", "",
        "Every paper of the book in the column of its year, within a year in the order of the book. The band says which part it "
        "belongs to, the mark how its claims stand. A click leads to its card.", "",
        _colours(), "", f'<ul class="parts">{keys}</ul>', "",
        f'<div class="wide" tabindex="0" role="region" aria-label="Timeline of the papers">{timeline(parts, judged)}</div>', ""])
