"""Subsets of labelled items with a chosen imbalance between the classes."""
import torch

from cl_lib import checks
from cl_lib.errors import InputError


def long_tail(y: torch.Tensor, n: int, *, ratio: float, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of n items whose class sizes fall exponentially, the largest `ratio` times the smallest; 1 is balanced.

    Which class is large is drawn anew: a fixed order would make "frequent" mean "the first classes". From generators of
    the same seed, subsets of different ratio draw the same order and prefer the same items of each class, so that they
    share all that they can.

    Shapes: y (m,) any integers -> index (n,) into y, classes in turn, no item twice; order (classes,) the labels from
    the most to the least frequent. Sizes are rounded by largest remainder so that they sum to n; small classes of a
    steep tail may get 0. Source: 1901.05555 (long-tailed CIFAR), here at a fixed total.
    Raises: InputError for n below 1, a ratio below 1, or a class with fewer items than its share.
    """
    checks.labels("y", y, len(y))
    if n < 1 or not ratio >= 1:
        raise InputError(f"n and ratio must be at least 1, not {n} and {ratio}")
    classes = y.unique()
    order = classes[torch.randperm(len(classes), generator=generator)]
    share = float(ratio) ** -torch.linspace(0, 1, len(classes), dtype=torch.float64)
    exact = n * share / share.sum()
    sizes = exact.floor().long()
    sizes[(sizes - exact).argsort(stable=True)[:n - int(sizes.sum())]] += 1
    parts = []
    for label, size in zip(order.tolist(), sizes.tolist(), strict=True):
        items = torch.nonzero(y == label)[:, 0]
        if size > len(items):
            raise InputError(f"label {label} has {len(items)} items, {size} needed for n = {n} at ratio {ratio:g}")
        parts.append(items[torch.randperm(len(items), generator=generator)[:size]])
    return torch.cat(parts), order
