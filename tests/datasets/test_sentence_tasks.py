"""Readers of sentence tasks: official counts, parts that share nothing, swaps of two neighbours and nothing else."""
import pytest

from cl_lib.datasets import sources
from cl_lib.datasets.sentence_tasks import SUBJ, TASKS, TREC, contradictions, sentence_task, subj, trec, word_order
from cl_lib.datasets.text import SICK, SNLI, SPLITS, normalised, sick
from cl_lib.errors import InputError

full = pytest.mark.skipif(not all(map(sources.available, (*TREC.values(), SUBJ, *SNLI, *SICK.values()))), reason="the sentence tasks are not in CL_DATA")


@full
def test_official_counts_and_disjoint_parts():
    assert [len(trec(s).texts) for s in SPLITS] == [4952, 500, 500]
    assert trec("test").y.bincount().tolist() == [138, 94, 9, 65, 81, 113]
    assert trec("train").y.bincount().add(trec("validation").y.bincount()).tolist() == [1162, 1250, 86, 1223, 835, 896]
    assert [len(subj(s).texts) for s in SPLITS] == [8000, 1000, 1000]
    assert all(subj(s).y.bincount().tolist() == [len(subj(s).y) // 2] * 2 for s in SPLITS)
    parts = [set(word_order(s).texts) for s in SPLITS]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


@pytest.mark.parametrize("version", ["slice", pytest.param("full", marks=full)])
def test_word_order_swaps_one_pair_of_neighbours_in_every_other_sentence(version):
    from cl_lib.datasets.text import snli_triplets, stsb

    for split in SPLITS:
        plain = stsb(split, version="slice").a + stsb(split, version="slice").b if version == "slice" else snli_triplets().anchor
        whole, found = {" ".join(s.split()) for s in plain}, word_order(split, version=version)
        assert found.y.bincount().diff().abs() <= 1
        for text, swapped in zip(found.texts, found.y.tolist(), strict=True):
            words = text.split()
            back = [[*words[:i], words[i + 1], words[i], *words[i + 2:]] for i in range(1, len(words) - 2)]
            assert (text in whole) if not swapped else any(" ".join(b) in whole for b in back)


@full
def test_contradictions_are_sick_pairs_of_that_label():
    assert [len(contradictions(s).anchor) for s in SPLITS] == [200, 4, 273]
    t, p = contradictions("test"), sick("test")
    known = {frozenset(pair) for pair in zip(p.a, p.b, strict=True)}
    assert all(frozenset(pair) in known for side in (t.positive, t.negative) for pair in zip(t.anchor, side, strict=True))
    assert all(len({normalised(s) for s in triplet}) == 3 for triplet in zip(t.anchor, t.positive, t.negative, strict=True))


def test_slices_drawing_and_errors():
    for task in TASKS:
        some = sentence_task(task, "train", version="slice", most=20)
        everything = sentence_task(task, "train", version="slice")
        places = [everything.texts.index(text) for text in some.texts]
        assert len(some.texts) == len(some.y) == 20 and len(some.y.unique()) == 2
        assert some.texts == sentence_task(task, "train", version="slice", most=20).texts and places == sorted(places)
    assert contradictions("test", version="slice").anchor
    for call in (lambda: sentence_task("trek", "train"), lambda: sentence_task("trec", "dev"), lambda: trec("dev"), lambda: subj("x"),
                 lambda: sentence_task("trec", "train", version="big"), lambda: sentence_task("trec", "train", version="slice", most=0)):
        with pytest.raises(InputError):
            call()
