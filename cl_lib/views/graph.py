"""Views of a graph: edges dropped, features hidden, pairs flipped. What is drawn comes from a Generator on the data's device."""
import torch

from cl_lib import checks


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
