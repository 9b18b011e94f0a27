import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import BarlowTwinsLoss, VICRegLoss
from lightly.loss.hypersphere_loss import HypersphereLoss

from cl_lib.errors import InputError
from cl_lib.losses.distillation import cosine_regression
from cl_lib.losses.redundancy import align_loss, barlow_twins, uniform_loss, vicreg


def views(n=7, d=5, seed=0, scale=1.0):
    g = torch.Generator().manual_seed(seed)
    z1 = torch.randn(n, d, generator=g, dtype=torch.float64)
    z2 = z1 + torch.randn(n, d, generator=g, dtype=torch.float64)
    return (scale * z1 + 0.3).requires_grad_(), (scale * z2).requires_grad_()


def gradients(loss, *zs):
    return torch.autograd.grad(loss, zs)


def column(z, a):
    return [float(v) for v in z[:, a]]


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize("alpha", [0.5, 1, 2, 3])
def test_align_is_the_loop(alpha):
    z1, z2 = views()
    loop = mean([float((a / a.norm() - b / b.norm()).norm()) ** alpha for a, b in zip(z1.detach(), z2.detach())])
    assert align_loss(z1, z2, alpha=alpha).item() == pytest.approx(loop, abs=1e-12)
    assert torch.autograd.gradcheck(lambda a, b: align_loss(a, b, alpha=alpha), (z1, z2))


@pytest.mark.parametrize("alpha", [1, 1.5, 2])
def test_align_of_views_that_coincide_has_finite_gradients(alpha):
    z1, z2 = views()
    both = torch.cat([z1[:2], z2[2:]])
    grad, = gradients(align_loss(z1, both, alpha=alpha), z1)
    assert torch.isfinite(grad).all() and grad[2:].abs().sum() > 0
    assert align_loss(z1, 2 * z1, alpha=alpha).item() == pytest.approx(0, abs=1e-12)


def test_align_is_cosine_regression():
    z1, z2 = views()
    assert align_loss(z1, z2).item() == pytest.approx(2 + 2 * cosine_regression(z1, z2).item(), abs=1e-12)


@pytest.mark.parametrize("method", ["dense", "stream"])
@pytest.mark.parametrize("t", [0.3, 2, 60])
def test_uniform_is_the_loop(t, method):
    z, _ = views(9)
    u = [row / row.norm() for row in z]
    loop = math.log(mean([math.exp(-t * float((u[i] - u[j]).norm()) ** 2) for i in range(9) for j in range(i)]))
    assert uniform_loss(z, t=t, method=method).item() == pytest.approx(loop, abs=1e-10)
    assert torch.autograd.gradcheck(lambda z: uniform_loss(z, t=t, method=method), (z,))


def test_uniform_knows_neither_order_nor_length_nor_rotation():
    z, _ = views(9)
    value = uniform_loss(z).item()
    assert uniform_loss(z.flip(0)).item() == pytest.approx(value, abs=1e-12)
    assert uniform_loss(z * torch.arange(1, 10)[:, None]).item() == pytest.approx(value, abs=1e-12)
    rotation = torch.linalg.qr(views(5)[0])[0]
    assert uniform_loss(z @ rotation).item() == pytest.approx(value, abs=1e-12)
    assert uniform_loss(torch.ones(4, 3)).item() == pytest.approx(0, abs=1e-6)


def test_align_and_uniform_equal_lightly():
    z1, z2 = views(16, 8)
    ours = align_loss(z1, z2, alpha=3) + 0.7 * (uniform_loss(z1, t=1.5) + uniform_loss(z2, t=1.5)) / 2
    theirs = HypersphereLoss(t=1.5, lam=0.7, alpha=3)(z1, z2)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-12)
    for a, b in zip(gradients(ours, z1, z2), gradients(theirs, z1, z2)):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [2, 7])
@pytest.mark.parametrize("lambd", [0.0, 5e-3, 0.5])
def test_barlow_is_the_loop(lambd, n):
    z1, z2 = views(n, 4)

    def standard(z, a):
        values = column(z, a)
        m = mean(values)
        s = math.sqrt(mean([(v - m) ** 2 for v in values]) + 1e-5)
        return [(v - m) / s for v in values]

    loop = 0.0
    for a in range(4):
        for b in range(4):
            c = mean([p * q for p, q in zip(standard(z1, a), standard(z2, b))])
            loop += (1 - c) ** 2 if a == b else lambd * c ** 2
    assert barlow_twins(z1, z2, lambd=lambd).item() == pytest.approx(loop, abs=1e-10)
    # with two rows every correlation is +-1 and the gradient is nearly 0
    assert torch.autograd.gradcheck(lambda a, b: barlow_twins(a, b, lambd=lambd), (z1, z2))


