"""Composed scenes: what stands where, that captions tell the truth, noise by its share, and text that can be read back."""
import pytest
import torch

from cl_lib.datasets import sources
from cl_lib.datasets.image import MNIST, fashion_mnist
from cl_lib.datasets.scenes import (
    CLOTHES, COLOURS, CONTENT_FREE, DIGITS, KINDS, LETTERS, PLACES, VERBS, WORDS, caption_ids, describe, read, scenes, write,
)
from cl_lib.datasets.sources import DataError
from cl_lib.errors import InputError

NOISE = dict(replaced=0.3, drawn=0.15, empty=0.2)


def said(caption):
    """What a caption claims: {(noun, colour or None, place or None)}."""
    out, colour = [], None
    words = caption.split()
    while words:
        word = words.pop(0)
        if word in COLOURS:
            colour = word
        elif word in CLOTHES + DIGITS:
            if words and words[0] in VERBS:
                words.pop(0)
            place = " ".join(words[:2]) if words and words[0] in ("top", "bottom") else None
            out.append((word, colour, place))
            words, colour = words[2:] if place else words, None
    return out


def test_items_stand_in_their_places_in_their_colours():
    s = scenes("test", 400)
    assert s.x.shape == (400, 3, 48, 48) and s.x.dtype == torch.uint8 and s.objects.shape == s.colours.shape == (400, 4) and len(s) == 400
    assert torch.equal(s.objects >= 0, s.colours >= 0) and s.nouns == CLOTHES
    counts = (s.objects >= 0).sum(1)
    assert set(counts.tolist()) == {1, 2, 3, 4} and (counts == 2).double().mean().item() == pytest.approx(0.25, abs=0.08)
    source = fashion_mnist("test")
    halved = source.x.view(-1, 14, 2, 14, 2).float().mean((2, 4))
    tints = torch.tensor(list(COLOURS.values()))
    for place in range(4):
        top, left = 24 * (place // 2), 24 * (place % 2)
        cell = s.x[:, :, top:top + 24, left:left + 24]
        assert not cell[s.objects[:, place] < 0].any() and cell[s.objects[:, place] >= 0].flatten(1).any(1).all()
        for i in torch.nonzero(s.objects[:, place] >= 0)[:12, 0].tolist():
            tint = tints[s.colours[i, place]]
            grey = cell[i, tint.argmax()].float()
            windows = grey.unfold(0, 14, 1).unfold(1, 14, 1).reshape(-1, 196)
            windows = windows / windows.norm(dim=1, keepdim=True).clamp(min=1)
            same = halved[source.y == s.objects[i, place]].flatten(1)
            assert (windows @ (same / same.norm(dim=1, keepdim=True)).T).max() > 0.999
            assert torch.allclose(cell[i].flatten(1).float().sum(1) / grey.sum(), tint / tint.max(), atol=0.03)


def test_captions_are_true_and_short():
    s = scenes("train", 2_000)
    names = tuple(COLOURS)
    forms = torch.zeros(3)
    for i, caption in enumerate(s.captions):
        present = {(s.nouns[o], names[c], PLACES[p]) for p, (o, c) in enumerate(zip(s.objects[i].tolist(), s.colours[i].tolist(), strict=True)) if o >= 0}
        claims = said(caption)
        for noun, colour, place in claims:
            assert any(noun == n and colour in (None, c) and place in (None, p) for n, c, p in present), caption
        verb = any(v in caption.split() for v in VERBS)
        assert len(claims) == min(len(present), 3 if verb else 4) and 1 <= len(caption.split()) <= 16
        forms += torch.tensor([claims[0][1] is not None, claims[0][2] is not None, verb])
    assert torch.allclose(forms / 2_000, torch.tensor([0.8, 0.6, 0.5]), atol=0.04)
    few = scenes("train", 2_000, colour=0.3, place=0.3, action=0)
    assert torch.equal(few.x, s.x) and not any(v in t.split() for t in few.captions for v in VERBS)
    says = [sum(any(w in t.split() for w in words) for t in few.captions) / 2_000 for words in (COLOURS, ("top", "bottom"))]
    assert says == pytest.approx([0.3, 0.3], abs=0.04)
    full = describe(s.objects, s.colours, s.nouns, torch.Generator().manual_seed(0), colour=1, place=1, action=0)
    assert all(len(t.split()) == 4 * int(k) for t, k in zip(full, (s.objects >= 0).sum(1), strict=True))


def test_noise_has_its_share_and_leaves_the_rest_as_it_was():
    clean, noisy = scenes("train", 2_000), scenes("train", 2_000, **NOISE)
    share = torch.bincount(noisy.kind, minlength=4) / 2_000
    assert torch.allclose(share, torch.tensor([0.35, 0.3, 0.15, 0.2]), atol=0.04) and not clean.kind.any()
    assert torch.equal(clean.objects, noisy.objects) and torch.equal(clean.colours, noisy.colours)
    texts = read(noisy.x)
    for i, name in enumerate(KINDS[k] for k in noisy.kind.tolist()):
        assert torch.equal(clean.x[i], noisy.x[i]) == (name != "drawn")
        assert bool(texts[i]) == (name == "drawn")
        assert (noisy.captions[i] in CONTENT_FREE) == (name == "empty")
        if name in ("clean", "drawn"):
            assert noisy.captions[i] == clean.captions[i] and noisy.captions[i].startswith(texts[i])
    other = [noisy.captions[i] != clean.captions[i] for i in torch.nonzero(noisy.kind == 1)[:, 0].tolist()]
    assert sum(other) > 0.97 * len(other)  # two scenes may have the same words
    assert not any(read(clean.x))


def test_text_is_read_back():
    assert len({tuple(shape.flatten().tolist()) for shape in LETTERS.values()}) == 26
    for top in (0, 17, 37):
        x = scenes("test", 1).x[0].clone()
        words = write(x, "cyan zero quick jumping foxbow", top)
        assert read(x[None]) == [words] and words == "cyan zero quick"


def test_seed_and_split_decide_and_digits_join():
    a = scenes("validation", 50, seed=1)
    scenes.cache_clear()
    b = scenes("validation", 50, seed=1)
    assert torch.equal(a.x, b.x) and a.captions == b.captions
    assert not torch.equal(a.x, scenes("validation", 50, seed=2).x) and not torch.equal(a.x, scenes("test", 50, seed=1).x)
    assert ((scenes("train", 50, most=1).objects >= 0).sum(1) == 1).all()
    try:
        sources.locate(MNIST, download=False)
    except DataError as missing:
        pytest.skip(str(missing))
    both = scenes("test", 400, digits=True)
    assert both.nouns == CLOTHES + DIGITS and len(both.objects.unique()) == 21


def test_ids_name_words():
    ids, lengths = caption_ids(["red bag", "coat lies top left"])
    assert ids.shape == (2, 4) and lengths.tolist() == [2, 4] and ids[0, 2:].tolist() == [0, 0]
    assert " ".join(WORDS[i] for i in ids[1].tolist()) == "coat lies top left"
    for bad in ("", "purple bag", "red " * 17):
        with pytest.raises(InputError):
            caption_ids([bad])


@pytest.mark.parametrize("wrong", [dict(split="all"), dict(n=0), dict(most=5), dict(replaced=-0.1), dict(drawn=0.6, empty=0.5)])
def test_what_is_refused(wrong):
    with pytest.raises(InputError):
        scenes(**{"split": "test", "n": 5, **wrong})
