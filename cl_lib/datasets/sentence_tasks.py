"""Sentences with a class: questions by what they ask for, subjective or objective, two neighbouring words swapped or not.

A linear probe on frozen sentence vectors tells how much of each a vector holds.
"""
import gzip
from dataclasses import dataclass
from functools import lru_cache

import torch

from cl_lib.datasets.sources import File, Mirror, locate
from cl_lib.datasets.text import SICK, SPLITS, Triplets, normalised, snli_triplets, stsb
from cl_lib.errors import InputError, unknown

TASKS = ("trec", "subj", "word_order")
VERSIONS = ("full", "slice")


@dataclass(frozen=True)
class Labelled:
    """n texts and their classes y (n,) int64."""
    texts: tuple[str, ...]
    y: torch.Tensor
    name: str
    split: str


def sentence_task(name: str, split: str, *, version: str = "full", most: int | None = None) -> Labelled:
    """One of the tasks below by name; at most `most` texts of it, drawn once and for all, in their order.

    trec: `trec`; subj: `subj`; word_order: `word_order`. `version="slice"`, for runs that only show that code works, has
    the bundled sentences of STS-B and a stand-in for the first two: their genres, captions or news, in place of the classes.
    Raises: InputError for an unknown name, split or version; DataError when a file is not to be had.
    """
    if name not in TASKS:
        raise unknown("sentence task", name, TASKS)
    _check(name, split)
    if version not in VERSIONS:
        raise unknown(f"version of {name}", version, VERSIONS)
    if name == "word_order":
        found = word_order(split, version=version)
    elif version == "slice":
        p = stsb(split, version="slice")
        found = Labelled(p.a + p.b, torch.tensor([genre == "main-captions" for genre in p.genres] * 2).long(), f"{name}-slice", split)
    else:
        found = trec(split) if name == "trec" else subj(split)
    if most is None or most >= len(found.texts):
        return found
    if most < 1:
        raise InputError(f"most must be at least 1, not {most}")
    at = torch.randperm(len(found.texts), generator=torch.Generator().manual_seed(0))[:most].sort().values
    return Labelled(tuple(found.texts[i] for i in at), found.y[at], found.name, split)


@lru_cache
def trec(split: str) -> Labelled:
    """TREC's questions (Li and Roth 2002) by what they ask for, six classes: 4,952 + 500 + 500.

    0 description, 1 entity, 2 abbreviation, 3 person, 4 number, 5 place. Validation is made of 500 of the 5,452 training
    questions, drawn once; test is the official one. Tokenised. Licence: not stated; free for research.
    Raises: InputError for an unknown split; DataError when a file is not to be had.
    """
    _check("trec", split)
    if split == "test":
        return _labelled(TREC["test"], "trec", split)
    both = _labelled(TREC["train"], "trec", split)
    held_out = torch.zeros(len(both.y), dtype=torch.bool)
    held_out[torch.randperm(len(both.y), generator=torch.Generator().manual_seed(0))[:500]] = True
    return _part(both, held_out if split == "validation" else ~held_out, split)


@lru_cache
def subj(split: str) -> Labelled:
    """SUBJ (Pang and Lee 2004): sentences of reviews (0, subjective) and of plots (1, objective): 8,000 + 1,000 + 1,000.

    The set has no official parts (papers cross-validate); of every ten sentences in order the fifth is validation, the
    last is test. Tokenised, lower case. Licence: not stated; free for research. Errors as `trec`.
    """
    _check("subj", split)
    everything = _labelled(SUBJ, "subj", split)
    at = torch.arange(len(everything.y)) % 10
    return _part(everything, {"train": (at != 4) & (at != 9), "validation": at == 4, "test": at == 9}[split], split)


