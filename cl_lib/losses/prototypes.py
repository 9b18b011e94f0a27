"""Losses against the centres of clusters: ProtoNCE, and how concentrated each cluster is."""
import math
from collections.abc import Sequence

import torch

from cl_lib import checks
from cl_lib.errors import InputError


def proto_nce(z: torch.Tensor, clusters: Sequence[torch.Tensor], centres: Sequence[torch.Tensor],
              phi: Sequence[torch.Tensor], *, candidates: int = 1) -> torch.Tensor:
    r"""Each item picks the centre of its own cluster out of all centres, mean over several clusterings.

    L = mean_m mean_i [ -z_i.c_{k(i)} / phi_{k(i)} + log sum_k exp(z_i.c_k / phi_k) ] + log(candidates / k_m).
    Shapes: z (n, d); for each clustering its assignment (n,), centres (k, d) and concentrations (k,) > 0 -> scalar.
    `candidates`, the number of items that the mean over the centres is multiplied by in MEOW, adds a constant alone.
    Reduces to: `F.cross_entropy(z @ c.T / phi, k)` for one clustering of k = candidates. Source: 2005.04966 Eq. 11.
    Note: nothing is normalised; the centres carry no gradient unless they have one.
    """
    if not clusters or not len(clusters) == len(centres) == len(phi):
        raise InputError(f"clusters, centres and phi must be of one length, at least 1, not {len(clusters)}, {len(centres)} and {len(phi)}")
    checks.embeddings("z", z)
    total = 0.0
    for own, c, spread in zip(clusters, centres, phi, strict=True):
        checks.labels("clusters", own, len(z))
        if not (spread > 0).all():
            raise InputError("phi must be positive everywhere")
        s = z @ c.T / spread
        total = total + (s.logsumexp(1) - s.gather(1, own[:, None])[:, 0]).mean() + math.log(candidates / len(c))
    return total / len(clusters)


def concentration(z: torch.Tensor, own: torch.Tensor, centres: torch.Tensor, *, tau: float, alpha: float = 5.0) -> torch.Tensor:
    """PCL's phi: mean distance of a cluster's items to its centre over log(size + alpha), scaled so that the mean is tau.

    Clusters of one item or none take the largest value of the others; the lowest and highest tenth are clipped.
    Shapes: z (n, d), own (n,), centres (k, d) -> (k,). Source: 2005.04966 Eq. 12, scaled and clipped as in its code.
    Raises: InputError where no cluster has two items.
    """
    checks.embeddings("z", z)
    checks.labels("own", own, len(z))
    checks.positive("tau", tau)
    size = torch.bincount(own, minlength=len(centres)).to(z.dtype)
    if not (size > 1).any():
        raise InputError("own: no cluster has two items")
    far = (z - centres[own]).norm(dim=1)
    phi = torch.zeros_like(size).index_add(0, own, far) / size.clamp(min=1) / torch.log(size + alpha)
    phi = torch.where(size > 1, phi, phi[size > 1].max())
    phi = phi.clamp(phi.quantile(0.1), phi.quantile(0.9))
    return tau * phi / phi.mean()