def test_barlow_is_zero_for_decorrelated_twins_and_d_for_constants():
    z = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert barlow_twins(z, 5 * z + 3).item() == pytest.approx(0, abs=1e-9)
    assert barlow_twins(z[:, :2], -z[:, :2], lambd=0).item() == pytest.approx(8, abs=1e-3)
    constant = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    loss = barlow_twins(constant, z)
    assert loss.item() == 3 and torch.isfinite(gradients(loss, constant)[0]).all()


@pytest.mark.parametrize("n", [2, 7])
@pytest.mark.parametrize("weights", [(25, 25, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_vicreg_is_the_loop(weights, n):
    inv, var, cov = weights
    z1, z2 = views(n, 4, scale=0.6)

    def covariance(z, a, b):
        x, y = column(z, a), column(z, b)
        return sum((p - mean(x)) * (q - mean(y)) for p, q in zip(x, y)) / (n - 1)

    loop = inv * mean([float(z1[i, a] - z2[i, a]) ** 2 for i in range(n) for a in range(4)])
    for z in (z1, z2):
        loop += var / 2 * mean([max(0.0, 1 - math.sqrt(covariance(z, a, a) + 1e-4)) for a in range(4)])
        loop += cov / 4 * sum(covariance(z, a, b) ** 2 for a in range(4) for b in range(4) if a != b)
    assert loop > 0
    assert vicreg(z1, z2, inv=inv, var=var, cov=cov).item() == pytest.approx(loop, abs=1e-10)
    assert torch.autograd.gradcheck(lambda a, b: vicreg(a, b, inv=inv, var=var, cov=cov), (z1, z2))


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("ours, theirs", [
    (barlow_twins, BarlowTwinsLoss()), (lambda a, b: barlow_twins(a, b, lambd=0.3), BarlowTwinsLoss(0.3)),
    (vicreg, VICRegLoss()), (lambda a, b: vicreg(a, b, inv=2, var=3, cov=4), VICRegLoss(2, 3, 4)),
])
def test_equals_lightly(ours, theirs, scale):
    z1, z2 = views(32, 12, scale=scale)
    a, b = ours(z1, z2), theirs(z1, z2)
    assert a.item() == pytest.approx(b.item(), rel=1e-10)
    for p, q in zip(gradients(a, z1, z2), gradients(b, z1, z2)):
        assert torch.allclose(p, q, rtol=1e-8, atol=1e-12 * q.abs().max().item())


@pytest.mark.parametrize("loss", [align_loss, barlow_twins, vicreg, lambda a, b: uniform_loss(a) + uniform_loss(b)])
def test_low_precision(loss):
    z1, z2 = (z.detach() for z in views(64, 16))
    exact = loss(z1, z2).item()
    assert loss(z1.float(), z2.float()).item() == pytest.approx(exact, rel=1e-5)
    half = [z.bfloat16() for z in (z1, z2)]
    assert loss(*half).item() == pytest.approx(loss(*(z.double() for z in half)).item(), rel=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(z1.float(), z2.float()).item() == pytest.approx(exact, rel=1e-5)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert loss(z1[order], z2[order]).item() == pytest.approx(exact, abs=1e-10)
    assert loss(z2, z1).item() == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize("loss", [align_loss, barlow_twins, vicreg])
@pytest.mark.parametrize("z1, z2, message", [
    (torch.ones(3, 2), torch.ones(4, 2), "z2 has shape"), (torch.ones(0, 2), torch.ones(0, 2), "z1 has 0 rows"),
    (torch.ones(3), torch.ones(3), "z1 must have shape"), (torch.ones(3, 2), torch.full((3, 2), torch.nan), "z2 holds NaN"),
])
def test_bad_embeddings(loss, z1, z2, message):
    with pytest.raises(InputError, match=message):
        loss(z1, z2)


@pytest.mark.parametrize("call, message", [
    (lambda z: barlow_twins(z[:1], z[:1]), "z1 has 1 rows"), (lambda z: vicreg(z[:1], z[:1]), "z1 has 1 rows"),
    (lambda z: uniform_loss(z[:1]), "z has 1 rows"), (lambda z: uniform_loss(z, t=0), "t must be"),
    (lambda z: align_loss(z, z, alpha=-1), "alpha must be"), (lambda z: barlow_twins(z, z, lambd=-1), "lambd must be"),
    (lambda z: vicreg(z, z, cov=math.nan), "cov must be"), (lambda z: uniform_loss(z, method="dens"), "did you mean 'dense'"),
])
def test_bad_numbers(call, message):
    with pytest.raises(InputError, match=message):
        call(F.normalize(views()[0].detach()))
