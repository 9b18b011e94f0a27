import math

import numpy as np
import pytest
import torch

from cl_lib.errors import InputError
from cl_lib.evaluation import alignment, anisotropy, effective_rank, singular_spectrum, top_variance_share, uniformity
from cl_lib.losses import streaming


def cloud(n=40, d=5, seed=0, dtype=torch.float64):
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (z * torch.arange(1, d + 1) + 1).to(dtype)


def unit(z):
    return [row / row.norm() for row in z]


@pytest.mark.parametrize("alpha", [0.5, 1, 2, 3])
def test_alignment_is_the_loop(alpha):
    z1, z2 = cloud(), cloud(seed=1)
    expected = sum(float((a - b).norm()) ** alpha for a, b in zip(unit(z1), unit(z2))) / 40
    assert alignment(z1, z2, alpha=alpha) == pytest.approx(expected, abs=1e-12)
    assert alignment(z1, 7 * z1, alpha=alpha) == pytest.approx(0, abs=1e-7)
    assert alignment(z1, -z1) == pytest.approx(4)


@pytest.mark.parametrize("t", [0.5, 2, 50])
def test_uniformity_is_the_loop_in_any_block(monkeypatch, t):
    u = unit(cloud())
    expected = math.log(np.mean([math.exp(-t * float((u[i] - u[j]).norm()) ** 2) for i in range(40) for j in range(i)]))
    for block in (7, 1024):
        monkeypatch.setattr(streaming, "BLOCK", block)
        monkeypatch.setattr(streaming.log_partition, "__kwdefaults__", {"skip": None, "block": block})
        assert uniformity(cloud(), t=t) == pytest.approx(expected, abs=1e-9)
    assert uniformity(torch.ones(9, 3), t=t) == pytest.approx(0, abs=1e-4)


def test_uniformity_does_not_underflow():
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(z, t=100) == pytest.approx(-400, abs=1e-3)


def test_uniformity_of_20000_rows_needs_little_memory(monkeypatch):
    # a matrix of pairs would have 4e8 entries; blocks have at most 2^20
    largest, mm = [0], torch.mm

    def watched(a, b, **keywords):
        largest.append(len(a) * b.shape[1])
        return mm(a, b, **keywords)

    monkeypatch.setattr(torch, "mm", watched)
    z = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    value = uniformity(z)
    assert 0 < max(largest) <= 2 ** 20
    sample = torch.nn.functional.normalize(z[:4000].double(), dim=1)
    assert value == pytest.approx(torch.pdist(sample).square().mul(-2).exp().mean().log().item(), abs=0.02)


def test_anisotropy_is_the_mean_cosine_of_pairs():
    u = unit(cloud())
    expected = np.mean([float(u[i] @ u[j]) for i in range(40) for j in range(40) if i != j])
    assert anisotropy(cloud()) == pytest.approx(expected, abs=1e-12) and abs(expected) > 0.05
    assert anisotropy(torch.eye(6)) == pytest.approx(0, abs=1e-12)
    assert anisotropy(torch.ones(6, 2)) == pytest.approx(1)


@pytest.mark.parametrize("center", [False, True])
def test_spectrum_and_shares_against_the_covariance(center):
    h = cloud().numpy()
    second = np.cov(h.T, bias=True) * 40 if center else h.T @ h
    values = np.sort(np.linalg.eigvalsh(second))[::-1]
    assert np.allclose(singular_spectrum(cloud(), center=center).numpy() ** 2, values, rtol=1e-9)
    for k in (1, 3, 5):
        share = top_variance_share(cloud(), k=k, center=center)
        assert share == pytest.approx(values[:k].sum() / values.sum(), abs=1e-12)
    p = np.sqrt(values) / np.sqrt(values).sum()
    assert effective_rank(cloud(), center=center) == pytest.approx(math.exp(-sum(p * np.log(p))), abs=1e-9)


def test_effective_rank_at_its_ends():
    assert effective_rank(3 * torch.eye(7)) == pytest.approx(7)
    assert effective_rank(torch.outer(torch.arange(1.0, 9), torch.arange(1.0, 4))) == pytest.approx(1, abs=1e-9)
    assert effective_rank(cloud(dtype=torch.bfloat16)) == pytest.approx(effective_rank(cloud()), rel=0.01)


@pytest.mark.parametrize("call, message", [
    (lambda: effective_rank(torch.zeros(3, 2)), "no spread"), (lambda: top_variance_share(torch.full((9, 2), 0.1)), "no spread"),
    (lambda: top_variance_share(cloud(), k=6), "k must be between 1 and 5"), (lambda: uniformity(cloud(1)), "at least 2"),
    (lambda: alignment(cloud(), cloud(39)), "z2 has shape"), (lambda: anisotropy(cloud(1)), "at least 2"),
    (lambda: singular_spectrum(torch.full((2, 2), torch.inf)), "h holds NaN or Inf"), (lambda: uniformity(cloud(), t=0), "t must"),
])
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
