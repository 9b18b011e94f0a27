"""A model that sees: where the picture's tokens stand, what happens without them, and reading in pieces."""
import pytest
import torch

from cl_lib.encoders.vision_language import VisionLanguage

IDS = torch.randint(11, (3, 6), generator=torch.Generator().manual_seed(0))
X = torch.randint(256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture
def model():
    model = VisionLanguage(11, 8, layers=2, heads=2, longest=12, width=2, depth=2, seed=0).eval()
    with torch.no_grad():
        for p in model.gpt.parameters():
            p.mul_(20 if p.ndim > 1 else 1)
    return model


def test_without_a_picture_it_is_the_language_model(model):
    assert torch.equal(model(IDS), model.gpt(IDS))


def test_words_in_the_picture_s_place_are_words_after_the_start(model):
    blanked = torch.cat([IDS[:, :1], torch.full((3, 4), 7), IDS[:, 1:]], 1)
    assert torch.allclose(model(IDS, model.filled(7, 3)), model.gpt(blanked)[:, 4:], atol=1e-4)


def test_the_picture_decides_from_the_first_word_on(model):
    a, b = model(IDS, model.see(X)), model(IDS, model.see(X.roll(1, 0)))
    assert a.shape == (3, 6, 11) and ((a - b).abs().amax(2) > 1e-3).all()
    changed = IDS.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 11
    assert torch.allclose(model(changed, model.see(X))[:, :3], a[:, :3], atol=1e-4)


def test_fields_are_read_from_left_to_right(model):
    below = X.clone()
    below[:, :, 12:, :4] = 255  # the corner is seen by the third field alone
    moved = (model.see(below) - model.see(X)).abs().amax((0, 2)) > 1e-6
    assert model.see(X).shape == (3, 4, 8) and moved.tolist() == [False, False, True, False]


@pytest.mark.parametrize("pieces", [(6,), (2, 4), (1,) * 6, (3, 1, 2)])
def test_reading_in_pieces_is_reading_at_once(model, pieces):
    for prefix in (None, model.see(X)):
        cache, logits = None, []
        for part in IDS.split(pieces, 1):
            read = model.read(part, prefix if cache is None else None, cache)
            cache = read.cache
            logits.append(read.logits)
        assert torch.allclose(torch.cat(logits, 1), model(IDS, prefix), atol=1e-4) and read.states.shape == (3, pieces[-1], 8)
        assert len(cache) == 6 + (0 if prefix is None else 4)


def test_seeds():
    again, other = (VisionLanguage(11, 8, layers=2, heads=2, width=2, depth=2, seed=s) for s in (0, 1))
    first = VisionLanguage(11, 8, layers=2, heads=2, width=2, depth=2, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.bridge.weight, other.bridge.weight)
