"""Graphs with several kinds of edges: parts of the real ones, neighbours along a meta-path, and simulated ones."""
from dataclasses import replace
from functools import lru_cache

import torch

from cl_lib import checks
from cl_lib.datasets.graph import HeterogeneousGraph, both_ways, heterogeneous
from cl_lib.errors import InputError, unknown


def induced(graph: HeterogeneousGraph, *, labels: int = 20, validation: int, test: int, seed: int = 0) -> HeterogeneousGraph:
    """The part of a graph on all training nodes of one public split and a random draw of its validation and test nodes.

    Nodes keep their order and are numbered anew; so are the nodes of other types, of which those stay that a kept node
    touches. Edges and relations stay where all their ends stay. `public` holds the one split `labels`, cut to the part.
    Raises: InputError for an unknown split, or where it has fewer validation or test nodes than asked for.
    """
    if labels not in graph.public:
        raise unknown("number of labels per class", labels, graph.public)
    split, g = graph.public[labels], torch.Generator().manual_seed(seed)
    kept = {"train": split["train"]}
    for part, n in (("validation", validation), ("test", test)):
        if not 1 <= n <= len(split[part]):
            raise InputError(f"{part} must be between 1 and {len(split[part])}, the nodes of that part, not {n}")
        kept[part] = split[part][torch.randperm(len(split[part]), generator=g)[:n]]
    nodes = torch.cat(list(kept.values())).unique()
    number = torch.full((len(graph.y),), -1)
    number[nodes] = torch.arange(len(nodes))
    metapaths = {k: number[e][:, (number[e] >= 0).all(0)] for k, e in graph.metapaths.items()}
    relations = {}
    for k, pairs in graph.relations.items():
        target, other = pairs[:, number[pairs[0]] >= 0]
        relations[k] = torch.stack([number[target], other.unique(return_inverse=True)[1]])
    return HeterogeneousGraph(graph.x[nodes], metapaths, relations, graph.y[nodes], graph.name,
                              {labels: {k: number[v].sort().values for k, v in kept.items()}})


@lru_cache
def part(name: str, *, labels: int = 20, validation: int, test: int, seed: int = 0, components: int | None = None) -> HeterogeneousGraph:
    """`induced` part of ACM or IMDB, kept in memory; with `components`, features are that many `principal` ones of the part."""
    graph = induced(heterogeneous(name), labels=labels, validation=validation, test=test, seed=seed)
    return graph if components is None else replace(graph, x=principal(graph.x, components))


def principal(x: torch.Tensor, d: int) -> torch.Tensor:
    """Scores on the first d principal components, divided by one number so that their mean square is 1.

    Shapes: x (n, f) -> (n, d). No label is used. Raises: InputError for d outside 1..min(n, f).
    """
    if not 1 <= d <= min(x.shape):
        raise InputError(f"d must be between 1 and {min(x.shape)}, not {d}")
    u, s, _ = torch.linalg.svd(x.double() - x.double().mean(0), full_matrices=False)
    scores = u[:, :d] * s[:d]
    return (scores / scores.square().mean().sqrt()).to(x.dtype)


def incidence(relation: torch.Tensor, n: int) -> torch.Tensor:
    """Pairs of a target node and a node of another type (2, r), to the matrix (n, others) with a 1 for each pair."""
    if not relation.numel():
        raise InputError("relation holds no pair")
    r = torch.zeros(n, int(relation[1].max()) + 1)
    r[relation[0], relation[1]] = 1
    return r


def pathsim(r: torch.Tensor) -> torch.Tensor:
    """PathSim of the meta-path target-other-target: 2 M_ij / (M_ii + M_jj), M = r r^T the number of paths.

    Shapes: r (n, others) >= 0 -> (n, n) in [0, 1], symmetric; 1 on the diagonal of nodes with a path, 0 for the others.
    Source: Sun et al., PathSim, VLDB 2011, Definition 4. Raises: InputError for a negative entry.
    """
    if (r < 0).any():
        raise InputError("r must not be negative")
    m = r @ r.T
    own = m.diagonal()
    return torch.nan_to_num(2 * m / (own[:, None] + own), nan=0.0)


