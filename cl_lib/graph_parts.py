"""Parts of a graph: nodes cut into groups of nearly one size along few edges, and what becomes of features in groups."""
import math
from collections import Counter

import numpy as np
import torch

from cl_lib import checks
from cl_lib.errors import InputError

DENSE_UP_TO = 400


def spectral_parts(n: int, edges: torch.Tensor, parts: int) -> torch.Tensor:
    """The part of each node, 0..parts - 1, by recursive spectral bisection: halves along few edges, then halves of these.

    A connected piece is ordered by the Fiedler vector of its normalised Laplacian, several pieces one after another from the
    largest; the order is cut so that both sides get nodes in proportion to the parts they are to become. Sizes therefore
    differ by few nodes. Random numbers have no share in it.
    Shapes: edges (2, m) both ways without loops -> (n,) int64. Stands in for METIS, which also refines the cuts.
    Source: Pothen, Simon and Liou 1990 (bisection). Raises: InputError unless 1 <= parts <= n.
    Cost: about 2 s for 2,700 nodes and 300 parts on one thread.
    """
    from scipy.sparse import coo_matrix

    _check(n, parts)
    low, high = edges.numpy()
    a = coo_matrix((np.ones(len(low)), (low, high)), shape=(n, n)).tocsr()
    out, todo, done = np.zeros(n, np.int64), [(np.arange(n), parts)], 0
    while todo:
        nodes, k = todo.pop()
        if k == 1 or len(nodes) == k:
            out[nodes] = done + (np.arange(k) if len(nodes) == k else 0)
            done += k
            continue
        nodes, first = nodes[_order(a[nodes][:, nodes])], k // 2
        at = min(max(round(len(nodes) * first / k), first), len(nodes) - (k - first))
        todo += [(nodes[at:], k - first), (nodes[:at], first)]
    return torch.from_numpy(out)


def refined(part: torch.Tensor, edges: torch.Tensor, *, slack: float = 0.3, sweeps: int = 20) -> torch.Tensor:
    """Move nodes, one at a time, into the part where most of their neighbours are, while sizes stay near the mean.

    A node moves when that lowers the number of edges between parts, its own part keeps at least (1 - slack) of the mean
    size and the new one at most (1 + slack) of it, both rounded outwards; nodes are visited by number until none moves, at
    most `sweeps` times. Shapes: part (n,), edges (2, m) both ways, sorted -> (n,). Cost: O(sweeps m), in plain Python.
    Raises: InputError for a slack outside [0, 1).
    """
    checks.fraction("slack", slack)
    part, size = part.tolist(), torch.bincount(part).tolist()
    mean = len(part) / len(size)
    least, most = max(1, math.floor((1 - slack) * mean)), math.ceil((1 + slack) * mean)
    degree = torch.bincount(edges[0], minlength=len(part)).tolist()
    around = [near.tolist() for near in edges[1].split(degree)]
    for _ in range(sweeps):
        moved = False
        for node, near in enumerate(around):
            own = part[node]
            if size[own] <= least or not near:
                continue
            count = Counter(part[other] for other in near)
            best = max((p for p in count if size[p] < most), key=lambda p: (count[p], -p), default=own)
            if count[best] > count[own]:
                part[node] = best
                size[own], size[best], moved = size[own] - 1, size[best] + 1, True
        if not moved:
            break
    return torch.tensor(part)


def random_parts(n: int, parts: int, g: torch.Generator) -> torch.Tensor:
    """The part of each node, 0..parts - 1, at random; sizes differ by at most one. Raises: InputError unless 1 <= parts <= n."""
    _check(n, parts)
    return (torch.arange(n) % parts)[torch.randperm(n, generator=g)]


def part_means(x: torch.Tensor, part: torch.Tensor, chosen: torch.Tensor | None = None) -> torch.Tensor:
    """The mean row of each part, of its `chosen` members alone where given.

    Shapes: x (n, f) dense, part (n,) int64, every number from 0 to its largest used, chosen (n,) bool -> (parts, f).
    Raises: InputError for shapes that do not agree, and for a part without (chosen) members.
    """
    checks.labels("part", part, len(x))
    if chosen is not None and (chosen.dtype != torch.bool or chosen.shape != part.shape):
        raise InputError(f"chosen must be bool of shape ({len(x)},), not {chosen.dtype} of {tuple(chosen.shape)}")
    parts = int(part.max()) + 1
    if chosen is not None:
        x, part = x[chosen], part[chosen]
    count = torch.bincount(part, minlength=parts)
    if not count.all():
        raise InputError(f"part {int((count == 0).nonzero()[0])} has no members")
    return x.new_zeros(parts, x.shape[1]).index_add_(0, part, x) / count[:, None].to(x.dtype)


def some_of_each(part: torch.Tensor, g: torch.Generator, *, share: float = 0.5) -> torch.Tensor:
    """A random share of each part's members, rounded down but at least one: part (n,) -> (n,) bool.

    Raises: InputError for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise InputError(f"share must be in (0, 1], not {share}")
    order = torch.randperm(len(part), generator=g)
    order = order[part[order].argsort(stable=True)]  # by part, in random order within each
    count = torch.bincount(part)
    rank = torch.arange(len(part)) - (count.cumsum(0) - count)[part[order]]
    keep = torch.zeros(len(part), dtype=torch.bool)
    keep[order] = rank < (share * count).floor().clamp(min=1)[part[order]]
    return keep


def _order(a):
    """Nodes of a sparse adjacency matrix such that neighbours stand near each other, connected pieces in one run each."""
    from scipy.sparse.csgraph import connected_components

    _, piece = connected_components(a, directed=False)
    size = np.bincount(piece)
    out = []
    for p in np.argsort(-size, kind="stable"):
        nodes = np.flatnonzero(piece == p)
        out.append(nodes[np.argsort(_fiedler(a[nodes][:, nodes]), kind="stable")] if len(nodes) > 2 else nodes)
    return np.concatenate(out)


def _fiedler(a) -> np.ndarray:
    """The second eigenvector of the normalised Laplacian of a connected graph, divided by the root of the degrees."""
    from scipy.linalg import eigh
    from scipy.sparse import diags, identity
    from scipy.sparse.linalg import eigsh

    scale = 1 / np.sqrt(np.asarray(a.sum(1)).ravel())
    laplacian = identity(a.shape[0]) - diags(scale) @ a @ diags(scale)
    if a.shape[0] <= DENSE_UP_TO:
        vector = eigh(laplacian.toarray(), subset_by_index=[1, 1])[1][:, 0]
    else:
        start = np.random.default_rng(0).standard_normal(a.shape[0])
        vector = eigsh(laplacian.tocsc(), k=2, sigma=-1e-3, v0=start)[1][:, 1]
    vector = vector * scale
    return vector * np.sign(vector[np.abs(vector).argmax()])  # an eigenvector has no sign of its own


def _check(n: int, parts: int) -> None:
    if not 1 <= parts <= n:
        raise InputError(f"parts must be in 1..{n}, the number of nodes, not {parts}")
