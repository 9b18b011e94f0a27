import math

import pytest
import torch
from lightly.loss import DINOLoss, NegativeCosineSimilarity, SwaVLoss
from lightly.loss.swav_loss import sinkhorn as lightly_sinkhorn

from cl_lib.errors import InputError
from cl_lib.losses.distillation import cosine_regression, sharpened_cross_entropy, sinkhorn, sinkhorn_cross_entropy


def scores(n=6, c=4, seed=0, scale=1.0):
    g = torch.Generator().manual_seed(seed)
    a, b = scale * torch.randn(2, n, c, generator=g, dtype=torch.float64)
    return a.requires_grad_(), b.requires_grad_()


def softmax(row, tau):
    top = max(row)
    e = [math.exp((v - top) / tau) for v in row]
    return [v / sum(e) for v in e]


def cross_entropy(target, row, tau):
    top = max(row)
    log_z = top / tau + math.log(sum(math.exp((v - top) / tau) for v in row))
    return -sum(t * (v / tau - log_z) for t, v in zip(target, row))


def assert_same(ours, theirs, *zs, rel=1e-9):
    assert ours.item() == pytest.approx(theirs.item(), rel=rel)
    for a, b in zip(torch.autograd.grad(ours, zs, retain_graph=True), torch.autograd.grad(theirs, zs, retain_graph=True)):
        assert torch.allclose(a, b, rtol=rel, atol=1e-12 * b.abs().max().item())


def test_cosine_is_the_loop():
    p, z = scores()
    loop = -sum(float(a @ b / a.norm() / b.norm()) for a, b in zip(p, z)) / 6
    assert cosine_regression(p, z).item() == pytest.approx(loop, abs=1e-12)
    assert torch.autograd.gradcheck(lambda p: cosine_regression(p, z), (p,))


def test_cosine_equals_lightly_and_byol():
    p, z = scores()
    ours = cosine_regression(p, z)
    assert_same(ours, NegativeCosineSimilarity()(p, z.detach()), p)
    byol = (p / p.norm(dim=1, keepdim=True) - (z / z.norm(dim=1, keepdim=True)).detach()).square().sum(1).mean()
    assert_same(2 + 2 * ours, byol, p)


@pytest.mark.parametrize("tau_s, tau_t", [(0.1, 0.04), (1.0, 1.0), (0.01, 0.01)])
def test_sharpened_is_the_loop(tau_s, tau_t):
    student, teacher = scores()
    center = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64)
    loop = 0.0
    for s, t in zip(student.tolist(), teacher.tolist()):
        target = softmax([v - c for v, c in zip(t, center.tolist())], tau_t)
        loop += cross_entropy(target, s, tau_s) / 6
    ours = sharpened_cross_entropy(student, teacher, tau_s=tau_s, tau_t=tau_t, center=center)
    assert ours.item() == pytest.approx(loop, rel=1e-10)
    assert torch.autograd.gradcheck(
        lambda s: sharpened_cross_entropy(s, teacher, tau_s=tau_s, tau_t=tau_t, center=center), (student,), eps=1e-7)


def test_sharpened_equals_lightly():
    # two teacher views and three student views: the mean over pairs of different views
    students = [z for seed in (1, 2) for z in scores(8, 5, seed)][:3]
    teachers = list(scores(8, 5, 3))
    theirs = DINOLoss(5, teacher_temp=0.07, student_temp=0.2)
    theirs.center += torch.linspace(-1, 1, 5)
    center = theirs.center.flatten().clone()
    pairs = [sharpened_cross_entropy(s, t, tau_s=0.2, tau_t=0.07, center=center)
             for i, t in enumerate(teachers) for j, s in enumerate(students) if i != j]
    with torch.no_grad():
        fixed = [t.clone() for t in teachers]
    assert_same(sum(pairs) / len(pairs), theirs(fixed, students), *students, rel=1e-6)


def test_a_constant_added_to_scores_changes_nothing():
    student, teacher = scores()
    value = sharpened_cross_entropy(student, teacher).item()
    assert sharpened_cross_entropy(student + 100, teacher - 50, center=7.0).item() == pytest.approx(value, abs=1e-9)
    uniform = sharpened_cross_entropy(torch.zeros(6, 4), teacher.float())
    assert uniform.item() == pytest.approx(math.log(4), abs=1e-6)


@pytest.mark.parametrize("iterations", [1, 3, 30])
@pytest.mark.parametrize("epsilon", [0.05, 1.0])
def test_sinkhorn_is_the_loop(iterations, epsilon):
    s, _ = scores()
    q = [[math.exp(v / epsilon) for v in row] for row in s.tolist()]
    for _ in range(iterations):
        for c in range(4):
            total = sum(row[c] for row in q)
            for row in q:
                row[c] /= total
        q = [[v / sum(row) for v in row] for row in q]
    found = sinkhorn(s, epsilon=epsilon, iterations=iterations)
    assert torch.allclose(found, torch.tensor(q, dtype=torch.float64), rtol=1e-10, atol=1e-14)
    assert torch.allclose(found, lightly_sinkhorn(s.detach(), iterations, epsilon), rtol=1e-10, atol=1e-14)
    assert not found.requires_grad


