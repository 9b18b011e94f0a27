"""The shape of a cloud of embeddings: how close pairs are, how evenly it fills the sphere, how many directions it uses."""
import torch
import torch.nn.functional as F

from cl_lib import checks
from cl_lib.errors import InputError
from cl_lib.losses.redundancy import align_loss, uniform_loss


@torch.no_grad()
def alignment(z1: torch.Tensor, z2: torch.Tensor, *, alpha: float = 2) -> float:
    """Mean distance, to the power alpha, between the unit vectors of two views: 0 is perfect, at alpha 2 chance is 2.

    Shapes: z1, z2 (n, d). Source: 2005.10242 Eq. 4. `losses.align_loss` is the same with gradients.
    """
    return align_loss(z1, z2, alpha=alpha).item()


@torch.no_grad()
def uniformity(z: torch.Tensor, *, t: float = 2) -> float:
    """Log of the mean of exp(-t |a - b|^2) over pairs of distinct unit vectors: lower is more uniform, 0 is collapse.

    Shapes: z (n, d), n >= 2. Source: 2005.10242 Eq. 5. `losses.uniform_loss` is the same with gradients.
    Cost: time O(n^2 d), memory O(n d): 20,000 rows fit anywhere.
    """
    return uniform_loss(z, t=t, method="stream").item()


@torch.no_grad()
def anisotropy(h: torch.Tensor) -> float:
    """Mean cosine over all pairs of distinct rows: 0 for directions spread evenly, towards 1 for a narrow cone.

    Shapes: h (n, d), n >= 2. Cost: O(n d), by |sum u|^2 = sum |u|^2 + sum of the pairs. Source: 1909.00512 Section 4.
    """
    checks.embeddings("h", h, at_least=2)
    u = F.normalize(h.double(), dim=1)
    return ((u.sum(0).square().sum() - u.square().sum()) / (len(u) * (len(u) - 1))).item()


@torch.no_grad()
def singular_spectrum(h: torch.Tensor, *, center: bool = False) -> torch.Tensor:
    """The singular values of the matrix of embeddings, largest first, in float64; `center` takes the mean row off first.

    Shapes: h (n, d) -> (min(n, d),). Centred, their squares over n - 1 are the variances along the principal directions.
    """
    checks.embeddings("h", h)
    h = h.double()
    return torch.linalg.svdvals(h - h.mean(0) if center else h)


def effective_rank(h: torch.Tensor, *, center: bool = False) -> float:
    """exp of the entropy of the singular values over their sum: how many directions the embeddings use evenly.

    Shapes: h (n, d) -> between 1 and min(n, d). Raises: InputError if all singular values are zero.
    Source: Roy and Vetterli 2007, Definition 1, with 0 log 0 = 0.
    Note: RankMe (2210.02885 Eq. 2) is the same on uncentred embeddings, but adds 1e-7 to each share before the logarithm.
    """
    p = _shares(h, center, power=1)
    return torch.special.entr(p).sum().exp().item()


def top_variance_share(h: torch.Tensor, *, k: int = 1, center: bool = True) -> float:
    """The share of the variance that the k leading principal directions hold; of the second moment if not centred.

    Shapes: h (n, d) -> fraction in (0, 1]. Raises: InputError for k outside 1..d, or without any variance.
    """
    checks.embeddings("h", h)
    if not 1 <= k <= h.shape[1]:
        raise InputError(f"k must be between 1 and {h.shape[1]}, the number of dimensions, not {k}")
    return _shares(h, center, power=2)[:k].sum().item()


def _shares(h: torch.Tensor, center: bool, power: int) -> torch.Tensor:
    sigma = singular_spectrum(h, center=center)
    # what rounding leaves of rows that are all equal is no spread
    if sigma[0] <= torch.finfo(torch.float64).eps * max(h.shape) * h.detach().double().norm():
        raise InputError("h has no spread: all its singular values are zero")
    sigma = (sigma / sigma[0]) ** power
    return sigma / sigma.sum()
