import itertools
import math

import pytest
import torch

from cl_lib.encoders.graph import sparse
from cl_lib.errors import InputError
from cl_lib.views.graph import drop_edges, flipped, induced, mask_features, nearest_within


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


def test_induced_edges_are_those_among_the_nodes():
    edges, nodes = graph(n=20, pairs=60), torch.tensor([7, 3, 19, 0, 11])
    pairs = set(map(tuple, edges.T.tolist()))
    a = induced(nodes, edges, 20, torch.float64)
    assert a.dtype == torch.float64
    assert all(a[i, j] == ((int(p), int(q)) in pairs) for i, p in enumerate(nodes) for j, q in enumerate(nodes))
    assert induced(torch.arange(20), edges, 20).nonzero().T.equal(edges)


def test_pairs_are_flipped_by_their_share():
    a = induced(torch.arange(6), graph(n=6, pairs=7), 6, torch.float64)
    s = torch.rand(15, generator=gen(9), dtype=torch.float64, requires_grad=True)
    out = flipped(a, s)
    for k, (i, j) in enumerate(itertools.combinations(range(6), 2)):
        assert out[i, j] == out[j, i] and math.isclose(out[i, j].item(), 1 - s[k].item() if a[i, j] else s[k].item())
    assert not out.diagonal().any() and torch.autograd.gradcheck(lambda s: flipped(a, s), s)
    assert flipped(a, s * 0).equal(a) and flipped(a, s * 0 + 1).equal(1 - a - torch.eye(6))


@pytest.mark.parametrize("budget", [0.0, 0.4, 1.0, 2.7, 5.0])
def test_the_nearest_point_within_the_budget_is_no_farther_than_any_other(budget):
    for k in range(5):
        s, g = torch.randn(5, generator=gen(k), dtype=torch.float64) * 1.5, gen(100 + k)
        point = nearest_within(s, budget, within=1e-12)
        assert 0 <= point.min() and point.max() <= 1 and point.sum() <= budget + 1e-12
        others = torch.rand(2000, 5, generator=g, dtype=torch.float64)
        others = torch.cat([others, point + 0.01 * torch.randn(2000, 5, generator=g, dtype=torch.float64)]).clamp(0, 1)
        others = others * (budget / others.sum(1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
        assert ((others - s).square().sum(1) >= (point - s).square().sum() - 1e-9).all()


def test_a_point_within_the_budget_stays():
    s = torch.tensor([0.2, 0.0, 0.5])
    assert nearest_within(s, 0.8).equal(s) and nearest_within(s + torch.tensor([0, -3, 0]), 0.8).equal(s)
    with pytest.raises(InputError, match="budget must be in"):
        nearest_within(s, -1.0)
