"""Soft assignments of points to clusters, and the sharper ones that they are trained towards (DEC)."""
import torch

from cl_lib import checks
from cl_lib.errors import InputError


def soft_assignment(z: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    r"""q_ik = (1 + |z_i - mu_k|^2)^-1, divided by its sum over k: a Student t kernel with one degree of freedom.

    Shapes: z (n, d), centres (k, d) -> (n, k), rows sum to 1. Source: 1511.06335 Eq. 1. Raises: InputError for other widths.
    """
    checks.embeddings("z", z)
    checks.embeddings("centres", centres)
    if z.shape[1] != centres.shape[1]:
        raise InputError(f"z has {z.shape[1]} dimensions, centres {centres.shape[1]}")
    q = 1 / (1 + (z[:, None] - centres).square().sum(2))
    return q / q.sum(1, keepdim=True)


def target_distribution(q: torch.Tensor) -> torch.Tensor:
    r"""p_ik = (q_ik^2 / f_k), divided by its sum over k, with f_k = sum_i q_ik: confident points count more, large clusters less.

    Shapes: q (n, k) -> (n, k), rows sum to 1, no gradient. Source: 1511.06335 Eq. 3.
    """
    p = q.detach().square() / q.detach().sum(0)
    return p / p.sum(1, keepdim=True)


def assignment_loss(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    r"""KL(p | q) = mean_i sum_k p_ik log(p_ik / q_ik); p is a target, so it carries no gradient. Source: 1511.06335 Eq. 2.

    Shapes: q, p (n, k) -> scalar. Terms with p_ik = 0 are 0.
    """
    p = p.detach()
    return (torch.xlogy(p, p) - p * q.log()).sum(1).mean()