@lru_cache
def word_order(split: str, *, version: str = "full") -> Labelled:
    """Captions, the half of them (1) with two neighbouring words swapped, as in the bigram-shift task (1805.01070).

    The sentences are the premises of `snli_triplets`, each in one part and either swapped or not: of every ten the fifth is
    validation, the last is test. Swapped are two different words in lower case, neither the first nor the last of the
    sentence; sentences without such a place are left out. "slice" has the bundled sentences of STS-B, by its own splits.
    Errors as `snli_triplets`.
    """
    _check("word_order", split)
    if version == "slice":
        p = stsb(split, version="slice")
        sentences = tuple(dict.fromkeys(p.a + p.b))
    else:
        at = SPLITS.index(split)
        sentences = tuple(s for i, s in enumerate(snli_triplets().anchor) if {4: 1, 9: 2}.get(i % 10, 0) == at)
    g = torch.Generator().manual_seed(SPLITS.index(split))
    texts, y = [], []
    for sentence in sentences:
        words = sentence.split()
        places = [i for i in range(1, len(words) - 2)
                  if words[i] != words[i + 1] and all(w.isalpha() and w.islower() for w in words[i:i + 2])]
        if places:
            y.append(len(texts) % 2)
            if y[-1]:
                i = places[int(torch.randint(len(places), (), generator=g))]
                words[i:i + 2] = words[i + 1], words[i]
            texts.append(" ".join(words))
    return Labelled(tuple(texts), torch.tensor(y), "word_order", split)


@lru_cache
def contradictions(split: str, *, version: str = "full") -> Triplets:
    """Sentences of SICK, each with one that follows from it and one that contradicts it, mostly by a "no" or "not".

    200, 4 and 273 triplets, of sentences of that split alone, the first of each kind in the order of the file; in the
    test part they are for evaluation. "slice" has the bundled triplets of SNLI in all splits. Licence and errors as `sick`.
    """
    _check("contradictions", split)
    if version == "slice":
        return snli_triplets(version="slice")
    first: dict[str, dict[str, str]] = {}
    for line in _lines(SICK[split])[1:]:
        a, b, label = (line.split("\t")[i].strip() for i in (1, 2, 4))
        first.setdefault(a, {}).setdefault(label, b)
        if label == "CONTRADICTION":
            first.setdefault(b, {}).setdefault(label, a)
    found = [(a, f["ENTAILMENT"], f["CONTRADICTION"]) for a, f in first.items() if {"ENTAILMENT", "CONTRADICTION"} <= f.keys()]
    kept = [t for t in found if len({normalised(s) for s in t}) == 3]
    return Triplets(*zip(*kept, strict=True), "sick", split)


def _check(name, split):
    if split not in SPLITS:
        raise unknown(f"split of {name}", split, SPLITS)


def _lines(file: File, encoding: str = "utf8") -> list[str]:
    text = gzip.decompress(locate(file)[0].read_bytes()).decode(encoding)
    return [line for line in text.replace("\r", "").split("\n") if line.strip()]


def _labelled(file: File, name: str, split: str) -> Labelled:
    """Lines of a class, a blank and a text."""
    rows = [line.split(" ", 1) for line in _lines(file, "latin-1")]
    return Labelled(tuple(text.strip() for _, text in rows), torch.tensor([int(label) for label, _ in rows]), name, split)


def _part(everything: Labelled, mask: torch.Tensor, split: str) -> Labelled:
    return Labelled(tuple(t for t, m in zip(everything.texts, mask.tolist(), strict=True) if m), everything.y[mask], everything.name, split)


def _file(name: str, sha256: str) -> File:
    path = f"text/sentence_cls/{name}.all.gz"
    return File(path, sha256, (Mirror("folder", path),), "A line of class and tokenised text each, compressed with gzip, as in "
                f"{name}.all of AcademiaSinicaNLPLab/sentiment_dataset at 23c72429de5f.")


TREC = {"train": _file("TREC.train", "255973efdbcb88d44452bdee22de565a4ff17650fa8326f3abd63ec937e6c919"),
        "test": _file("TREC.test", "b1ca503bacf46799ef78cc710c9b03f62197a1bab9e2cdd3d9ad55f3af40934f")}
SUBJ = _file("subj", "0f80bb36a64af65f85c23953912531f725b69ed4ea06fbd6fedb9276bdadca7a")
