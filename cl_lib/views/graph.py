"""Views of a graph: edges dropped, added or flipped, features hidden, drawn from a Generator on the data's device; powers of it."""
import warnings

import numpy as np
import torch

from cl_lib import checks
from cl_lib.errors import InputError


def drop_edges(edges: torch.Tensor, g: torch.Generator, *, p: float) -> torch.Tensor:
    """Leave each edge out with probability p, both of its directions together.

    Shapes: edges (2, m) int64, each edge in both directions -> (2, m'), order kept. Raises: InputError for p outside [0, 1).
    Source: 2006.04131 Section 3.2.1 (removing edges). Note: their code draws the two directions apart.
    """
    checks.fraction("p", p)
    if not edges.numel():
        return edges
    low, high = edges.aminmax(dim=0)
    pair, index = (low * (edges.max() + 1) + high).unique(return_inverse=True)
    keep = torch.rand(len(pair), generator=g, device=edges.device) >= p
    return edges[:, keep[index]]


def mask_features(x: torch.Tensor, g: torch.Generator, *, p: float) -> torch.Tensor:
    """Set each feature to zero with probability p, for all nodes alike.

    Shapes: x (n, f), dense or sparse (CSR) -> (n, f), a new tensor of the same kind. Raises: InputError for p outside [0, 1).
    Source: 2006.04131 Section 3.2.1 (masking node features).
    """
    checks.fraction("p", p)
    keep = (torch.rand(x.shape[1], generator=g, device=x.device) >= p).to(x.dtype)
    if x.layout == torch.sparse_csr:
        columns = x.col_indices()
        return torch.sparse_csr_tensor(x.crow_indices(), columns, x.values() * keep[columns], x.shape, check_invariants=False)
    return x * keep


def induced(nodes: torch.Tensor, edges: torch.Tensor, n: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The edges among some of n nodes as a dense adjacency matrix.

    Shapes: nodes (m,) different indices, edges (2, k) -> (m, m) of zeros and ones, nodes in the order given.
    """
    place = torch.full((n,), -1, device=edges.device)
    place[nodes] = torch.arange(len(nodes), device=edges.device)
    row, column = place[edges][:, (place[edges] >= 0).all(0)]
    a = torch.zeros(len(nodes), len(nodes), dtype=dtype, device=edges.device)
    a[row, column] = 1
    return a


def flipped(a: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """An adjacency matrix with each pair of nodes turned by a share: an edge leaves by it, a missing edge enters by it.

    Shapes: a (m, m) symmetric with zeros on the diagonal, s (m (m - 1) / 2,) in [0, 1], the pairs i < j row by row
    -> (m, m), symmetric, zeros on the diagonal; gradients reach s. Source: 2208.06956 (A + S o C with C = 1 - I - 2 A).
    """
    row, column = torch.triu_indices(len(a), len(a), 1, device=a.device)
    half = torch.zeros_like(a).index_put((row, column), s)
    return a + (half + half.T) * (1 - 2 * a)


def nearest_within(s: torch.Tensor, budget: float, *, within: float = 1e-4) -> torch.Tensor:
    """The point nearest to s with entries in [0, 1] and a sum of at most `budget`.

    All entries are lowered alike before they are cut to [0, 1]; by how much is found by bisection, to the relative
    accuracy `within`, from the side on which the sum is at most `budget`. Shapes: s (k,) -> (k,).
    Source: 2208.06956 (projection of the attack). Raises: InputError for a budget below 0.
    """
    checks.fraction("budget", budget, below=float("inf"))
    if s.clamp(0, 1).sum() <= budget:
        return s.clamp(0, 1)
    low, high = 0.0, s.max().item()
    while high - low > within * high:
        middle = (low + high) / 2
        low, high = (middle, high) if (s - middle).clamp(0, 1).sum() > budget else (low, middle)
    return (s - high).clamp(0, 1)


def add_edges(edges: torch.Tensor, g: torch.Generator, *, n: int, share: float) -> torch.Tensor:
    """Join a share of pairs more, drawn at random among the pairs of the n nodes that are not joined.

    Shapes: edges (2, m) int64, each edge in both directions -> (2, m'), sorted, m' = m + 2 round(share m / 2), CPU.
    Raises: InputError for a negative share, or where fewer pairs are free.
    """
    wanted = round(share * edges.shape[1] / 2)
    have = (edges[0] * n + edges[1])[edges[0] < edges[1]]
    if not 0 <= wanted <= n * (n - 1) // 2 - len(have):
        raise InputError(f"share must be at least 0 and leave enough free pairs, not {share!r}")
    new = have[:0]
    while len(new) < wanted:
        i, j = torch.randint(0, n, (2, 2 * wanted), generator=g)
        drawn = torch.cat([new, (i * n + j)[i < j]])
        drawn = drawn[~torch.isin(drawn, have)].unique()
        new = drawn[torch.randperm(len(drawn), generator=g)[:wanted]]
    pairs = torch.stack([new // n, new % n])
    return torch.cat([edges, pairs, pairs.flip(0)], 1).unique(dim=1)


def propagation(edges: torch.Tensor, n: int, *, order: int = 1, cumulative: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a random walk that may also stay is after `order` steps: P^order with P = D^-1 (A + I), on its non-zeros.

    `cumulative` sums P + P^2 + ... + P^order instead (2204.12656, influence). D is the degree with the loop.
    Shapes: edges (2, m) both ways without loops -> edges (2, m') sorted, loops included, and their weights (m',) float64.
    Raises: InputError for an order below 1.
    """
    import scipy.sparse as sp

    if order < 1:
        raise InputError(f"order must be at least 1, not {order}")
    i, j = edges.numpy()
    a = sp.csr_array((np.ones(len(i)), (i, j)), shape=(n, n)) + sp.eye_array(n, format="csr")
    p = sp.diags_array(1 / a.sum(1)) @ a
    power = total = p
    for _ in range(order - 1):
        power = power @ p
        total = total + power if cumulative else power
    total = total.tocsr()
    total.sort_indices()
    total = total.tocoo()
    return torch.from_numpy(np.stack([total.row, total.col]).astype(np.int64)), torch.from_numpy(total.data)


def gcn_matrix(edges: torch.Tensor, n: int) -> torch.Tensor:
    """D^-1/2 (A + I) D^-1/2 as a sparse CSR tensor (n, n) float32, ready to multiply: what a GCN layer propagates with.

    Shapes: edges (2, m) both ways without loops. Source: 1609.02907 Eq. 2.
    """
    i, j = torch.cat([edges, torch.arange(n).expand(2, n)], 1)
    degree = torch.bincount(i, minlength=n).double()
    weight = (degree[i] * degree[j]).rsqrt().float()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse (CSR|invariant)")  # both are told once, and neither matters here
        return torch.sparse_coo_tensor(torch.stack([i, j]), weight, (n, n), check_invariants=True).to_sparse_csr()
