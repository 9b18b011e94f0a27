"""Heads against explicit products of matrices."""
import itertools
import math

import pytest
import torch
from torch import nn

from cl_lib.encoders.heads import Prototypes, prediction, projection
from cl_lib.errors import InputError


def features(n=9, d=6):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_hand(head, h):
    """Linear layers as products, batch norm as its formula, ReLU between the layers and not after the last."""
    linear = [m for m in head if isinstance(m, nn.Linear)]
    for i, layer in enumerate(linear):
        h = h @ layer.weight.T + (0 if layer.bias is None else layer.bias)
        if i + 1 < len(linear):
            if any(isinstance(m, nn.BatchNorm1d) for m in head):
                h = (h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-5).sqrt()
            h = h.clamp(min=0)
    return h


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 4])
def test_projection_is_its_products(layers, batch_norm):
    head = projection(6, 7, 3, layers=layers, batch_norm=batch_norm, seed=0).double()
    linear = [m for m in head if isinstance(m, nn.Linear)]
    sizes = [6, *[7] * (layers - 1), 3]
    assert [(m.in_features, m.out_features) for m in linear] == list(itertools.pairwise(sizes))
    # a bias before batch norm would be taken off again
    assert [m.bias is None for m in linear] == [batch_norm] * (layers - 1) + [False]
    h = features()
    torch.testing.assert_close(head(h), by_hand(head, h), rtol=1e-10, atol=1e-10)


def test_prediction_keeps_the_dimension():
    head = prediction(6, 11, seed=0).double()
    z = features()
    torch.testing.assert_close(head(z), by_hand(head, z), rtol=1e-10, atol=1e-10)
    assert head(z).shape == z.shape and [type(m) for m in head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]


def test_prototypes_score_cosines():
    head = Prototypes(6, 4, seed=0).double()
    torch.testing.assert_close(head.weight.norm(dim=1), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-6)
    with torch.no_grad():
        head.weight.mul_(3)  # what an optimiser does to them must not count
    z = features()
    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    expected = [[dot(x, w) / math.sqrt(dot(x, x) * dot(w, w)) for w in head.weight.tolist()] for x in z.tolist()]
    torch.testing.assert_close(head(z), torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("build", [lambda seed: projection(6, seed=seed), lambda seed: prediction(6, seed=seed),
                                   lambda seed: Prototypes(6, 4, seed=seed)])
def test_initial_weights_come_from_the_seed_alone(build):
    before = torch.get_rng_state()
    first = build(3).state_dict()
    assert torch.get_rng_state().equal(before)
    torch.rand(5)
    assert all(v.equal(first[k]) for k, v in build(3).state_dict().items())
    assert any(not v.equal(first[k]) for k, v in build(4).state_dict().items())
    torch.set_rng_state(before)


def test_layers_below_one_are_refused():
    with pytest.raises(InputError, match="layers must be at least 1, not 0"):
        projection(6, layers=0)
