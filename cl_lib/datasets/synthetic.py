"""Draws from models whose hidden variables are known: tuples of the latent-class model of contrastive learning."""
from dataclasses import dataclass

import torch

from cl_lib import checks
from cl_lib.errors import InputError


@dataclass(frozen=True)
class Tuples:
    """Indices of n tuples: an anchor, a block of positives, k blocks of negatives.

    Shapes: anchor (n,), positive (n, block), negative (n, k, block), all int64 on the CPU.
    """
    anchor: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor


def latent_class_tuples(y: torch.Tensor, n: int, k: int, *, generator: torch.Generator, block: int = 1,
                        collide: bool = True, noise: float = 0.0) -> Tuples:
    """Tuples of the latent-class model: anchor and positives from one class, each block of negatives from a random one.

    Classes are drawn uniformly from those in `y`, points uniformly within a class, all with replacement. So a negative
    shares the anchor's class with probability 1 / classes; `collide=False` draws it from the other classes. With
    probability `noise` the positives of a tuple come from a class drawn anew.

    Shapes: y (points,) any integers -> `Tuples` of indices into y. Source: 1902.09229 sections 2 and 6.2.
    Raises: InputError for sizes below 1, a noise outside [0, 1], and `collide=False` with one class.
    """
    checks.labels("y", y, len(y))
    if min(n, k, block) < 1 or not 0 <= noise <= 1:
        raise InputError(f"n, k and block must be at least 1 and noise in [0, 1], not {n}, {k}, {block} and {noise}")
    classes, inverse, counts = y.unique(return_inverse=True, return_counts=True)
    if len(classes) < 2 and not collide:
        raise InputError("collide=False needs at least two classes")
    order, starts = inverse.argsort(stable=True), counts.cumsum(0) - counts

    def some(c: torch.Tensor) -> torch.Tensor:
        """A point of each class in c."""
        u = torch.rand(c.shape, generator=generator, dtype=torch.float64)
        return order[starts[c] + (u * counts[c]).long()]

    def one_of(most: int, *shape: int) -> torch.Tensor:
        return torch.randint(most, shape, generator=generator)

    own = one_of(len(classes), n)
    other = one_of(len(classes), n, k) if collide else (own[:, None] + 1 + one_of(len(classes) - 1, n, k)) % len(classes)
    again = torch.rand(n, generator=generator) < noise
    shown = torch.where(again, one_of(len(classes), n), own)
    return Tuples(some(own), some(shown[:, None].expand(n, block)), some(other[..., None].expand(n, k, block)))
