from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from cl_lib.errors import InputError
from cl_lib.evaluation import ari, cluster_accuracy, kmeans, nmi


def partitions(classes, clusters, n=60, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (n,), generator=g)
    a = torch.where(torch.rand(n, generator=g) < 0.6, y % clusters, torch.randint(0, clusters, (n,), generator=g))
    return y * 5 - 9, a * 3 + 100


@pytest.mark.parametrize("classes, clusters", [(4, 4), (3, 5), (5, 3), (4, 1)])
def test_accuracy_is_the_best_of_all_matchings(classes, clusters):
    y, a = partitions(classes, clusters)
    labels, names = y.unique().tolist(), a.unique().tolist()
    names += [None] * (len(labels) - len(names))
    best = max(sum(((a == c) & (y == v)).sum().item() for c, v in zip(chosen, labels) if c is not None)
               for chosen in permutations(names, len(labels)))
    assert cluster_accuracy(y, a) == pytest.approx(best / 60, abs=1e-12)


def test_nmi_and_ari():
    y, a = partitions(4, 5)
    assert nmi(y, a) == pytest.approx(normalized_mutual_info_score(y, a)) and 0 < nmi(y, a) < 1
    assert ari(y, a) == pytest.approx(adjusted_rand_score(y, a)) and 0 < ari(y, a) < 1
    counts = np.array([[((y == v) & (a == c)).sum() for c in a.unique()] for v in y.unique()]) / 60
    rows, columns = counts.sum(1), counts.sum(0)
    mutual = sum(p * np.log(p / (rows[i] * columns[j])) for (i, j), p in np.ndenumerate(counts) if p)
    entropy = -(rows @ np.log(rows) + columns @ np.log(columns)) / 2
    assert nmi(y, a) == pytest.approx(mutual / entropy, abs=1e-12)
    for metric in (cluster_accuracy, nmi, ari):
        assert metric(y, -y) == pytest.approx(1)


def test_kmeans_is_a_fixed_point_and_seeded():
    z = torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for normalize in (True, False):
        x = torch.nn.functional.normalize(z, dim=1) if normalize else z
        assignment, centers = kmeans(z, 5, seed=3, restarts=4, normalize=normalize)
        assert assignment.equal(torch.cdist(x, centers).argmin(1))
        for c in range(5):
            assert torch.allclose(centers[c], x[assignment == c].mean(0), atol=1e-9)
        peer = KMeans(5, n_init=4, random_state=3).fit(x.numpy())
        assert (x - centers[assignment]).square().sum().item() == pytest.approx(peer.inertia_)
        assert kmeans(z, 5, seed=3, restarts=4, normalize=normalize)[0].equal(assignment)


def test_kmeans_finds_separate_directions():
    y = torch.arange(90) % 3
    z = torch.eye(3)[y] + 0.1 * torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    scale = torch.logspace(-2, 2, 90)[:, None]
    assert cluster_accuracy(y, kmeans(z * scale, 3, seed=0)[0]) == 1
    assert cluster_accuracy(y, kmeans(z * scale, 3, seed=0, normalize=False)[0]) < 1


@pytest.mark.parametrize("call, message", [
    (lambda: kmeans(torch.randn(3, 2), 4, seed=0), "k must be between 1 and 3"),
    (lambda: cluster_accuracy(torch.zeros(3).long(), torch.zeros(2).long()), "assignment must be"),
    (lambda: nmi(torch.zeros(0).long(), torch.zeros(0).long()), "y is empty"), (lambda: ari(torch.zeros(3), torch.zeros(3)), "y must"),
])
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
