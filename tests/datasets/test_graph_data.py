"""Graphs: what the sets hold, as their papers count it."""
import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from cl_lib.datasets import graph
from cl_lib.datasets.graph import both_ways, heterogeneous, planetoid, webkb
from cl_lib.datasets.sources import DataError, available
from cl_lib.errors import InputError


def proper(edges, n):
    """Whether edges are in both directions, each once, without loops, sorted, and inside the graph."""
    pairs = list(map(tuple, edges.T.tolist()))
    return (edges.dtype == torch.int64 and pairs == sorted(set(pairs)) and {(j, i) for i, j in pairs} == set(pairs)
            and all(i != j for i, j in pairs) and 0 <= edges.min() and edges.max() < n)


def need(name):
    if not available(graph.FILES[name]):
        pytest.skip(f"{graph.FILES[name].name} is not at hand; a folder that holds graphs/{graph.FILES[name].name} can be named in CL_DATA")


def homophily(g):
    return (g.y[g.edges[0]] == g.y[g.edges[1]]).float().mean().item()


@pytest.mark.parametrize(("name", "nodes", "words", "classes", "links"), [
    ("cora", 2708, 1433, 7, 5278), ("citeseer", 3327, 3703, 6, 4552)])
def test_citation_graphs(name, nodes, words, classes, links):
    g = planetoid(name)
    assert g.x.shape == (nodes, words) and g.x.dtype == torch.float32 and g.name == name
    assert set(g.x.unique().tolist()) == {0.0, 1.0}
    assert proper(g.edges, nodes) and g.edges.shape == (2, 2 * links)
    assert g.y.dtype == torch.int64 and set(g.y.tolist()) - {-1} == set(range(classes))
    lost = g.y == -1
    assert int(lost.sum()) == (15 if name == "citeseer" else 0)
    assert not g.x[lost].any()
    train, validation, test = (g.public[p] for p in ("train", "validation", "test"))
    assert g.y[train].bincount().tolist() == [20] * classes
    assert len(validation) == 500 and len(test) == 1000 and (g.y[torch.cat([train, validation, test])] >= 0).all()
    assert len(torch.cat([train, validation, test]).unique()) == 20 * classes + 1500
    assert 0.7 < homophily(g) < 0.85
    assert planetoid(name) is g


@pytest.mark.parametrize(("name", "nodes", "links"), [("cornell", 183, 277), ("texas", 183, 279), ("wisconsin", 251, 450)])
def test_web_pages(name, nodes, links):
    need(name)
    g = webkb(name)
    assert g.x.shape == (nodes, 1703) and set(g.y.tolist()) == set(range(5)) and g.public == {}
    assert proper(g.edges, nodes) and g.edges.shape[1] == 2 * links
    assert homophily(g) < 0.25


@pytest.mark.parametrize(("name", "nodes", "classes"), [("acm", 4019, 3), ("imdb", 4275, 3)])
def test_several_kinds_of_edges(name, nodes, classes):
    need(name)
    g = heterogeneous(name)
    assert len(g.x) == nodes and torch.isfinite(g.x).all() and set(g.y.tolist()) == set(range(classes))
    assert tuple(g.metapaths) == graph.HETEROGENEOUS[name]
    # the meta-paths that stand for one relation there and back are just that
    for path, edges in g.metapaths.items():
        assert len(edges) == 2 and (edges[0] != edges[1]).all() and 0 <= edges.min() and edges.max() < nodes
        relation = g.relations.get(path[:2])
        assert relation is not None and relation.shape[0] == 2 and relation[0].max() < nodes
        shared = csr_array((torch.ones(relation.shape[1]), relation), shape=(nodes, int(relation[1].max()) + 1))
        assert edges.equal(both_ways(np.stack((shared @ shared.T).nonzero(), axis=1)))
    for count, split in g.public.items():
        assert g.y[split["train"]].bincount().tolist() == [count] * classes
        parts = [set(part.tolist()) for part in split.values()]
        assert len(set.union(*parts)) == sum(map(len, parts)) and len(parts[1]) == len(parts[2]) == 1000
        assert len(split["train"]) - len(parts[0]) <= (5 if name == "imdb" else 0)


def test_pairs_become_edges_both_ways():
    edges = both_ways(torch.tensor([[2, 1], [1, 2], [0, 3], [1, 1], [0, 3], [2, 0]]))
    assert edges.tolist() == [[0, 0, 1, 2, 2, 3], [2, 3, 2, 0, 1, 0]]
    assert both_ways(torch.zeros(0, 2)).shape == (2, 0) and both_ways(torch.tensor([[4, 4]])).shape == (2, 0)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: planetoid("coral"), "unknown graph 'coral'; did you mean 'cora'"),
    (lambda: webkb("texaz"), "did you mean 'texas'"), (lambda: heterogeneous("dblp"), "unknown heterogeneous graph 'dblp'")])
def test_unknown_names(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_set_that_is_not_there_says_where_it_comes_from(monkeypatch):
    monkeypatch.delenv("CL_DATA", raising=False)
    with pytest.raises(DataError, match="geom-gcn.*CL_DATA"):
        webkb.__wrapped__("texas")
