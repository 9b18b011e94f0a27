"""Heads: what stands between an encoder's features h and the embeddings z that a loss sees."""
import torch
import torch.nn.functional as F
from torch import nn

from cl_lib.encoders.image import seeded
from cl_lib.errors import InputError


def projection(d_in: int, hidden: int = 128, d_out: int = 64, *, layers: int = 2, batch_norm: bool = False,
               seed: int | None = None) -> nn.Sequential:
    """SimCLR's projection head: h (n, d_in) -> z (n, d_out) through `layers` linear layers with ReLU between them.

    `layers=1` is a linear head. Source: 2002.05709 section 4.2. Raises: InputError for layers below 1.
    """
    if layers < 1:
        raise InputError(f"layers must be at least 1, not {layers}")
    with seeded(seed):
        sizes = [d_in] + [hidden] * (layers - 1) + [d_out]
        steps: list[nn.Module] = []
        for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
            last = i == layers - 1
            steps.append(nn.Linear(a, b, bias=last or not batch_norm))
            if not last:
                steps += [nn.BatchNorm1d(b)] * batch_norm + [nn.ReLU(inplace=True)]
        return nn.Sequential(*steps)


def mlp(d_in: int, sizes: tuple[int, ...], *, seed: int | None = None) -> nn.Sequential:
    """Linear layers of the given widths with ReLU between them: x (n, d_in) -> (n, sizes[-1]).

    Raises: InputError for no sizes or a size below 1.
    """
    if not sizes or min(d_in, *sizes) < 1:
        raise InputError(f"d_in and sizes must be at least 1, and sizes not empty, not {d_in} and {sizes}")
    with seeded(seed):
        steps: list[nn.Module] = []
        for a, b in zip((d_in, *sizes), sizes, strict=False):
            steps += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*steps[:-1])


def prediction(d: int, hidden: int = 256, *, seed: int | None = None) -> nn.Sequential:
    """BYOL's predictor: z (n, d) -> p (n, d), one hidden layer with batch norm. Source: 2006.07733 section 3.3."""
    return projection(d, hidden, d, batch_norm=True, seed=seed)


class Prototypes(nn.Module):
    """Scores of embeddings against n unit vectors: z (m, d) -> (m, n) cosine similarities. Source: 2006.09882 section 3.1."""

    def __init__(self, d: int, n: int, *, seed: int | None = None):
        super().__init__()
        with seeded(seed):
            self.weight = nn.Parameter(F.normalize(torch.randn(n, d), dim=1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return F.normalize(z, dim=1) @ F.normalize(self.weight, dim=1).T
