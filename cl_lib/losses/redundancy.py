"""Losses without negatives that act on pairs, pair potentials and the statistics of each dimension."""
import math

import torch
import torch.nn.functional as F

from cl_lib import checks
from cl_lib.losses.contrastive import _prepare, log_partition


def align_loss(z1: torch.Tensor, z2: torch.Tensor, *, alpha: float = 2) -> torch.Tensor:
    r"""Alignment: the two views of an item should meet on the sphere.

    L = mean_i |u1_i - u2_i|^alpha, u = z / |z|.
    Shapes: z1, z2 (n, d) -> scalar, mean over items.
    Reduces to: 2 - 2 mean cosine at alpha = 2, which is 2 + 2 `cosine_regression` but for its stopped gradient.
    Source: 2005.10242 Eq. 4. Cost: O(n d).
    Note: normalises; for alpha < 1 the gradient has no bound where the views coincide.
    """
    checks.embeddings("z1", z1)
    checks.embeddings("z2", z2, like=("z1", z1))
    checks.positive("alpha", alpha)
    u1, u2 = _prepare(True, z1, z2)
    square = (u1 - u2).square().sum(1)
    if alpha == 2:
        return square.mean()
    # a pair that coincides has loss 0 and no direction to go: sqrt(0) would make its gradient NaN
    apart = square > 0
    return torch.where(apart, torch.where(apart, square, 1.0) ** (alpha / 2), 0.0).mean()


def uniform_loss(z: torch.Tensor, *, t: float = 2, method: str = "auto") -> torch.Tensor:
    r"""Uniformity: embeddings repel each other over the whole sphere, by a Gaussian potential of their distance.

    L = log mean_{i < j} exp(-t |u_i - u_j|^2), u = z / |z|.
    Shapes: z (n, d), n >= 2 -> scalar. `method` as for `nt_xent`.
    Reduces to: -2t + logsumexp_i log sum_{j != i} exp(2t u_i.u_j) - log n (n - 1), since |u - v|^2 = 2 - 2 u.v: the
    denominators of `nt_xent` at tau = 1 / 2t. That is how it is computed.
    Source: 2005.10242 Eq. 5. Cost: time O(n^2 d); memory O(n d) by "stream".
    Note: normalises; one view at a time, average it over the views.
    """
    checks.embeddings("z", z, at_least=2)
    checks.positive("t", t)
    (u,), n = _prepare(True, z), len(z)
    own = torch.arange(n, device=z.device)[:, None]
    log_z = log_partition(u, u, 1 / (2 * t), skip=own, method=method)
    return torch.logsumexp(log_z, 0) - 2 * t - math.log(n * (n - 1))


def barlow_twins(z1: torch.Tensor, z2: torch.Tensor, *, lambd: float = 5e-3) -> torch.Tensor:
    r"""Barlow Twins: the cross-correlation of the two views should be the identity.

    L = sum_a (1 - C_aa)^2 + lambd sum_{a != b} C_ab^2, C = x1^T x2 / n, x = each dimension standardised over the batch.
    Shapes: z1, z2 (n, d), n >= 2 -> scalar, a sum over pairs of dimensions.
    Source: 2103.03230 Eq. 1 and 2. Cost: time O(n d^2), memory O(d^2).
    Note: the standard deviation is the biased one, with batch normalisation's 1e-5 added to the variance as in the
    authors' code, so a constant dimension gives C = 0, not NaN. The loss grows with d; optimisers are tuned to that.
    """
    checks.embeddings("z1", z1, at_least=2)
    checks.embeddings("z2", z2, like=("z1", z1))
    checks.fraction("lambd", lambd, below=math.inf)
    z1, z2 = _prepare(False, z1, z2)
    with torch.autocast(z1.device.type, enabled=False):
        c = _standard(z1).T @ _standard(z2) / len(z1)
        return (1 - torch.diagonal(c)).square().sum() + lambd * _off_diagonal(c)


def vicreg(z1: torch.Tensor, z2: torch.Tensor, *, inv: float = 25, var: float = 25, cov: float = 1) -> torch.Tensor:
    r"""VICReg: views agree, every dimension varies, no two dimensions say the same.

    L = inv mean (z1 - z2)^2 + var/2 [v(z1) + v(z2)] + cov [c(z1) + c(z2)],
    v(z) = mean_a max(0, 1 - sqrt(Var z_a + 1e-4)), c(z) = 1/d sum_{a != b} Cov(z)_ab^2.
    Shapes: z1, z2 (n, d), n >= 2 -> scalar.
    Source: 2105.04906 Eq. 1 to 6, scaled as in the authors' code: the invariance is a mean over the dimensions too
    (the paper's Eq. 5 sums them) and the two variance terms are halved. Cost: time O(n d^2), memory O(d^2).
    Note: nothing is normalised; variance and covariance are the unbiased ones, over n - 1.
    """
    checks.embeddings("z1", z1, at_least=2)
    checks.embeddings("z2", z2, like=("z1", z1))
    for name, weight in (("inv", inv), ("var", var), ("cov", cov)):
        checks.fraction(name, weight, below=math.inf)
    z1, z2 = _prepare(False, z1, z2)
    loss = inv * F.mse_loss(z1, z2)
    for z in (z1, z2):
        centred = z - z.mean(0)
        with torch.autocast(z.device.type, enabled=False):
            c = centred.T @ centred / (len(z) - 1)
            hinge = F.relu(1 - (torch.diagonal(c) + 1e-4).sqrt()).mean()
            loss = loss + var * hinge / 2 + cov * _off_diagonal(c) / z.shape[1]
    return loss


def _standard(z: torch.Tensor) -> torch.Tensor:
    return F.batch_norm(z, None, None, training=True)


def _off_diagonal(c: torch.Tensor) -> torch.Tensor:
    return (c - torch.diag(torch.diagonal(c))).square().sum()
