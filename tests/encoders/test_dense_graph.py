"""Graph convolutions on full matrices against the sparse ones of torch-geometric."""
import pytest
import torch

from cl_lib.datasets.graph import both_ways
from cl_lib.encoders.dense_graph import DenseGCN, adjacency
from cl_lib.encoders.graph import GCN, normalised
from cl_lib.errors import InputError

G = torch.Generator().manual_seed(0)
EDGES = both_ways(torch.randint(9, (14, 2), generator=G))


def test_equals_the_sparse_encoder_with_gradients():
    half = torch.rand(81, generator=G, dtype=torch.float64).view(9, 9)
    weight = (half + half.T)[EDGES[0], EDGES[1]].requires_grad_()
    x = torch.randn(9, 5, generator=G, dtype=torch.float64, requires_grad=True)
    sparse, dense = GCN(5, (7, 3), seed=1).double(), DenseGCN(5, (7, 3), seed=2).double()
    with torch.no_grad():
        for i, convolution in enumerate(sparse.convolutions):
            dense.weights[i].copy_(convolution.lin.weight.T)
            convolution.bias.normal_(generator=G)
            dense.biases[i].copy_(convolution.bias)
    ours = dense(x, normalised(adjacency(EDGES, 9, weight)))
    theirs = sparse(x, EDGES, weight)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    probe = torch.randn(9, 3, generator=G, dtype=torch.float64)
    for a, b in zip(torch.autograd.grad((ours * probe).sum(), (x, weight)), torch.autograd.grad((theirs * probe).sum(), (x, weight)), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


def test_several_views_at_once_are_the_views_one_by_one():
    a = torch.stack([normalised(m) for m in torch.rand(3, 6, 6, generator=G)])
    x, net = torch.randn(6, 4, generator=G), DenseGCN(4, (5, 2), seed=0)
    assert torch.allclose(net(x, a), torch.stack([net(x, m) for m in a]), atol=1e-6)
    assert torch.allclose(net(torch.stack([x, 2 * x, x]), a)[1], net(2 * x, a[1]), atol=1e-6)


def test_dropout_between_layers_alone_and_weights_from_the_seed():
    x, a = torch.randn(6, 4, generator=G), torch.eye(6)
    one = DenseGCN(4, (2,), dropout=0.9, seed=0)
    assert torch.equal(one.train()(x, a), one.eval()(x, a))
    two = DenseGCN(4, (8, 2), dropout=0.5, seed=0)
    torch.manual_seed(0)
    assert not torch.equal(two.train()(x, a), two.eval()(x, a))
    assert torch.equal(two.weights[0], DenseGCN(4, (8, 2), seed=0).weights[0])


@pytest.mark.parametrize("bad", [lambda: DenseGCN(3, ()), lambda: DenseGCN(3, (0,)), lambda: DenseGCN(3, (2,), dropout=1.0)])
def test_bad_arguments(bad):
    with pytest.raises(InputError):
        bad()
