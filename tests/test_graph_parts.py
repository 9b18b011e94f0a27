"""Parts of a graph: sizes, edges cut, means against loops, members drawn, and what is refused."""
import pytest
import torch

from cl_lib.datasets.graph import both_ways, planetoid
from cl_lib.errors import InputError
from cl_lib.graph_parts import part_means, random_parts, refined, some_of_each, spectral_parts
from cl_lib.training import generator


def cut(part, edges):
    return (part[edges[0]] != part[edges[1]]).float().mean().item()


def rings(count, size):
    """Complete groups, joined in a chain by one edge each."""
    pairs = [(g * size + i, g * size + j) for g in range(count) for i in range(size) for j in range(i)]
    return count * size, both_ways(torch.tensor(pairs + [(g * size, g * size + size + 1) for g in range(count - 1)]))


def test_finds_groups_that_are_there():
    n, edges = rings(8, 6)
    part = spectral_parts(n, edges, 8)
    assert torch.bincount(part).tolist() == [6] * 8
    assert all(len(part[6 * g:6 * g + 6].unique()) == 1 for g in range(8))


@pytest.mark.parametrize("parts", [1, 2, 7, 50, 300])
def test_sizes_on_cora(parts):
    g = planetoid("cora")
    size = torch.bincount(spectral_parts(len(g.x), g.edges, parts), minlength=parts)
    mean = len(g.x) / parts
    assert len(size) == parts and mean - 2 < size.min() and size.max() < mean + 2


def test_every_node_alone_and_nodes_without_edges():
    n, edges = rings(3, 4)
    assert spectral_parts(n, edges, n).sort().values.tolist() == list(range(n))
    part = spectral_parts(n + 5, edges, 4)  # five nodes have no edge
    assert torch.bincount(part, minlength=4).min() >= 3


def test_cuts_fewer_edges_than_chance_and_refining_fewer_still():
    g = planetoid("cora")
    n = len(g.x)
    spectral = spectral_parts(n, g.edges, 100)
    better = refined(spectral, g.edges, slack=0.5)
    assert torch.equal(spectral, spectral_parts(n, g.edges, 100))
    assert cut(better, g.edges) < cut(spectral, g.edges) - 0.03 < cut(random_parts(n, 100, generator(0)), g.edges) / 2
    size = torch.bincount(better)
    assert len(size) == 100 and size.min() >= 13 and size.max() <= 41
    assert torch.equal(refined(spectral, g.edges, slack=0.0, sweeps=0), spectral)


def test_random_parts_are_balanced_and_seeded():
    part = random_parts(103, 10, generator(1))
    assert sorted(torch.bincount(part).tolist()) == [10] * 7 + [11] * 3
    assert torch.equal(part, random_parts(103, 10, generator(1))) and not torch.equal(part, random_parts(103, 10, generator(2)))


def test_means_and_members():
    x, part = torch.randn(40, 3, dtype=torch.float64, generator=generator(0)), random_parts(40, 6, generator(0))
    assert torch.allclose(part_means(x, part), torch.stack([x[part == p].mean(0) for p in range(6)]))
    keep = some_of_each(part, generator(3))
    assert torch.bincount(part[keep]).tolist() == (torch.bincount(part) // 2).tolist()
    assert torch.allclose(part_means(x, part, keep), torch.stack([x[(part == p) & keep].mean(0) for p in range(6)]))
    assert not torch.equal(keep, some_of_each(part, generator(4)))
    assert some_of_each(torch.arange(5), generator(0)).all()  # a node alone stays
    share = torch.stack([some_of_each(part, generator(i)) for i in range(400)]).float().mean(0)
    assert (share - (torch.bincount(part) // 2 / torch.bincount(part))[part]).abs().max() < 0.1


def test_refuses():
    n, edges = rings(2, 3)
    with pytest.raises(InputError, match="parts must be in 1..6"):
        spectral_parts(n, edges, 7)
    with pytest.raises(InputError, match="parts must be in 1..6"):
        random_parts(n, 0, generator(0))
    with pytest.raises(InputError, match="part 1 has no members"):
        part_means(torch.randn(3, 2), torch.tensor([0, 2, 2]))
    with pytest.raises(InputError, match="chosen must be bool"):
        part_means(torch.randn(3, 2), torch.tensor([0, 1, 1]), torch.ones(3))
    with pytest.raises(InputError, match="share"):
        some_of_each(torch.arange(3), generator(0), share=0.0)
    with pytest.raises(InputError, match="slack"):
        refined(torch.arange(3), edges, slack=1.0)