def test_sinkhorn_balances():
    s, _ = scores(40, 5)
    s = s + torch.tensor([3.0, 0, 0, 0, 0])
    q = sinkhorn(s, epsilon=0.5, iterations=500)
    assert torch.allclose(q.sum(1), torch.ones(40).double(), atol=1e-12)
    assert torch.allclose(q.sum(0), torch.full((5,), 8.0).double(), atol=1e-9)
    assert (torch.softmax(s / 0.5, 1).sum(0)[0] > 30) and torch.isfinite(sinkhorn(100 * s.float(), epsilon=0.01)).all()


def test_sinkhorn_cross_entropy_is_the_loop():
    s1, s2 = scores()
    q1, q2 = sinkhorn(s1).tolist(), sinkhorn(s2).tolist()
    loop = sum(cross_entropy(q2[i], s1[i].tolist(), 0.3) + cross_entropy(q1[i], s2[i].tolist(), 0.3) for i in range(6)) / 12
    assert sinkhorn_cross_entropy(s1, s2, tau=0.3).item() == pytest.approx(loop, abs=1e-10)
    assert sinkhorn_cross_entropy(s2, s1, tau=0.3).item() == pytest.approx(loop, abs=1e-10)
    # the codes are constants: the gradient is that of the cross-entropies alone
    codes = torch.tensor(q1, dtype=torch.float64), torch.tensor(q2, dtype=torch.float64)
    fixed = -((codes[1] * (s1 / 0.3).log_softmax(1)).sum() + (codes[0] * (s2 / 0.3).log_softmax(1)).sum()) / 12
    assert_same(sinkhorn_cross_entropy(s1, s2, tau=0.3), fixed, s1, s2)
    probabilities = (s1 / 0.3).softmax(1)
    grad, = torch.autograd.grad(sinkhorn_cross_entropy(s1, s2, tau=0.3), s1)
    assert torch.allclose(grad, (probabilities - codes[1]) / (12 * 0.3), atol=1e-12)


@pytest.mark.parametrize("queue", [False, True])
@pytest.mark.parametrize("tau, epsilon", [(0.1, 0.05), (0.01, 0.5), (1.0, 1.0)])
def test_sinkhorn_cross_entropy_equals_lightly(queue, tau, epsilon):
    s1, s2 = scores(9, 5)
    queues = [q.detach() for q in scores(12, 5, seed=1)] if queue else [None, None]
    ours = sinkhorn_cross_entropy(s1, s2, tau=tau, epsilon=epsilon, queue1=queues[0], queue2=queues[1])
    theirs = SwaVLoss(tau, sinkhorn_epsilon=epsilon)([s1, s2], [], queues if queue else None)
    assert_same(ours, theirs, s1, s2)
    if queue:
        assert ours.item() != pytest.approx(sinkhorn_cross_entropy(s1, s2, tau=tau, epsilon=epsilon).item(), abs=1e-6)


@pytest.mark.parametrize("loss", [cosine_regression, sharpened_cross_entropy, sinkhorn_cross_entropy])
def test_low_precision_and_order(loss):
    a, b = (z.detach() for z in scores(33, 12))
    exact = loss(a, b).item()
    assert loss(a.float(), b.float()).item() == pytest.approx(exact, rel=1e-4)
    half = a.bfloat16(), b.bfloat16()
    assert loss(*half).item() == pytest.approx(loss(*(z.double() for z in half)).item(), rel=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(a.float(), b.float()).item() == pytest.approx(exact, rel=1e-4)
    assert loss(a.flip(0), b.flip(0)).item() == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize("loss", [cosine_regression, sharpened_cross_entropy])
def test_no_gradient_reaches_the_target(loss):
    a, b = scores()
    loss(a, b).backward()
    assert b.grad is None and a.grad.abs().sum() > 0


@pytest.mark.parametrize("call, message", [
    (lambda a, b: cosine_regression(a, b[:3]), "z has shape"), (lambda a, b: cosine_regression(a, b / 0), "z holds NaN"),
    (lambda a, b: sharpened_cross_entropy(a, b, tau_t=0), "tau_t must be"), (lambda a, b: sharpened_cross_entropy(a, b, tau_s=-1), "tau_s"),
    (lambda a, b: sharpened_cross_entropy(a, b, center=torch.zeros(3)), "center must"),
    (lambda a, b: sharpened_cross_entropy(a, b[:, :3]), "teacher has shape"), (lambda a, b: sinkhorn(a[:0]), "scores has 0 rows"),
    (lambda a, b: sinkhorn(a, epsilon=0), "epsilon must be"), (lambda a, b: sinkhorn(a, iterations=0), "iterations must be"),
    (lambda a, b: sinkhorn_cross_entropy(a, b[:2]), "s2 has shape"), (lambda a, b: sinkhorn_cross_entropy(a, b, tau=0), "tau must be"),
    (lambda a, b: sinkhorn_cross_entropy(a, b, queue1=b[:, :2]), "queue1 has 2 prototypes"),
])
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call(*(z.detach() for z in scores()))
