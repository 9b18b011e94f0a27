"""Parts of heterogeneous graphs, PathSim against its definition, simulated multiplex graphs."""
import pytest
import torch

from cl_lib.datasets.graph import heterogeneous
from cl_lib.datasets.multiplex import (incidence, induced, multiplex_sbm, part, pathsim, principal, stand_in,
                                       top_neighbours)
from cl_lib.datasets.sources import DataError
from cl_lib.errors import InputError


def pairs(edges):
    return set(map(tuple, edges.T.tolist()))


def test_induced_keeps_the_training_nodes_and_what_lies_between_kept_nodes():
    graph = stand_in(n=48)
    (labels, split), = graph.public.items()
    cut = induced(graph, labels=labels, validation=5, test=9, seed=3)
    assert {k: len(v) for k, v in cut.public[labels].items()} == {"train": len(split["train"]), "validation": 5, "test": 9}
    kept = [i for i in range(48) if any(torch.equal(graph.x[i], row) for row in cut.x)]
    # find the old numbers through a feature that names the node
    named = induced(type(graph)(torch.arange(48.0)[:, None], *[getattr(graph, f) for f in ("metapaths", "relations", "y", "name", "public")]),
                    labels=labels, validation=5, test=9, seed=3)
    old = named.x[:, 0].long()
    assert set(old.tolist()) <= set(kept)
    assert torch.equal(cut.y, graph.y[old]) and torch.equal(cut.x, graph.x[old])
    for k in ("train", "validation", "test"):
        assert set(old[cut.public[labels][k]].tolist()) <= set(split[k].tolist())
    assert set(old[cut.public[labels]["train"]].tolist()) == set(split["train"].tolist())
    for path, edges in graph.metapaths.items():
        here = set(old.tolist())
        assert {(int(old[i]), int(old[j])) for i, j in pairs(cut.metapaths[path])} == {
            (i, j) for i, j in pairs(edges) if i in here and j in here}
    for k, r in graph.relations.items():
        # two kept nodes share a partner exactly when they did before
        new = incidence(cut.relations[k], len(old))
        assert torch.equal(new @ new.T, (lambda m: m @ m.T)(incidence(r, 48)[old])) and (new.sum(0) > 0).all()
    again = induced(graph, labels=labels, validation=5, test=9, seed=3)
    assert torch.equal(again.x, cut.x) and all(torch.equal(again.metapaths[k], v) for k, v in cut.metapaths.items())


def test_induced_names_what_is_wrong():
    with pytest.raises(InputError, match="labels per class"):
        induced(stand_in(), labels=77, validation=1, test=1)
    with pytest.raises(InputError, match="test must be between"):
        induced(stand_in(), labels=5, validation=1, test=1000)


def test_part_of_acm():
    try:
        graph = heterogeneous("acm")
    except DataError as missing:
        pytest.skip(str(missing))
    cut = part("acm", validation=40, test=100, components=16)
    assert cut.x.shape == (200, 16) and len(cut.public[20]["train"]) == 60
    assert cut.y[cut.public[20]["train"]].bincount().tolist() == [20, 20, 20]
    assert part("acm", validation=40, test=100, components=16) is cut
    assert cut.metapaths["psp"].shape[1] < graph.metapaths["psp"].shape[1] / 100
    # the meta-paths that come with the data are those of its relations
    m = incidence(cut.relations["pa"], 200)
    assert pairs(cut.metapaths["pap"]) == {(i, j) for i, j in (m @ m.T).nonzero().tolist() if i != j}


def test_principal_components_keep_distances():
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ torch.randn(
        4, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = principal(x, 4)
    ratio = torch.pdist(z) / torch.pdist(x)
    assert torch.allclose(ratio, ratio[0].expand_as(ratio)) and torch.allclose(z.square().mean(), torch.tensor(1.0, dtype=z.dtype))
    assert (z.square().sum(0).diff() < 0).all()
    with pytest.raises(InputError, match="d must be between"):
        principal(x, 10)


def test_pathsim_counts_paths():
    r = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]], dtype=torch.float64)
    s = pathsim(r)
    for i in range(4):
        for j in range(4):
            paths = [sum(r[a, u] * r[b, u] for u in range(3)) for a, b in ((i, j), (i, i), (j, j))]
            assert s[i, j] == (2 * paths[0] / (paths[1] + paths[2]) if paths[1] + paths[2] else 0)
    assert s.diagonal().tolist() == [1, 1, 1, 0] and torch.equal(s, s.T) and s.max() <= 1
    with pytest.raises(InputError, match="negative"):
        pathsim(-r)


def test_top_neighbours_are_the_most_similar_and_ties_are_drawn():
    g = torch.Generator().manual_seed(0)
    s = torch.rand(12, 12, generator=g)
    a = top_neighbours(s, 4, g)
    assert (a.diagonal() == 1).all() and (a.sum(1) == 4).all()
    others = s.masked_fill(torch.eye(12, dtype=torch.bool), -1)
    for i in range(12):
        taken = (a[i] > 0) & (torch.arange(12) != i)
        assert others[i][taken].min() > others[i][~taken].max()
    assert (top_neighbours(torch.zeros(5, 5), 3, g) == torch.eye(5)).all()
    ties = torch.ones(40, 40)
    drawn = sum(top_neighbours(ties, 5, g) for _ in range(50))
    taken = drawn.fill_diagonal_(0).sum(0)
    assert 0.9 < taken[:20].sum() / taken[20:].sum() < 1.1  # neither low nor high numbers are preferred
    with pytest.raises(InputError, match="k must be"):
        top_neighbours(s, 13, g)


@pytest.mark.parametrize("redundant", [False, True])
def test_multiplex_sbm_hides_in_each_graph_what_it_says(redundant):
    graph = multiplex_sbm(n=600, redundant=redundant, degree=12, inside=0.75, seed=1)
    blocks = {"a": graph.y, "b": graph.y} if redundant else {"a": graph.y // 2, "b": graph.y % 2}
    for name, edges in graph.metapaths.items():
        assert abs(edges.shape[1] / 600 - 12) < 1
        own = blocks[name]
        assert abs((own[edges[0]] == own[edges[1]]).float().mean() - 0.75) < 0.03
    if not redundant:  # the other factor is at chance
        edges = graph.metapaths["a"]
        assert abs((graph.y[edges[0]] % 2 == graph.y[edges[1]] % 2).float().mean() - 0.5) < 0.03
    split = graph.public[20]
    assert torch.cat(list(split.values())).sort().values.equal(torch.arange(600))
    assert graph.y[split["train"]].bincount().tolist() == [20] * 6
    assert torch.equal(multiplex_sbm(n=600, redundant=redundant, seed=5).x, multiplex_sbm(n=600, redundant=redundant, seed=5).x)


def test_multiplex_sbm_names_what_is_wrong():
    with pytest.raises(InputError, match="n must be at least"):
        multiplex_sbm(n=8)
    with pytest.raises(InputError, match="too much"):
        multiplex_sbm(n=60, degree=50, labels=2)


def test_stand_in_has_the_shapes_of_acm():
    graph = stand_in(n=60)
    assert graph.name == "stand_in" and set(graph.relations) == {"pa", "ps"} and set(graph.metapaths) == {"pap", "psp"}
    assert graph.relations["ps"].shape[1] == 60 and set(graph.public[5]) == {"train", "validation", "test"}
    edges = graph.metapaths["pap"]
    assert (graph.y[edges[0]] == graph.y[edges[1]]).float().mean() > 0.5
