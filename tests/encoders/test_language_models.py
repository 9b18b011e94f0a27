import pytest
import torch

from cl_lib.encoders.language_models import GPT
from cl_lib.errors import InputError


@pytest.fixture
def gpt():
    return GPT(11, 8, layers=2, heads=2, longest=12, seed=0).eval()


IDS = torch.randint(11, (3, 9), generator=torch.Generator().manual_seed(0))


def test_it_never_looks_ahead(gpt):
    changed = IDS.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 11
    a, b = gpt(IDS), gpt(changed)
    assert torch.allclose(a[:, :5], b[:, :5], atol=1e-6) and not torch.allclose(a[:, 5:], b[:, 5:], atol=1e-4)


@pytest.mark.parametrize("pieces", [(9,), (4, 5), (4, 1, 3, 1), (1,) * 9])
def test_reading_in_pieces_is_reading_at_once(gpt, pieces):
    cache, logits, states = None, [], []
    for part in IDS.split(pieces, 1):
        read = gpt.read(part, cache)
        cache = read.cache
        logits.append(read.logits)
        states.append(read.states)
    assert torch.allclose(torch.cat(logits, 1), gpt(IDS), atol=1e-5) and torch.allclose(torch.cat(states, 1), gpt.states(IDS), atol=1e-5)
    assert len(cache) == 9


def test_rows_of_a_cache_can_be_repeated_and_chosen(gpt):
    read = gpt.read(IDS[:, :4])
    read.cache.batch_repeat_interleave(2)
    read.cache.batch_select_indices(torch.tensor([5, 0]))
    next_token = IDS[[2, 0], 4:5]
    assert torch.allclose(gpt.read(next_token, read.cache).logits[:, 0], gpt(IDS[[2, 0], :5])[:, -1], atol=1e-5)


def test_seeds_and_modes(gpt):
    again, other = (GPT(11, 8, layers=2, heads=2, longest=12, seed=s) for s in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(gpt.parameters(), again.parameters(), strict=True))
    assert not torch.equal(gpt.tokens.weight, other.tokens.weight)
    noisy = GPT(11, 8, layers=2, heads=2, longest=12, dropout=0.5, seed=0).train()
    assert torch.allclose(noisy.read(IDS).logits, gpt(IDS), atol=1e-6) and noisy.training


def test_bad_input(gpt):
    with pytest.raises(InputError, match="reads 12 at most"):
        gpt(torch.zeros(1, 13, dtype=torch.int64))
    with pytest.raises(InputError, match="heads must divide d"):
        GPT(11, 9, heads=2)
