"""Rows with biases of their own against copies of the model whose biases are really changed."""
from copy import deepcopy

import pytest
import torch

from cl_lib.encoders.language_models import GPT, Cache
from cl_lib.encoders.row_biases import advance, biased_parts, shifted_biases
from cl_lib.errors import InputError


@pytest.fixture
def gpt():
    model = GPT(13, 8, layers=3, heads=2, longest=10, seed=0).double().requires_grad_(False)
    model.tokens.weight.mul_(25)  # what is read decides what comes next
    return model


IDS = torch.randint(13, (4, 6), generator=torch.Generator().manual_seed(1))


def shifts_of(parts):
    g = torch.Generator().manual_seed(2)
    return [torch.randn(len(IDS), p.bias.shape[0], generator=g, dtype=torch.float64).requires_grad_() for p in parts]


@pytest.mark.parametrize("top", [1, 2, 3])
def test_each_row_is_a_model_with_biases_of_its_own(gpt, top):
    parts = biased_parts(gpt, top)
    shifts = shifts_of(parts)
    with shifted_biases(parts, shifts):
        out = gpt(IDS)
    grads = torch.autograd.grad(out[:, -1].square().sum(), shifts)
    for i in range(len(IDS)):
        alone = deepcopy(gpt)
        biases = [p.bias for p in biased_parts(alone, top)]
        for b, s in zip(biases, shifts, strict=True):
            b.add_(s[i].detach())
            b.requires_grad_()
        found = alone(IDS[i:i + 1])
        assert torch.allclose(out[i], found[0], rtol=0, atol=1e-12)
        for ours, theirs in zip(grads, torch.autograd.grad(found[0, -1].square().sum(), biases), strict=True):
            assert torch.allclose(ours[i], theirs, rtol=1e-9, atol=1e-12)


def test_all_biases_of_the_upper_layers_and_no_others(gpt):
    for top in range(4):
        names = {n for n, p in gpt.named_parameters() for part in biased_parts(gpt, top) if p is part.bias}
        wanted = {n for n, _ in gpt.named_parameters() if n.endswith("bias") and top and (n == "norm.bias" or int(n.split(".")[1]) >= 3 - top)}
        assert names == wanted and len(biased_parts(gpt, top)) == len(names)
    for top in (-1, 4):
        with pytest.raises(InputError, match="top must be in 0..3"):
            biased_parts(gpt, top)


def test_shifts_of_zero_change_no_bit_and_leave_nothing(gpt):
    parts, before, plain = biased_parts(gpt, 3), deepcopy(gpt.state_dict()), gpt(IDS)
    with shifted_biases(parts, [torch.zeros_like(s) for s in shifts_of(parts)]):
        assert torch.equal(gpt(IDS), plain)
    with pytest.raises(RuntimeError, match="stop"), shifted_biases(parts, shifts_of(parts)):
        raise RuntimeError("stop")
    assert torch.equal(gpt(IDS), plain) and all(torch.equal(a, b) for a, b in zip(gpt.state_dict().values(), before.values(), strict=True))
    with pytest.raises(InputError, match="19 parts need as many shifts, not 18"), shifted_biases(parts, shifts_of(parts)[:-1]):
        pass
    assert torch.equal(gpt(IDS), plain)


def test_advance_reads_as_the_model_does_and_keeps_the_cache(gpt):
    past = gpt.read(IDS[:, :-1])
    state, ahead = advance(gpt, gpt.tokens.weight[IDS[:, -1]], past.cache)
    assert torch.allclose(state, gpt.states(IDS)[:, -1], rtol=0, atol=1e-12)
    assert len(past.cache) == 5 and len(ahead) == 6
    mixed = torch.full((4, 13), 1 / 13).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda m: advance(gpt, m @ gpt.tokens.weight, past.cache)[0], mixed)
    full = gpt.read(torch.zeros(1, 10, dtype=torch.long)).cache
    with pytest.raises(InputError, match="11 tokens; the model reads 10 at most"):
        advance(gpt, gpt.tokens.weight[:1], full)
    assert len(advance(gpt, gpt.tokens.weight[:1], Cache(3))[1]) == 1