def top_neighbours(s: torch.Tensor, k: int, g: torch.Generator) -> torch.Tensor:
    """The k most similar nodes of each node, itself among them, as a matrix of 0 and 1; equals are drawn anew in each row.

    Shapes: s (n, n) similarities -> (n, n), not symmetric; entries with similarity 0 are never taken, the diagonal always.
    Note: breaking ties by a node's number would tell its label where nodes are sorted by label, as in ACM.
    Raises: InputError for k outside 1..n.
    """
    if not 1 <= k <= len(s):
        raise InputError(f"k must be between 1 and {len(s)}, the number of nodes, not {k}")
    own = torch.eye(len(s), dtype=torch.bool)
    order = torch.rand(s.shape, generator=g).argsort(1)
    first = s.masked_fill(own, torch.inf).gather(1, order).sort(dim=1, descending=True, stable=True).indices[:, :k]
    a = torch.zeros_like(s).scatter(1, order.gather(1, first), 1.0)
    return a * ((s > 0) | own)


def multiplex_sbm(*, n: int = 600, redundant: bool = False, degree: float = 10, inside: float = 0.7, d: int = 32,
                  signal: float = 1.0, labels: int = 20, seed: int = 0) -> HeterogeneousGraph:
    """Nodes of 6 classes, 3 x 2, and two graphs on them: one sees the factor of 3, the other the factor of 2.

    With `redundant` both graphs see the class, each with edges of its own. A pair of nodes is joined independently of
    all others; a node has `degree` neighbours on average, the share `inside` of them in its own block. Features are
    Gaussian around one random mean a class, of length `signal`, in `d` dimensions, noise of unit variance in each.
    `public` has one split: `labels` a class to train, a fifth of the nodes for validation, the others for test.
    Raises: InputError for sizes too small, or a share or density outside (0, 1).
    """
    if n < 12 or not 0 < labels < n // 8:
        raise InputError(f"n must be at least 12 and labels between 1 and n / 8, not {n} and {labels}")
    checks.fraction("inside", inside)
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 6
    blocks = {"a": y, "b": y} if redundant else {"a": y // 2, "b": y % 2}
    metapaths = {}
    for name, block in blocks.items():
        same = block[:, None] == block
        share = same.float().mean()
        density = torch.where(same, degree * inside / (n * share), degree * (1 - inside) / (n * (1 - share)))
        if density.max() >= 1:
            raise InputError(f"degree {degree} is too much for blocks of {n} nodes")
        metapaths[name] = both_ways((torch.rand(n, n, generator=g) < density).triu(1).nonzero())
    means = torch.nn.functional.normalize(torch.randn(6, d, generator=g), dim=1) * signal
    order = torch.randperm(n, generator=g)
    train = torch.cat([order[y[order] == c][:labels] for c in range(6)])
    rest = order[~torch.isin(order, train)]
    split = {"train": train, "validation": rest[:n // 5], "test": rest[n // 5:]}
    return HeterogeneousGraph(means[y] + torch.randn(n, d, generator=g), metapaths, {}, y, "multiplex_sbm", {labels: split})


def stand_in(*, n: int = 60, seed: int = 0) -> HeterogeneousGraph:
    """A stand-in for ACM that needs no file, for tests and tier smoke alone: 3 classes, authors and subjects that prefer one.

    Never evidence: names, sizes and numbers are made up, only the shapes are those of `heterogeneous("acm")`.
    """
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3

    def others(m: int, each: int) -> torch.Tensor:
        """`each` partners out of m for each node, three of four from the third that its class prefers."""
        prefer = torch.rand(n, each, generator=g) < 0.75
        of = torch.where(prefer, y[:, None], torch.randint(3, (n, each), generator=g))
        partner = of + 3 * torch.randint(m // 3, (n, each), generator=g)
        return torch.stack([torch.arange(n).repeat_interleave(each), partner.flatten()]).unique(dim=1)

    relations = {"pa": others(3 * max(1, n // 6), 2), "ps": others(6, 1)}
    metapaths = {}
    for name, k in (("pap", "pa"), ("psp", "ps")):
        r = incidence(relations[k], n)
        metapaths[name] = both_ways((r @ r.T).nonzero())
    order = torch.randperm(n, generator=g)
    train = torch.cat([order[y[order] == c][:n // 12] for c in range(3)])
    rest = order[~torch.isin(order, train)]
    split = {"train": train, "validation": rest[:n // 5], "test": rest[n // 5:]}
    x = (torch.rand(n, 30, generator=g) < torch.where(torch.arange(30) % 3 == y[:, None], 0.4, 0.1)).float()
    return HeterogeneousGraph(x, metapaths, relations, y, "stand_in", {n // 12: split})
