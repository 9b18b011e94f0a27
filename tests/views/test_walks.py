"""Edges added, walks and the matrix of a GCN, against dense matrices."""
import pytest
import torch

from cl_lib.errors import InputError
from cl_lib.views.graph import add_edges, gcn_matrix, propagation

PAIRS = torch.tensor([[0, 1], [1, 2], [2, 3], [0, 3], [4, 5]])
EDGES = torch.cat([PAIRS, PAIRS.flip(1)]).T.unique(dim=1)
N = 7  # node 6 stands alone


def dense():
    a = torch.eye(N, dtype=torch.float64)
    a[EDGES[0], EDGES[1]] = 1
    return a


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("cumulative", [False, True])
def test_walks_are_powers(order, cumulative):
    p = dense() / dense().sum(1, keepdim=True)
    expected = sum(torch.linalg.matrix_power(p, s) for s in (range(1, order + 1) if cumulative else [order]))
    edges, weight = propagation(EDGES, N, order=order, cumulative=cumulative)
    torch.testing.assert_close(torch.zeros(N, N, dtype=torch.float64).index_put(tuple(edges), weight), expected, rtol=0, atol=1e-14)
    assert (weight > 0).all() and edges.equal(edges.unique(dim=1)) and edges.dtype == torch.long
    with pytest.raises(InputError, match="order"):
        propagation(EDGES, N, order=0)


def test_gcn_matrix():
    a = dense()
    d = a.sum(1).rsqrt()
    torch.testing.assert_close(gcn_matrix(EDGES, N).to_dense(), (d[:, None] * a * d).float())


def test_added_edges_are_new_and_as_many_as_asked():
    many = torch.combinations(torch.arange(40))[::7]
    edges = torch.cat([many, many.flip(1)]).T.unique(dim=1)
    for share in (0.0, 0.3, 2.0):
        more = add_edges(edges, torch.Generator().manual_seed(0), n=40, share=share)
        assert more.shape[1] == edges.shape[1] + 2 * round(share * edges.shape[1] / 2)
        assert more.equal(more.unique(dim=1)) and (more[0] != more[1]).all() and more.flip(0).unique(dim=1).equal(more)
        kept = {tuple(e) for e in edges.T.tolist()} <= {tuple(e) for e in more.T.tolist()}
        assert kept and more.equal(add_edges(edges, torch.Generator().manual_seed(0), n=40, share=share))
    assert not more.equal(add_edges(edges, torch.Generator().manual_seed(1), n=40, share=2.0))
    for share in (-0.5, 50.0):
        with pytest.raises(InputError, match="share"):
            add_edges(edges, torch.Generator(), n=40, share=share)
