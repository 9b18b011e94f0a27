"""GRACE on a graph: its loss as the paper writes it, its views, and that what replaces its loss changes nothing else."""
import math

import pytest
import torch
from torch import nn

from cl_lib.datasets.graph import planetoid
from cl_lib.encoders.graph import sparse
from cl_lib.errors import InputError
from cl_lib.evaluation.nodes import node_accuracy
from cl_lib.graph_contrast import Grace, contrast, grace, two_views


def small(n=12, f=30, seed=0):
    g = torch.Generator().manual_seed(seed)
    a = (torch.rand(n, n, generator=g) < 0.3).triu(1)
    return (torch.rand(n, f, generator=g) < 0.3).float(), (a | a.T).nonzero().T


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_loss_is_that_of_the_paper_written_as_loops():
    x, edges = small()
    model = Grace(30, (8, 5), seed=0).double()
    first, second = two_views(x.double(), edges, torch.Generator().manual_seed(1))
    nodes, tau = torch.tensor([7, 2, 9, 4]), 0.4
    u, v = (z.detach() / z.detach().norm(dim=1, keepdim=True) for z in (model(*first)[nodes], model(*second)[nodes]))

    def term(u, v, i):
        between, within = (sum(math.exp(u[i] @ w[k] / tau) for k in range(4) if w is v or k != i) for w in (v, u))
        return -math.log(math.exp(u[i] @ v[i] / tau) / (between + within))

    expected = sum(term(u, v, i) + term(v, u, i) for i in range(4)) / 8
    assert contrast(model, first, second, nodes, tau=tau).item() == pytest.approx(expected, abs=1e-12)


def test_two_views_have_rates_of_their_own():
    x, edges = torch.ones(40, 4000), torch.ones(40, 40).triu(1)
    edges = (edges + edges.T).nonzero().T
    (x1, e1), (x2, e2) = two_views(x, edges, torch.Generator().manual_seed(0), edge_drops=(0.1, 0.6), feature_masks=(0.2, 0.5))
    assert abs((x1 == 0).float().mean() - 0.2) < 0.04 and abs((x2 == 0).float().mean() - 0.5) < 0.04
    assert abs(e1.shape[1] / edges.shape[1] - 0.9) < 0.06 and abs(e2.shape[1] / edges.shape[1] - 0.4) < 0.09


def test_another_objective_meets_the_same_weights_views_and_nodes():
    x, edges = small()
    own, met = torch.Generator().manual_seed(9), []

    def objective(model, first, second, nodes):
        torch.rand(3, generator=own)
        met.append(nodes)
        return contrast(model, first, second, nodes, tau=0.3)

    state = torch.get_rng_state()
    settings = dict(seed=3, steps=5, tau=0.3, nodes=6, sizes=(8, 5))
    plain, replaced, other = (grace(x, edges, **settings), grace(x, edges, objective=objective, **settings),
                              grace(x, edges, **{**settings, "seed": 4}))
    assert weights(plain).equal(weights(replaced)) and not weights(plain).equal(weights(other))
    assert torch.get_rng_state().equal(state)
    assert all(len(m) == len(m.unique()) == 6 for m in met) and not met[0].equal(met[1])
    assert weights(grace(sparse(x), edges, **settings)).allclose(weights(plain), atol=1e-5)
    assert plain.embed(x, edges).equal(plain.encoder(x, edges)) and not plain.embed(x, edges).requires_grad


def test_head_and_activation_are_those_asked_for():
    model = Grace(30, (8, 5), activation=nn.PReLU, seed=0)
    kinds = [type(m) for m in (*model.encoder.activations, *model.head)]
    assert kinds == [nn.PReLU, nn.PReLU, nn.Linear, nn.ELU, nn.Linear]
    assert [m.weight.shape for m in (model.head[0], model.head[2])] == [(5, 5), (5, 5)]


def test_it_learns_topics_of_papers():
    g = planetoid("cora")
    untrained = Grace(g.x.shape[1], seed=0).embed(g.x, g.edges)
    trained = grace(g.x, g.edges, seed=0, steps=25, nodes=300).embed(g.x, g.edges)
    before, after = (node_accuracy(h, g.y, [g.public]) for h in (untrained, trained))
    assert before < 0.6 and after > before + 0.1


@pytest.mark.parametrize("nodes", [0, 1, 13])
def test_bad_numbers_of_nodes_are_named(nodes):
    with pytest.raises(InputError, match=r"nodes must be in 2..12"):
        grace(*small(), seed=0, steps=1, nodes=nodes)
