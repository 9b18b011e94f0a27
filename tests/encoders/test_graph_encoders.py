"""GCN: the dense formula, weights on edges, sparse features, seeds."""
import warnings

import pytest
import torch
from torch import nn

from cl_lib.encoders.graph import GCN, degrees, normalised, sparse, spread, symmetric_product
from cl_lib.errors import InputError


def graph(n=9, seed=0):
    """Features, edges both ways (node n - 1 has none), their weights, and the same as a dense matrix; float64."""
    g = torch.Generator().manual_seed(seed)
    a = torch.rand(n, n, generator=g, dtype=torch.float64).triu(1) * (torch.rand(n, n, generator=g) < 0.4)
    a[:, -1] = 0
    a = a + a.T
    edges = a.nonzero().T
    x = torch.randn(n, 6, generator=g, dtype=torch.float64) * (torch.rand(n, 6, generator=g) < 0.5)
    return x, edges, a[edges[0], edges[1]], a


def formula(net, x, a, activation, last):
    """Kipf and Welling's layers with every entry of the matrix written out."""
    n = len(a)
    d = [1 + sum(a[i, j] for j in range(n)) for i in range(n)]
    for i, layer in enumerate(net.convolutions):
        h = x @ layer.lin.weight.T
        x = torch.stack([sum((a[u, v] + (u == v)) / (d[u] * d[v]) ** 0.5 * h[v] for v in range(n)) for u in range(n)]) + layer.bias
        if last or i < len(net.convolutions) - 1:
            x = activation(x)
    return x


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_gcn_is_its_formula(last, weighted):
    x, edges, weight, a = graph()
    net = GCN(6, (5, 4, 3), last=last, seed=0).double()
    for p in net.parameters():  # biases too, which start at zero
        p.data += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()), dtype=p.dtype)
    a = a if weighted else (a > 0).double()
    expected = formula(net, x, a, torch.relu, last)
    torch.testing.assert_close(net(x, edges, weight if weighted else None), expected)
    torch.testing.assert_close(net.dense(x, normalised(a)), expected)
    torch.testing.assert_close(net(sparse(x), edges, weight if weighted else None), expected)
    assert net.dim == 3 and expected.shape == (9, 3)


def test_gradients_reach_features_and_weights_of_edges():
    x, edges, weight, _ = graph()
    net = GCN(6, (4, 3), activation=nn.Tanh, seed=0).double()
    x.requires_grad_(), weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: net(x, edges, w), (x, weight))
    a = graph()[3].requires_grad_()
    assert torch.autograd.gradcheck(lambda x, a: net.dense(x, normalised(a)), (x, a))


def test_sparse_features_give_the_same_gradients():
    x, edges, _, _ = graph()
    net, grads = GCN(6, (5, 3), last=True, seed=0).double(), []
    for features in (x, sparse(x)):
        net.zero_grad()
        net(features, edges).square().sum().backward()
        grads.append([p.grad.clone() for p in net.parameters()])
    for dense, thin in zip(*grads, strict=True):
        torch.testing.assert_close(dense, thin)


def test_nodes_may_be_renamed_and_a_lone_node_sees_itself_alone():
    x, edges, _, _ = graph()
    net = GCN(6, (5, 3), seed=0).double()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net(x[order], order.argsort()[edges]), net(x, edges)[order])
    changed = x.clone()
    changed[:-1] += 1
    torch.testing.assert_close(net(changed, edges)[-1], net(x, edges)[-1])
    torch.testing.assert_close(net(x[-1:], torch.zeros(2, 0, dtype=torch.long)), net(x, edges)[-1:])


def test_first_weights_come_from_the_seed_alone():
    state = torch.get_rng_state()
    a, b, c = ([p.detach() for p in GCN(6, (5, 5), seed=s).parameters()] for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.equal(q) for p, q in zip(a, b, strict=True)) and not a[1].equal(c[1])


def test_a_prelu_of_each_layer_has_a_slope_of_its_own():
    net = GCN(6, (5, 4, 3), activation=nn.PReLU, last=True, seed=0)
    assert len(net.activations) == 3 and len({id(p) for p in net.activations.parameters()}) == 3


def test_no_warnings_are_left_in_notebooks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GCN(6, (3,), seed=0)
        sparse(torch.eye(3))


@pytest.mark.parametrize(("d_in", "sizes"), [(6, ()), (0, (3,)), (6, (3, 0))])
def test_bad_sizes_are_named(d_in, sizes):
    with pytest.raises(InputError, match="must be at least 1"):
        GCN(d_in, sizes)


def test_normalised_is_its_definition():
    a = torch.tensor([[0, 2.0, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.float64)  # not symmetric, and the last node has no edge
    b = a + torch.eye(3, dtype=a.dtype)
    for i in range(3):
        for j in range(3):
            assert normalised(a)[i, j] == pytest.approx(float(b[i, j] / (b[i].sum() * b[j].sum()) ** 0.5), abs=1e-15)
    weight = torch.rand(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: normalised(w * (1 - torch.eye(5, dtype=w.dtype))), weight)


def test_spread_is_what_a_gcn_multiplies_by():
    _, edges, _, a = graph()
    n = len(a)
    d = degrees(edges, n, torch.float64)
    assert d.tolist() == [1 + int((row > 0).sum()) for row in a]
    torch.testing.assert_close(spread(edges, d.rsqrt()).to_dense(), normalised((a > 0).double()))
    torch.testing.assert_close(spread(edges, d).to_dense(), ((a > 0) + torch.eye(n)) * d[:, None] * d)


def test_symmetric_product_has_the_gradient_of_the_product():
    _, edges, _, a = graph()
    m = torch.randn(9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    thin = spread(edges, degrees(edges, 9, torch.float64).rsqrt())
    for matrix in (thin, thin.to_dense()):
        torch.testing.assert_close(symmetric_product(matrix, m), thin.to_dense() @ m)
        assert torch.autograd.gradcheck(lambda m, matrix=matrix: symmetric_product(matrix, m).sin(), m)
