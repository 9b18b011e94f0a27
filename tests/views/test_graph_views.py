import math

import pytest
import torch

from cl_lib.encoders.graph import sparse
from cl_lib.errors import InputError
from cl_lib.views.graph import drop_edges, mask_features


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def graph(n=60, pairs=600, seed=0):
    """Random edges in both directions, each once, without loops."""
    low, high = torch.triu_indices(n, n, 1)
    chosen = torch.randperm(len(low), generator=gen(seed))[:pairs]
    one_way = torch.stack([low[chosen], high[chosen]])
    return torch.cat([one_way, one_way.flip(0)], 1).unique(dim=1)


def within(successes, trials, p):
    return abs(successes - trials * p) < 5 * math.sqrt(trials * p * (1 - p))


@pytest.mark.parametrize("p", [0.1, 0.4, 0.9])
def test_both_directions_of_an_edge_go_together_and_order_is_kept(p):
    edges = graph()
    kept = drop_edges(edges, gen(1), p=p)
    pairs = set(map(tuple, kept.T.tolist()))
    assert {(j, i) for i, j in pairs} == pairs and len(pairs) == kept.shape[1]
    assert within(edges.shape[1] // 2 - len(pairs) // 2, edges.shape[1] // 2, p)
    among = [tuple(e) for e in edges.T.tolist() if tuple(e) in pairs]
    assert among == list(map(tuple, kept.T.tolist()))


def test_each_edge_is_dropped_equally_often_and_apart_from_others():
    edges, g, n = torch.tensor([[0, 0, 1, 2, 2, 3], [1, 2, 0, 0, 3, 2]]), gen(2), 3000
    gone = torch.tensor([[not (drop == torch.tensor(e)[:, None]).all(0).any() for e in ((0, 1), (0, 2), (2, 3))]
                         for drop in (drop_edges(edges, g, p=0.3) for _ in range(n))])
    assert all(within(int(c), n, 0.3) for c in gone.sum(0))
    assert all(within(int((gone[:, a] & gone[:, b]).sum()), n, 0.09) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_the_generator_decides_alone():
    edges, x, state = graph(), torch.rand(9, 50, generator=gen(3)), torch.get_rng_state()
    for view in (lambda s: drop_edges(edges, gen(s), p=0.3), lambda s: mask_features(x, gen(s), p=0.3)):
        assert view(1).equal(view(1)) and not (view(1).shape == view(2).shape and view(1).equal(view(2)))
    assert torch.get_rng_state().equal(state)
    assert drop_edges(edges, gen(), p=0).equal(edges) and mask_features(x, gen(), p=0).equal(x)


def test_no_edges():
    assert drop_edges(torch.zeros(2, 0, dtype=torch.long), gen(), p=0.5).shape == (2, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_feature_is_hidden_for_all_nodes_and_nothing_is_rescaled(dtype):
    x = torch.rand(20, 2000, generator=gen(4)).to(dtype) + 1
    before = x.clone()
    view = mask_features(x, gen(5), p=0.3)
    hidden = (view == 0).all(0)
    assert view[:, ~hidden].equal(x[:, ~hidden]) and view.dtype == dtype and x.equal(before)
    assert not (view[:, ~hidden] == 0).any() and within(int(hidden.sum()), 2000, 0.3)


def test_sparse_features_are_hidden_as_dense_ones():
    x = torch.rand(20, 200, generator=gen(6)) * (torch.rand(20, 200, generator=gen(7)) < 0.1)
    view = mask_features(sparse(x), gen(8), p=0.4)
    assert view.layout == torch.sparse_csr and view.to_dense().equal(mask_features(x, gen(8), p=0.4))


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan"), "0.3"])
def test_bad_rates_are_named(p):
    for call in (lambda: drop_edges(graph(), gen(), p=p), lambda: mask_features(torch.ones(2, 3), gen(), p=p)):
        with pytest.raises(InputError, match="p must be in"):
            call()
