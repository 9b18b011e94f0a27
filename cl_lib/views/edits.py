"""Edits of sentences as text, for views that a tokenizer has to read anew.

Each takes the words of one sentence, a strength in [0, 1] and a generator on the CPU; strength 0 changes nothing. Words are
what blanks part; marks before and after a word stay where they are when the word is replaced. No edit leaves a sentence empty.
Sources: word-level edits EDA (1901.11196), repetition 2109.04380, spans 2012.15466 and 2006.03659; opposites after the
warning of 2203.12000 that an edit of one word can change what a sentence says.
"""
import re
from collections.abc import Sequence

import torch

from cl_lib.datasets.thesaurus import thesaurus
from cl_lib.errors import InputError, unknown

KEEPING = ("typo", "delete", "insert", "swap", "synonym", "repeat", "delete span", "crop", "shuffle")
BREAKING = ("negate", "opposite")
EDITS = KEEPING + BREAKING
AUXILIARIES = frozenset("is are was were can could will would should has have had do does did may might must".split())
NUMBERS = "one two three four five six seven eight nine ten".split()
FIXED = frozenset("not non the and".split())  # words whose entries in a thesaurus are of no use here


def edit(name: str, texts: Sequence[str], g: torch.Generator, *, strength: float, version: str = "full") -> list[str]:
    """The sentences after an edit, drawn anew for each.

    typo: each word of four letters or more loses, with probability `strength`, two neighbouring letters' order.
    delete: each word goes with that probability. delete span: a run of int(strength * words), at least one, goes.
    crop: such a run is all that stays, of the share 1 - strength, at least one. shuffle: with that probability all words
    change places. swap: int(strength * words), at least one, pairs of neighbours change places, one after the other.
    repeat: each word is said twice with that probability.
    insert, synonym, negate, opposite: one word alone, with that probability. insert: a word of another sentence enters.
    synonym, opposite: one word that has a synonym (an antonym, or another number) is replaced; where there is none the
    sentence stays. negate: "not" enters after the first auxiliary verb, or leaves if it is there; a sentence without such
    a verb begins with "It is not true that".
    version: that of `thesaurus`. Raises: InputError for an unknown name or a strength outside [0, 1].
    """
    if name not in EDITS:
        raise unknown("edit", name, EDITS)
    if not 0 <= strength <= 1:
        raise InputError(f"strength must be in [0, 1], not {strength!r}")
    if strength == 0:
        return list(texts)
    known = {}
    if name in ("synonym", "opposite"):
        known = thesaurus({_core(w)[1].lower() for t in texts for w in t.split()} - FIXED, version=version)
    donors = [w for t in texts for w in t.split()] if name == "insert" else []
    return [" ".join(_edited(name, text.split(), strength, g, known, donors)) or text for text in texts]


def changed(texts: Sequence[str], edited: Sequence[str]) -> float:
    """The share of sentences that an edit has changed."""
    return sum(a.split() != b.split() for a, b in zip(texts, edited, strict=True)) / len(texts)


def _edited(name, words, strength, g, known, donors):
    n = len(words)
    if not n:
        return words
    if name in ("insert", "synonym", "negate", "opposite", "shuffle"):
        if not _uniform(1, g)[0] < strength:
            return words
        if name == "insert":
            at = _below(n + 1, g)
            return [*words[:at], _core(donors[_below(len(donors), g)])[1], *words[at:]]
        if name == "negate":
            return _negated(words)
        if name == "shuffle":
            return [words[i] for i in torch.randperm(n, generator=g).tolist()]
        return _replaced(words, g, known, opposite=name == "opposite")
    if name in ("delete span", "crop"):
        width = max(1, int((strength if name == "delete span" else 1 - strength) * n))
        at = _below(n - width + 1, g)
        run = words[at:at + width]
        return (words[:at] + words[at + width:] or run) if name == "delete span" else run
    if name == "swap":
        words = list(words)
        for _ in range(max(1, int(strength * n)) if n > 1 else 0):
            i = _below(n - 1, g)
            words[i:i + 2] = words[i + 1], words[i]
        return words
    chosen = _uniform(n, g) < strength
    if name == "delete":
        return [w for w, gone in zip(words, chosen, strict=True) if not gone] or [words[_below(n, g)]]
    if name == "repeat":
        return [w for w, twice in zip(words, chosen, strict=True) for _ in range(1 + int(twice))]
    return [_misspelt(w, g) if wrong else w for w, wrong in zip(words, chosen, strict=True)]


def _misspelt(word, g):
    before, core, after = _core(word)
    if len(core) < 4:
        return word
    i = 1 + _below(len(core) - 2, g)
    return before + core[:i] + core[i + 1] + core[i] + core[i + 2:] + after


def _negated(words):
    low = [w.lower() for w in words]
    if "not" in low:
        at = low.index("not")
        return words[:at] + words[at + 1:]
    at = next((i for i, w in enumerate(low) if w in AUXILIARIES), None)
    if at is None:
        return ["It", "is", "not", "true", "that", words[0][:1].lower() + words[0][1:], *words[1:]]
    return [*words[:at + 1], "not", *words[at + 1:]]


def _replaced(words, g, known, opposite):
    """One word replaced by a synonym, or by an antonym or another number."""
    candidates = []
    for i, w in enumerate(words):
        before, core, after = _core(w)
        others = ()
        if core.lower() in known:
            others = known[core.lower()].antonyms if opposite else known[core.lower()].synonyms
        if opposite and core.lower() in NUMBERS:
            others = tuple(x for x in NUMBERS if x != core.lower())
        elif opposite and core.isdigit():
            others = (str(int(core) + 1),)
        if others:
            candidates.append((i, before, core, after, others))
    if not candidates:
        return words
    i, before, core, after, others = candidates[_below(len(candidates), g)]
    other = others[_below(len(others), g)]
    return [*words[:i], before + (other.capitalize() if core[:1].isupper() else other) + after, *words[i + 1:]]


def _core(word: str) -> tuple[str, str, str]:
    """Marks before a word, the word, marks after it."""
    return re.fullmatch(r"(\W*)(.*?)(\W*)", word).groups()


def _uniform(n: int, g: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=g)


def _below(n: int, g: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=g))
