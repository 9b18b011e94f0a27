"""Layers run by hand: an MLP as it is, and a GCN on the same weights against torch-geometric's."""
import pytest
import torch
from torch import nn

from cl_lib.encoders.graph import GCN, run_layers
from cl_lib.encoders.heads import mlp
from cl_lib.errors import InputError
from cl_lib.views.graph import gcn_matrix


def test_mlp_and_its_errors():
    layers = mlp(5, (7, 6, 3), seed=0)
    assert [type(m) for m in layers] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [m.out_features for m in layers if isinstance(m, nn.Linear)] == [7, 6, 3]
    assert layers[0].weight.equal(mlp(5, (7, 6, 3), seed=0)[0].weight) and not layers[0].weight.equal(mlp(5, (7,), seed=1)[0].weight)
    x = torch.randn(4, 5)
    torch.testing.assert_close(run_layers(layers, x), layers(x))
    torch.testing.assert_close(run_layers(layers, x.to_sparse_csr()), layers(x))
    for sizes in ((), (4, 0)):
        with pytest.raises(InputError, match="sizes"):
            mlp(5, sizes)


def test_a_gcn_on_the_same_weights():
    edges = torch.tensor([[0, 1], [1, 2], [2, 3], [0, 3], [4, 5]])
    edges = torch.cat([edges, edges.flip(1)]).T.unique(dim=1)
    layers, peer = mlp(5, (7, 3), seed=0), GCN(5, (7, 3), seed=1)
    linear = [m for m in layers if isinstance(m, nn.Linear)]
    for ours, theirs in zip(linear, peer.convolutions, strict=True):
        theirs.lin.weight.data, theirs.bias.data = ours.weight.data.clone(), ours.bias.data.clone()
    x = torch.randn(6, 5)
    a, b = run_layers(layers, x, gcn_matrix(edges, 6)), peer(x, edges)
    torch.testing.assert_close(a, b)
    a.square().sum().backward()
    b.square().sum().backward()
    for ours, theirs in zip(linear, peer.convolutions, strict=True):
        torch.testing.assert_close(ours.weight.grad, theirs.lin.weight.grad)
        torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)
