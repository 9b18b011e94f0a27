"""A graph inside the loss: nodes that the graph joins are positives, with the weight of the edge, and all nodes are candidates."""
import torch
import torch.nn.functional as F

from cl_lib import checks
from cl_lib.errors import InputError
from cl_lib.losses.contrastive import log_partition


def log_positives(z: torch.Tensor, edges: torch.Tensor, weight: torch.Tensor, *, tau: float) -> torch.Tensor:
    r"""log sum_j a_ij exp(s_ij / tau) of each node i, over the edges that leave it; s is the cosine, and s_ii counts as 0.

    Shapes: z (n, d), edges (2, m) with loops where they are meant, weight (m,) > 0 -> (n,).
    Source: 2209.14067 Section 3 (positives on existing edges alone). Cost: time and memory O(m d).
    Raises: InputError for weights that are not positive, or a node without any edge.
    """
    checks.embeddings("z", z)
    checks.temperature(tau, len(z))
    if edges.ndim != 2 or len(edges) != 2 or weight.shape != edges.shape[1:]:
        raise InputError(f"edges and weight must have shapes (2, m) and (m,), not {tuple(edges.shape)} and {tuple(weight.shape)}")
    if not (weight > 0).all():
        raise InputError("weight must be positive on every edge")
    z, (i, j) = F.normalize(z, dim=1), edges
    s = (z[i] * z[j]).sum(1).masked_fill(i == j, 0.0) / tau + weight.log()
    top = torch.full_like(z[:, 0], -torch.inf).scatter_reduce(0, i, s.detach(), "amax")
    if not torch.isfinite(top).all():
        raise InputError(f"node {int(torch.nonzero(~torch.isfinite(top))[0])} has no edge, so no positive")
    return torch.zeros_like(top).index_add(0, i, (s - top[i]).exp()).log() + top


def neighbour_contrast(z: torch.Tensor, edges: torch.Tensor, weight: torch.Tensor, *, tau: float,
                       method: str = "auto") -> torch.Tensor:
    r"""Each node finds its neighbours, weighted by the graph, among all nodes (Ncontrast of Graph-MLP).

    L = - mean_i log [ sum_j a_ij exp(s_ij / tau) / sum_j exp(s_ij / tau) ], a -> weight on edges, s the cosine, s_ii = 0.
    Shapes: as `log_positives` -> scalar, mean over nodes.
    Reduces to: minus the mean of log a_ii e^0 / sum, where loops are the only edges. Never negative where all a_ij <= 1.
    Source: 2106.04051 Eq. 4; 2204.12656 Eq. 6 (cumulative powers of the adjacency as weights).
    Cost: O(n^2 d) time; memory O(n d + m d) by "stream", O(n^2) by "dense".
    Note: tau divides here; in the code of these papers it multiplies, so their 0.25 is tau = 4.
    """
    positive = log_positives(z, edges, weight, tau=tau)
    z, own = F.normalize(z, dim=1), torch.arange(len(z), device=z.device)
    others = log_partition(z, z, tau, skip=own[:, None], method=method)
    return (torch.logaddexp(others, torch.zeros_like(others)) - positive).mean()
