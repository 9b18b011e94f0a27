import pytest
import torch

from cl_lib.datasets.graph import digits, knn_graph
from cl_lib.errors import InputError


def test_nearest_neighbours_both_ways():
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    near = torch.cdist(x, x).fill_diagonal_(torch.inf).topk(4, largest=False).indices
    joined = torch.zeros(30, 30, dtype=torch.bool)
    joined[torch.arange(30)[:, None], near] = True
    assert knn_graph(x, 4).equal(torch.nonzero(joined | joined.T).T)
    for k in (0, 30):
        with pytest.raises(InputError, match="k must be"):
            knn_graph(x, k)


def test_digits():
    graph = digits()
    assert graph.x.shape == (1797, 64) and graph.x.min() == 0 and graph.x.max() == 1
    assert graph.y.bincount().min() > 170 and len(graph.y.unique()) == 10
    degree = graph.edges[0].bincount(minlength=1797)
    assert degree.min() >= 3 and (graph.y[graph.edges[0]] == graph.y[graph.edges[1]]).float().mean() > 0.95
