"""Edits of sentences: what each leaves as it is, shares, seeds, strength 0, sentences of one word, errors."""
import pytest
import torch

from cl_lib.errors import InputError
from cl_lib.views.edits import BREAKING, EDITS, KEEPING, changed, edit

TEXTS = ["A small dog is running in the park.", "Two men play the guitar together", "Nobody (really) walks 3 miles", "Stop", "The old house was white"]


def run(name, texts=TEXTS, strength=1.0, seed=0):
    return edit(name, texts, torch.Generator().manual_seed(seed), strength=strength, version="slice")


@pytest.mark.parametrize("name", EDITS)
def test_strength_zero_seeds_and_never_empty(name):
    assert run(name, strength=0.0) == TEXTS
    once = run(name, strength=0.7)
    assert once == run(name, strength=0.7) and len(once) == len(TEXTS) and all(t.strip() for t in once)
    assert changed(TEXTS * 8, run(name, TEXTS * 8, 0.7)) > 0 and changed(TEXTS, TEXTS) == 0
    assert set(KEEPING) | set(BREAKING) == set(EDITS)


def test_invariants():
    for text, *out in zip(TEXTS, *(run(n) for n in ("shuffle", "swap", "typo", "repeat", "insert", "synonym", "opposite")), strict=True):
        w, (shuffled, swapped, typo, twice, more, same, other) = text.split(), [t.split() for t in out]
        assert sorted(shuffled) == sorted(swapped) == sorted(w)
        assert [sorted(a) for a in typo] == [sorted(a) for a in w]
        assert twice == [x for a in w for x in (a, a)] and len(more) == len(w) + 1
        assert sum(a != b for a, b in zip(w, same, strict=True)) <= 1 and sum(a != b for a, b in zip(w, other, strict=True)) <= 1
    assert run("opposite")[2].split()[3] == "4" and run("opposite")[4] in ("The young house was white", "The old house was black")
    assert [a[0] + a[-1] for a in run("typo")[0].split()] == [a[0] + a[-1] for a in TEXTS[0].split()]  # ends of words stay


def test_shares():
    long = [" ".join(f"word{i}" for i in range(20))] * 200
    assert 0.27 < 1 - sum(len(t.split()) for t in run("delete", long, 0.3)) / 4000 < 0.33
    assert {len(t.split()) for t in run("delete span", long, 0.3)} == {14} and {len(t.split()) for t in run("crop", long, 0.3)} == {14}
    assert 0.4 < changed(long, run("insert", long, 0.5)) < 0.6
    starts = [t.split()[0] for t in run("crop", long, 0.3)]
    assert set(starts) == {f"word{i}" for i in range(7)}  # all places of the run


def test_negation():
    assert run("negate") == ["A small dog is not running in the park.", "It is not true that two men play the guitar together",
                             "It is not true that nobody (really) walks 3 miles", "It is not true that stop", "The old house was not white"]
    assert run("negate", ["He is not here"]) == ["He is here"]


def test_errors():
    for name, strength in (("rot13", 0.5), ("typo", -0.1), ("typo", 1.5)):
        with pytest.raises(InputError):
            run(name, strength=strength)
