import pytest
import torch
from sklearn.metrics import f1_score

from cl_lib.evaluation.clustering import cluster_f1


def test_it_is_the_macro_f1_of_the_matched_labels():
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 4, (80,), generator=g)
    a = torch.where(torch.rand(80, generator=g) < 0.7, y, torch.randint(0, 4, (80,), generator=g))
    assert cluster_f1(y, (a + 1) % 4 + 10) == pytest.approx(f1_score(y, a, average="macro"))
    assert cluster_f1(y, y * 3) == pytest.approx(1)
    # a label without a cluster has 0: one cluster for all stands for the most frequent one alone
    most = y.bincount().max().item()
    assert cluster_f1(y, torch.zeros_like(y)) == pytest.approx(2 * most / (80 + most) / 4)
