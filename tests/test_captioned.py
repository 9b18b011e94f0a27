"""Captioned emoji: what belongs together, what is kept, and what the probes can see."""
import pytest
import torch
import torch.nn.functional as F

from cl_lib.captioned import caption_vectors, captioned, probes
from cl_lib.datasets.emoji import emoji, split
from cl_lib.errors import InputError
from cl_lib.image_text import described

DATA = emoji("slice")


def test_each_picture_keeps_one_caption_and_the_artist_left_out_has_none():
    pairs, part = captioned(DATA, 0), split(DATA, 0)
    assert len(pairs) == len(pairs.x) == len(pairs.concept) == len(part.seen) * len(part.artists)
    assert captioned(DATA, 0).captions == pairs.captions and all(pairs.captions)
    for a, block in zip(part.artists, pairs.x.split(len(part.seen)), strict=True):
        assert torch.equal(block, DATA.x[a][part.seen])
    # an artist's captions do not depend on who else is in training
    assert captioned(DATA, 2).captions == pairs.captions
    assert captioned(DATA, 1).captions != pairs.captions


def test_kinds_can_be_left_unsaid():
    said, unsaid = captioned(DATA, 0), captioned(DATA, 0, kind=0.0)
    kinds = {described(s) for s in DATA.subgroups}
    assert torch.equal(said.x, unsaid.x) and any(c in kinds for c in said.captions) and not any(c in kinds for c in unsaid.captions)
    with pytest.raises(InputError, match="kind"):
        captioned(DATA, 0, kind=1.5)


def test_shuffled_captions_are_the_same_captions_elsewhere():
    pairs, mixed = captioned(DATA, 0), captioned(DATA, 0, shuffled=True)
    assert sorted(mixed.captions) == sorted(pairs.captions) and mixed.captions != pairs.captions
    assert torch.equal(mixed.x, pairs.x)


def test_probes_read_features_that_hold_the_subgroup_and_nothing_from_noise():
    part = split(DATA, 0)
    place = {DATA.x[a][i].numpy().tobytes(): DATA.subgroup[i] for a in range(len(DATA.artists)) for i in range(len(DATA))}

    def told(x):
        return F.one_hot(torch.stack([place[p.numpy().tobytes()] for p in x]), len(DATA.subgroups)).float()

    known = probes(told, DATA, 0)
    assert known["probe"] > 0.95 and known["ari"] > 0.9
    noise = probes(lambda x: torch.randn(len(x), 8, generator=torch.Generator().manual_seed(len(x))), DATA, 0)
    assert noise["probe"] < 0.3 and noise["ari"] < 0.1
    assert len(part.queries) + len(part.unseen) < len(DATA)


def test_the_stand_in_for_a_language_model_is_the_same_for_the_same_words():
    z = caption_vectors(("red apple", "apple red", "dog"), version="slice")
    assert torch.allclose(z.norm(dim=1), torch.ones(3)) and torch.allclose(z[0], z[1]) and not torch.allclose(z[0], z[2])
    with pytest.raises(InputError, match="slice"):
        caption_vectors(("dog",), version="small")
