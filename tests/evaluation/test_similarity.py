import math

import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from cl_lib.errors import InputError
from cl_lib.evaluation import sts_pearson, sts_spearman


def pairs(n=300, seed=0):
    g = torch.Generator().manual_seed(seed)
    z1 = torch.randn(n, 8, generator=g)
    gold = torch.randint(0, 11, (n,), generator=g) / 2  # many ties, as in STS
    return z1, gold[:, None] * z1 + 3 * torch.randn(n, 8, generator=g), gold


def test_equals_scipy():
    z1, z2, gold = pairs()
    cosines = [float(a @ b / a.norm() / b.norm()) for a, b in zip(z1.double(), z2.double())]
    assert sts_spearman(z1, z2, gold) == pytest.approx(100 * spearmanr(cosines, gold.numpy())[0], abs=1e-9)
    assert sts_pearson(z1, z2, gold) == pytest.approx(100 * pearsonr(cosines, gold.numpy())[0], abs=1e-9)
    assert 50 < sts_spearman(z1, z2, gold) < 95
    assert sts_spearman(z1, z2, gold.tolist()) == sts_spearman(z1, z2, gold.numpy()) == sts_spearman(z1, z2, gold)


def test_lengths_do_not_matter_but_order_does():
    z1, z2, gold = pairs()
    scale = torch.rand(len(z1), 1, generator=torch.Generator().manual_seed(1)) + 0.5
    assert sts_spearman(z1 * scale, z2 / scale, gold) == pytest.approx(sts_spearman(z1, z2, gold), abs=0.1)
    assert sts_spearman(z1, z2, -gold) == pytest.approx(-sts_spearman(z1, z2, gold), abs=1e-9)
    assert sts_spearman(z1, z2, gold ** 3) == sts_spearman(z1, z2, gold) and sts_pearson(z1, z2, gold ** 3) != sts_pearson(z1, z2, gold)


def test_collapse_has_no_correlation():
    z = torch.ones(5, 3)
    assert math.isnan(sts_spearman(z, z, range(5))) and math.isnan(sts_pearson(z, z, range(5)))


@pytest.mark.parametrize("scores, message", [
    ([1, 2], "scores must have shape"), ([1.0] * 4, "all equal"), ([1, 2, 3, math.nan], "NaN"), ([[1], [2], [3], [4]], "shape"),
])
def test_bad_scores(scores, message):
    z = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=message):
        sts_spearman(z, z, scores)


def test_bad_embeddings():
    with pytest.raises(InputError, match="z2 has shape"):
        sts_spearman(torch.randn(4, 2), torch.randn(4, 3), range(4))
