"""Differentiable sorting: a sorting network whose swaps are soft, so that ranks have gradients."""
import math

import torch

from cl_lib import checks
from cl_lib.errors import InputError


def soft_sort(x: torch.Tensor, *, steepness: float = 1.0, art: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Sort each row in ascending order by an odd-even network of soft swaps; the sorted rows, and who went where.

    In each of w layers neighbours a, b become alpha a + (1 - alpha) b and (1 - alpha) a + alpha b, with
    alpha = 1/2 + arctan(steepness phi(b - a)) / pi, the chance that they stay, and phi(d) = d / |d|^art.
    Shapes: x (n, w), w at least 2 -> values (n, w), and P (n, w, w) where P[:, i, r] is the share of input i at rank r,
    rank 0 the smallest.
    Reduces to: `torch.sort` and its permutation matrix as steepness grows.
    Raises: InputError for other shapes, numbers that are not finite, steepness <= 0, art outside [0, 1).
    Source: 2203.09630 (the Cauchy form), 2105.04019 (the network; art, which makes small gaps count more).
    Cost: time and memory O(n w^3) with gradients. Note: rows and columns of P sum to one; ties swap evenly.
    """
    if x.ndim != 2 or len(x) == 0 or x.shape[1] < 2:
        raise InputError(f"x must have shape (n, w) with n at least 1 and w at least 2, not {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise InputError("x holds NaN or Inf")
    checks.positive("steepness", steepness)
    checks.fraction("art", art)
    n, w = x.shape
    # the first column of `rows` is the values, the others say how much of each input stands at this rank
    rows = torch.cat([x[:, :, None], torch.eye(w, dtype=x.dtype, device=x.device).expand(n, w, w)], 2)
    for layer in range(w):
        first = layer % 2
        last = first + (w - first) // 2 * 2
        a, b = rows[:, first:last:2], rows[:, first + 1:last:2]
        gap = b[:, :, :1] - a[:, :, :1]
        if art:
            gap = gap / (gap.abs() + 1e-10) ** art
        step = torch.atan(steepness * gap) / math.pi * (b - a)
        middle = (a + b) / 2
        pairs = torch.stack([middle - step, middle + step], 2).flatten(1, 2)
        rows = torch.cat([rows[:, :first], pairs, rows[:, last:]], 1)
    return rows[:, :, 0], rows[:, :, 1:].transpose(1, 2)
