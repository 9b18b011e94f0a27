"""Does cosine similarity follow human judgement? Correlations for semantic textual similarity and word pairs."""
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from cl_lib import checks
from cl_lib.errors import InputError

Scores = torch.Tensor | np.ndarray | Sequence[float]


def sts_spearman(z1: torch.Tensor, z2: torch.Tensor, scores: Scores) -> float:
    """Spearman's rank correlation, times 100, between the cosines of pairs and their gold scores.

    Shapes: z1, z2 (n, d) with n >= 2, scores (n,) -> points in [-100, 100]; NaN if all cosines are equal.
    Raises: InputError for shapes that do not agree, scores that are all equal or not finite.
    Reduces to: 100 * `scipy.stats.spearmanr` (ties share their mean rank).
    """
    from scipy.stats import rankdata
    cosines, gold = _pairs(z1, z2, scores)
    return _pearson(rankdata(cosines), rankdata(gold))


def sts_pearson(z1: torch.Tensor, z2: torch.Tensor, scores: Scores) -> float:
    """Pearson's linear correlation, times 100, between the cosines of pairs and their gold scores; as `sts_spearman`."""
    return _pearson(*_pairs(z1, z2, scores))


def _pairs(z1: torch.Tensor, z2: torch.Tensor, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    checks.embeddings("z1", z1, at_least=2)
    checks.embeddings("z2", z2, like=("z1", z1))
    gold = torch.as_tensor(scores, dtype=torch.float64).detach().cpu().numpy()
    if gold.shape != (len(z1),):
        raise InputError(f"scores must have shape ({len(z1)},), one for each pair, not {gold.shape}")
    if not np.isfinite(gold).all():
        raise InputError("scores hold NaN or Inf")
    if (gold == gold[0]).all():
        raise InputError("scores are all equal: no order to agree with")
    return F.cosine_similarity(z1.detach().double(), z2.detach().double(), dim=1).cpu().numpy(), gold


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    """100 r; NaN where `a` does not vary."""
    if (a == a[0]).all():
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(100 * (a @ b) / np.sqrt((a @ a) * (b @ b)))
