"""How verdicts came to be: each claim's verdict after each recording, the page of what changed, and its feed."""
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree

from cl_lib import evidence, pages
from cl_lib.evidence import Verdict
from cl_lib.papers import Claim

ATOM = "http://www.w3.org/2005/Atom"
FEED = "_static/verdicts.xml"


@dataclass(frozen=True)
class Entry:
    """A verdict from the time of the last row behind it until the next entry."""
    utc: str
    verdict: Verdict


Histories = Mapping[str, tuple[Entry, ...]]  # name of a claim -> its verdicts, oldest first


def history(claim: Claim, rows: Iterable[dict]) -> tuple[Entry, ...]:
    """The verdict of a claim after each of its recordings, oldest first, by today's rule.

    A recording is a run of rows made by one code on one day. One that leaves verdict and numbers as they were is no entry.
    """
    own = [r for r in rows if r["claim"] == claim.name]
    entries, known = [], []
    for _, recorded in groupby(own, key=lambda r: (r["code"], r["utc"][:10])):
        known += recorded
        now = evidence.verdict(claim, known)
        before = entries[-1].verdict if entries else None
        if before is None or (now.status, now.effects, now.error) != (before.status, before.effects, before.error):
            entries.append(Entry(max(r["utc"] for r in known), now))
    return tuple(entries)


def changes(histories: Histories) -> list[tuple[str, Entry, Verdict | None]]:
    """Every change of a verdict's word, newest first: the claim's name, the new entry, the verdict before it."""
    found = []
    for name, entries in histories.items():
        for before, now in zip((None, *entries), entries, strict=False):
            if before is None or before.verdict.status != now.verdict.status:
                found.append((name, now, before and before.verdict))
    return sorted(found, key=lambda change: (change[1].utc, change[0]), reverse=True)


def page(claims: Mapping[str, Claim], histories: Histories) -> str:
    """The page of verdicts that changed, newest first."""
    found = changes(histories)
    lines = ["# What changed", "",
             f"Every verdict that was given for the first time or changed since, newest first: {len(found)} so far. "
             f"Follow it with a feed reader: <a href=\"{FEED}\">verdicts.xml</a> (Atom).", "",
             "A history is computed from the recorded rows, by today's rule; rows are only ever added.", ""]
    for day, entries in groupby(found, key=lambda change: change[1].utc[:10]):
        lines += [f"## {day}", ""]
        for name, now, before in entries:
            was = f"{pages.badge(before.status)} → " if before else ""
            lines.append(f"- {was}{pages.badge(now.verdict.status)} [{name}](#{claims[name].paper}): {pages.text(claims[name].says)}")
        lines.append("")
    return "\n".join(lines)


def feed(claims: Mapping[str, Claim], histories: Histories, newest: int = 100) -> str:
    """The same changes as an Atom feed. Its links are relative to the feed's own address, which nobody has to configure."""
    ElementTree.register_namespace("", ATOM)
    root = ElementTree.Element(f"{{{ATOM}}}feed")

    def add(parent: ElementTree.Element, tag: str, text: str = "", **attributes: str) -> ElementTree.Element:
        element = ElementTree.SubElement(parent, f"{{{ATOM}}}{tag}", attributes)
        element.text = text or None
        return element

    def identity(*words: str) -> str:
        return uuid5(NAMESPACE_URL, " ".join(("contrastive-learning-reproduced", *words))).urn

    found = changes(histories)[:newest]
    add(root, "title", "Contrastive Learning, Reproduced: verdicts that changed")
    add(root, "id", identity())
    add(root, "updated", found[0][1].utc if found else "1970-01-01T00:00:00Z")
    add(add(root, "author"), "name", "The authors of Contrastive Learning, Reproduced")
    add(root, "link", rel="self", href="verdicts.xml")
    for name, now, before in found:
        entry = add(root, "entry")
        add(entry, "title", f"{name}: {before.status + ' → ' if before else ''}{now.verdict.status}")
        add(entry, "id", identity(name, now.utc))
        add(entry, "updated", now.utc)
        add(entry, "link", href=f"../papers/{claims[name].paper}.html")
        add(entry, "summary", f"{claims[name].says} {now.verdict}")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
