import math

import pytest
import torch
from sklearn.metrics import average_precision_score, ndcg_score
from torchmetrics.functional import retrieval as peer

from cl_lib.errors import InputError
from cl_lib.evaluation import (
    hit_rate, mean_average_precision, mean_reciprocal_rank, ndcg, precision_at_k, recall_at_k, retrieval, retrieval_metrics,
)


def scores(q=12, m=23, seed=0):
    g = torch.Generator().manual_seed(seed)
    s = torch.randn(q, m, generator=g, dtype=torch.float64)
    grades = torch.randint(0, 4, (q, m), generator=g) * (torch.rand(q, m, generator=g) < 0.2)
    grades[:, 0] += grades.sum(1) == 0
    return s, grades


def mean(function, s, grades, binary=True, **keywords):
    return sum(float(function(row, (g > 0) if binary else g, **keywords)) for row, g in zip(s, grades)) / len(s)


@pytest.mark.parametrize("k", [1, 5, 23])
def test_equals_torchmetrics(k):
    s, grades = scores()
    s = s.sigmoid()  # torchmetrics wants probabilities
    assert hit_rate(s, grades, k=k) == pytest.approx(mean(peer.retrieval_hit_rate, s, grades, top_k=k), abs=1e-6)
    assert recall_at_k(s, grades, k=k) == pytest.approx(mean(peer.retrieval_recall, s, grades, top_k=k), abs=1e-6)
    assert precision_at_k(s, grades, k=k) == pytest.approx(mean(peer.retrieval_precision, s, grades, top_k=k), abs=1e-6)
    assert mean_reciprocal_rank(s, grades, k=k) == pytest.approx(mean(peer.retrieval_reciprocal_rank, s, grades, top_k=k), abs=1e-6)
    assert ndcg(s, grades, k=k) == pytest.approx(mean(peer.retrieval_normalized_dcg, s, grades, binary=False, top_k=k), abs=1e-6)


def test_equals_sklearn():
    s, grades = scores()
    expected = mean(lambda a, b: average_precision_score(b, a), s.numpy(), grades.numpy())
    assert mean_average_precision(s, grades) == pytest.approx(expected, abs=1e-12)
    assert mean_average_precision(s, grades > 0) == pytest.approx(expected, abs=1e-12)
    for k in (None, 3, 10):
        assert ndcg(s, grades, k=k) == pytest.approx(ndcg_score(grades, s, k=k), abs=1e-12)


@pytest.mark.parametrize("k", [1, 4, 23, None])
def test_average_precision_and_reciprocal_rank_are_the_loops(k):
    s, grades = scores(seed=3)
    ap, rr = [], []
    for row, g in zip(s.tolist(), grades.tolist()):
        order = sorted(range(23), key=lambda j: -row[j])
        ranks = [r for r, j in enumerate(order, 1) if g[j] > 0]
        last = k or 23
        ap.append(sum((i + 1) / r for i, r in enumerate(ranks) if r <= last) / len(ranks))
        rr.append(1 / ranks[0] if ranks[0] <= last else 0.0)
    assert mean_average_precision(s, grades, k=k) == pytest.approx(sum(ap) / 12, abs=1e-12)
    assert mean_reciprocal_rank(s, grades, k=k) == pytest.approx(sum(rr) / 12, abs=1e-12)


def test_a_hand_case():
    s = torch.tensor([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4]])
    relevant = torch.tensor([[False, True, False, True], [False, False, False, True]])
    assert hit_rate(s, relevant, k=1) == 0.5 and hit_rate(s, relevant, k=2) == 1
    assert recall_at_k(s, relevant, k=2) == 0.75 and precision_at_k(s, relevant, k=2) == 0.5
    assert mean_reciprocal_rank(s, relevant) == 0.75 and mean_average_precision(s, relevant) == 0.75
    expected = ((1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3)) + 1) / 2
    assert ndcg(s, relevant) == pytest.approx(expected, abs=1e-12)


def test_queries_without_anything_relevant_are_left_out_and_ties_keep_their_order():
    s, grades = scores()
    grades[4] = 0
    rest = torch.arange(12) != 4
    for metric in (mean_average_precision, mean_reciprocal_rank, ndcg):
        assert metric(s, grades) == pytest.approx(metric(s[rest], grades[rest]), abs=1e-15)
    assert mean_reciprocal_rank(torch.zeros(5, 5), torch.eye(5)) == pytest.approx(sum(1 / r for r in range(1, 6)) / 5)


@pytest.mark.parametrize("chunk", [1, 60, 2 ** 22])
@pytest.mark.parametrize("skip_self", [False, True])
def test_all_at_once_from_labels(monkeypatch, chunk, skip_self):
    monkeypatch.setattr(retrieval, "CHUNK", chunk)
    g = torch.Generator().manual_seed(0)
    z, y = torch.randn(31, 6, generator=g, dtype=torch.float64), torch.randint(0, 9, (31,), generator=g) - 4
    y[7] = 50
    s = torch.nn.functional.cosine_similarity(z[:, None], z[None], dim=2)
    relevant = y[:, None] == y
    if skip_self:
        others = ~torch.eye(31, dtype=torch.bool)
        s, relevant = s[others].view(31, 30), relevant[others].view(31, 30)
    found = retrieval_metrics(3 * z, z, (y, y), ks=(1, 4), skip_self=skip_self)
    expected = {"map": mean_average_precision(s, relevant), "mrr": mean_reciprocal_rank(s, relevant)}
    for k in (1, 4):
        expected |= {f"hit@{k}": hit_rate(s, relevant, k=k), f"recall@{k}": recall_at_k(s, relevant, k=k),
                     f"precision@{k}": precision_at_k(s, relevant, k=k), f"ndcg@{k}": ndcg(s, relevant, k=k)}
    assert found == pytest.approx(expected, abs=1e-12)
    assert (found["hit@1"] == 1) is not skip_self


def test_all_at_once_from_grades():
    g = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(12, 6, generator=g), torch.randn(23, 6, generator=g)
    s, (_, grades) = torch.nn.functional.cosine_similarity(queries[:, None], gallery[None], dim=2), scores()
    found = retrieval_metrics(queries, gallery, grades, ks=(10,))
    assert found["ndcg@10"] == pytest.approx(ndcg_score(grades, s, k=10), abs=1e-6)


@pytest.mark.parametrize("call, message", [
    (lambda s, r: hit_rate(s, r, k=0), "k must be between 1 and 23"), (lambda s, r: ndcg(s, r[:, :3]), "shape"),
    (lambda s, r: ndcg(s, -r), "negative"), (lambda s, r: ndcg(s, 0 * r), "no query"), (lambda s, r: ndcg(s / 0, r), "NaN"),
    (lambda s, r: retrieval_metrics(s, s[:, :9], r), "gallery has 9"), (lambda s, r: retrieval_metrics(s, s, r), "relevance must have"),
    (lambda s, r: retrieval_metrics(s, s[:7], r, skip_self=True), "skip_self needs"),
    (lambda s, r: retrieval_metrics(s, s, (r[:, 0], r[:5, 0])), "gallery_y must"),
    (lambda s, r: retrieval_metrics(s, s, torch.zeros(12, 12), ks=(1,)), "no query"),
    (lambda s, r: retrieval_metrics(s, s, torch.eye(12), ks=(12,), skip_self=True), "between 1 and 11"),
])
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call(*scores())
