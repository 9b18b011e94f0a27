"""Views of a graph: edges dropped, features hidden. Drawn from a Generator on the data's device."""
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
