"""Linear probes: how well one linear layer reads the labels off frozen features."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from cl_lib import checks
from cl_lib.errors import InputError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

GRID = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def linear_probe(train_h: torch.Tensor, train_y: torch.Tensor, test_h: torch.Tensor, test_y: torch.Tensor, *,
                 C: float = 1.0, validation: tuple[torch.Tensor, torch.Tensor] | None = None,
                 grid: Sequence[float] = GRID, max_iter: int = 1000) -> float:
    """Test accuracy of a logistic regression on frozen features; arguments as `fit_linear`.

    Shapes: train_h (n, d), train_y (n,), test_h (q, d), test_y (q,); labels any integers -> fraction in [0, 1].
    """
    probe = fit_linear(train_h, train_y, C=C, validation=validation, grid=grid, max_iter=max_iter)
    return _score("test", probe, test_h, test_y, train_h.shape[1])


def fit_linear(train_h: torch.Tensor, train_y: torch.Tensor, *, C: float = 1.0,
               validation: tuple[torch.Tensor, torch.Tensor] | None = None, grid: Sequence[float] = GRID,
               max_iter: int = 1000) -> Pipeline:
    """Standardise, then multinomial logistic regression (L2, lbfgs); with `validation` (h, y), the best C of `grid`.

    Shapes: train_h (n, d), train_y (n,) any integers -> a scikit-learn pipeline; its chosen C is `probe[-1].C`.
    C weighs the sum of the losses of all training items against |w|^2 / 2, so a larger C regularises less.
    Equal accuracies on the validation part: the smaller C. The chosen probe is not fitted again with that part.
    Raises: InputError for shapes that do not agree, fewer than two classes, C <= 0, an empty grid.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    checks.embeddings("train_h", train_h, at_least=2)
    checks.labels("train_y", train_y, len(train_h))
    if len(train_y.unique()) < 2:
        raise InputError("train_y holds one class; at least two needed")
    candidates = [C] if validation is None else sorted(grid)
    if not candidates:
        raise InputError("grid is empty")
    for c in candidates:
        checks.positive("C" if validation is None else "grid", c)
    x, y = _numpy(train_h), train_y.cpu().numpy()
    probes = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=max_iter)).fit(x, y) for c in candidates]
    if validation is None:
        return probes[0]
    return max(probes, key=lambda probe: _score("validation", probe, *validation, train_h.shape[1]))


def ridge_probe(train_h: torch.Tensor, train_y: torch.Tensor, test_h: torch.Tensor, test_y: torch.Tensor, *, alpha: float = 100.0) -> float:
    """Test accuracy of a linear least-squares classifier on frozen features: a probe that hundreds of classes do not slow down.

    Standardised features, targets +1 for the own class and -1 for the others, weights shrunk by alpha |w|^2, the largest
    score wins. Shapes and labels as `linear_probe`.
    Raises: InputError for shapes that do not agree, fewer than two classes, alpha <= 0. Cost: O(n d^2 + n d classes), no iterations.
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    checks.embeddings("train_h", train_h, at_least=2)
    checks.labels("train_y", train_y, len(train_h))
    checks.positive("alpha", alpha)
    if len(train_y.unique()) < 2:
        raise InputError("train_y holds one class; at least two needed")
    probe = make_pipeline(StandardScaler(), RidgeClassifier(alpha=alpha)).fit(_numpy(train_h), train_y.cpu().numpy())
    return _score("test", probe, test_h, test_y, train_h.shape[1])


def _score(part: str, probe: Pipeline, h: torch.Tensor, y: torch.Tensor, d: int) -> float:
    checks.embeddings(f"{part}_h", h)
    checks.labels(f"{part}_y", y, len(h))
    if h.shape[1] != d:
        raise InputError(f"{part}_h has {h.shape[1]} dimensions, train_h {d}; they must agree")
    return float(probe.score(_numpy(h), y.cpu().numpy()))


def _numpy(h: torch.Tensor) -> np.ndarray:
    return h.detach().double().cpu().numpy()
