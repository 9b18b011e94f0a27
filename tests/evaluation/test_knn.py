import math

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from cl_lib.errors import InputError
from cl_lib.evaluation import knn, knn_accuracy, knn_predict


def data(n=150, q=60, d=7, classes=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    # labels neither small nor in order: -3, 5, 13, ...
    y = torch.randint(0, classes, (n + q,), generator=g) * 8 - 3
    h = torch.randn(n + q, d, generator=g, dtype=torch.float64) * 3 + (y[:, None] == torch.arange(d) * 8 - 3) * 2.0
    return h[:n], y[:n], h[n:], y[n:]


@pytest.mark.parametrize("k", [1, 2, 5, 20, 150])
def test_unweighted_equals_sklearn(k):
    train_h, train_y, test_h, test_y = data()
    peer = KNeighborsClassifier(k, metric="cosine").fit(train_h.numpy(), train_y.numpy())
    predicted = knn_predict(train_h, train_y, test_h, k=k, weighted=False)
    assert predicted.tolist() == peer.predict(test_h.numpy()).tolist()
    accuracy = knn_accuracy(train_h, train_y, test_h, test_y, k=k, weighted=False)
    assert accuracy == pytest.approx(peer.score(test_h.numpy(), test_y.numpy()), abs=1e-12)


@pytest.mark.parametrize("tau", [0.01, 0.07, 1.0])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_weighted_equals_the_loop_in_any_chunk(monkeypatch, tau, k):
    train_h, train_y, test_h, _ = data()
    expected = []
    for x in test_h:
        cosines = [float(x @ r / x.norm() / r.norm()) for r in train_h]
        votes = {}
        for i in sorted(range(len(cosines)), key=lambda i: -cosines[i])[:k]:
            votes[int(train_y[i])] = votes.get(int(train_y[i]), 0.0) + math.exp(cosines[i] / tau)
        expected.append(max(votes, key=votes.get))
    for chunk in (1, 7 * 150, 2 ** 24):
        monkeypatch.setattr(knn, "CHUNK", chunk)
        assert knn_predict(train_h, train_y, test_h, k=k, tau=tau).tolist() == expected


def test_weights_decide_where_counts_would_not():
    train_h = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    y, test_h = torch.tensor([7, 2, 2]), torch.tensor([[1.0, 0.3]])
    assert knn_predict(train_h, y, test_h, k=3, weighted=False).item() == 2
    # exp(1 / 1e-3) is beyond float32
    assert knn_predict(train_h, y, test_h, k=3, tau=1e-3).item() == 7


def test_equal_votes_go_to_the_smaller_label():
    h = torch.eye(2)
    assert knn_predict(h, torch.tensor([9, 4]), torch.tensor([[1.0, 1.0]]), k=2, weighted=False).item() == 4


def test_half_precision_features():
    train_h, train_y, test_h, _ = data()
    coarse = knn_predict(train_h.bfloat16(), train_y, test_h.bfloat16(), k=5)
    assert coarse.equal(knn_predict(train_h.bfloat16().float(), train_y, test_h.bfloat16().float(), k=5))


@pytest.mark.parametrize("change, message", [
    ({"k": 0}, "k must be between 1 and 150"), ({"k": 151}, "k must be between 1 and 150"), ({"tau": 0}, "tau must be"),
    ({"test_h": torch.randn(3, 6)}, "test_h has 6 dimensions, train_h 7"), ({"train_y": torch.zeros(2).long()}, "train_y"),
    ({"train_h": torch.zeros(0, 7)}, "train_h has 0 rows"), ({"test_h": torch.full((1, 7), torch.nan)}, "test_h holds NaN"),
])
def test_bad_input(change, message):
    train_h, train_y, test_h, _ = data()
    arguments = {"train_h": train_h, "train_y": train_y, "test_h": test_h} | change
    with pytest.raises(InputError, match=message):
        knn_predict(**arguments)
