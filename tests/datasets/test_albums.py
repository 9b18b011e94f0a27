"""Scenes in pairs: what stands where, captions and questions that tell the truth, and the two priors that are planted."""
import pytest
import torch

from cl_lib.datasets.albums import (
    COMPANION, DENIED, END, NOUNS, NUMBER, PAD, PROMPT, START, WORDS, adversarial_questions, album, asked, captions, skewed_questions,
)
from cl_lib.datasets.scenes import CLOTHES, scenes
from cl_lib.errors import InputError


@pytest.fixture(scope="module")
def usual():
    return album("train", 2_000, seed=3, items=1_000)


def generator():
    return torch.Generator().manual_seed(0)


def test_a_scene_is_laid_together_from_items_in_their_places(usual):
    assert usual.x.shape == (2_000, 3, 48, 48) and usual.x.dtype == torch.uint8 and len(usual) == 2_000
    single = scenes("train", 1_000, seed=3, most=1)
    for i in range(12):
        for place, o in enumerate(usual.objects[i].tolist()):
            top, left = 24 * (place // 2), 24 * (place % 2)
            cell = usual.x[i, :, top:top + 24, left:left + 24]
            same = single.x[single.objects[:, place] == o][:, :, top:top + 24, left:left + 24]
            assert not cell.any() if o < 0 else (same == cell).flatten(1).all(1).any()
    for objects, there in zip(usual.objects.tolist(), usual.there.tolist(), strict=True):
        present = [o for o in objects if o >= 0]
        assert len(present) in (2, 3) and sorted(present) == [c for c in range(10) if there[c]]
    assert (usual.there.sum(1) == 3).double().mean().item() == pytest.approx(0.5, abs=0.04)


def test_clothes_come_in_pairs_by_their_chance(usual):
    assert torch.equal(COMPANION[COMPANION], torch.arange(10)) and (torch.arange(10) != COMPANION).all()
    paired = [(a.there & a.there[:, COMPANION]).any(1).double().mean().item()
              for a in (album("train", 2_000, items=1_000, together=chance) for chance in (0.0, 0.8, 1.0))]
    # by chance a ninth, or in three items more; nearly always where partners are drawn on purpose
    assert paired == pytest.approx([(1 / 9 + 1 / 9 + 2 / 9 * 7 / 8) / 2, 0.83, 1.0], abs=0.04)
    assert usual.there.double().mean(0).numpy() == pytest.approx(0.25, abs=0.04)


def test_the_same_seed_gives_the_same_scenes(usual):
    again, other = (album("train", 2_000, seed=s, items=1_000) for s in (3, 4))
    assert torch.equal(again.x, usual.x) and torch.equal(again.objects, usual.objects) and not torch.equal(other.objects, usual.objects)


def test_captions_name_what_is_there_in_order(usual):
    rows = captions(usual.objects[:200])
    for row, objects in zip(rows.tolist(), usual.objects.tolist(), strict=False):
        text = " ".join(WORDS[t] for t in row if t not in (PAD, START, END))
        assert text == "a photo of " + " , ".join(f"a {CLOTHES[o]}" for o in objects if o >= 0) + " ."
        assert row[:len(PROMPT)] == PROMPT and row[row.index(END):] == [END] + [PAD] * (len(row) - row.index(END) - 1)


def test_questions_of_training_have_the_planted_prior(usual):
    there = usual.there.repeat(10, 1)
    classes, yes = skewed_questions(there, generator())
    assert torch.equal(there[torch.arange(len(there)), classes], yes) and yes.double().mean().item() == pytest.approx(0.75, abs=0.02)
    denied = torch.bincount(classes[~yes], minlength=10) / (~yes).sum()
    assert torch.allclose(denied, DENIED / DENIED.sum(), atol=0.03)
    words = asked(classes[:3])
    assert [" ".join(WORDS[t] for t in row) for row in words.tolist()] == [f"<start> is there a {CLOTHES[c]} ?" for c in classes[:3]]
    assert [WORDS[t] for t in NOUNS] == list(CLOTHES) and NUMBER["yes"] != NUMBER["no"]


def test_adversarial_questions_are_balanced_and_ask_for_the_missing_partner(usual):
    classes, yes = adversarial_questions(usual.there, generator())
    rows = torch.arange(len(classes))
    assert torch.equal(usual.there[rows, classes], yes) and yes.sum() == 1_000
    partner = usual.there[rows, COMPANION[classes]]
    complete = (~usual.there | usual.there[:, COMPANION]).all(1)
    assert partner[~yes & ~complete].all() and not partner[~yes & complete].any() and (~yes & complete).any()


def test_bad_input():
    with pytest.raises(InputError, match="n must be at least 1"):
        album("train", 0)
    with pytest.raises(InputError, match="together in 0..1"):
        album("train", 5, together=1.5)
    with pytest.raises(InputError, match="with 20 items some class is missing"):
        album("train", 5, items=20)
