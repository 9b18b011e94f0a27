"""Experts: routing and the layer against loops over tokens, one expert as one MLP, limits of the entropies, gradients."""
import math

import pytest
import torch
import torch.nn.functional as F

from cl_lib.encoders.experts import (
    Experts, assign, entropy, global_entropy, importance_loss, load_loss, local_entropy, z_loss,
)
from cl_lib.errors import InputError


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("priority", [True, False])
def test_assign_is_a_loop_over_tokens(priority):
    p = draw(40, 4).softmax(1)
    expert, place, kept = assign(p, 7, priority=priority)
    order = sorted(range(40), key=lambda i: -p[i].max().item()) if priority else range(40)
    queues = [[] for _ in range(4)]
    for i in order:
        queues[p[i].argmax()].append(i)
    for e, queue in enumerate(queues):
        assert [i for i in range(40) if expert[i] == e] == sorted(queue)
        assert [place[i].item() for i in queue] == list(range(len(queue)))
        assert [i for i in queue if kept[i]] == queue[:7]
    assert not kept.all()


@pytest.mark.parametrize("ratio", [0.5, 1.05, 8.0])
def test_layer_is_its_definition(ratio):
    m = Experts(6, 10, 4, ratio=ratio, seed=0).double()
    x = draw(30, 6)
    out, routing = m(x)
    for i in range(30):
        e, p = routing.expert[i], (x[i] @ m.router.weight.T).softmax(0)
        want = p[e] * (F.gelu(x[i] @ m.w1[e] + m.b1[e, 0]) @ m.w2[e] + m.b2[e, 0]) if routing.kept[i] else torch.zeros(6)
        assert e == p.argmax() and torch.allclose(out[i], want.double(), rtol=0, atol=1e-12)
    assert routing.kept.all() == (ratio == 8.0)
    assert torch.bincount(routing.expert[routing.kept], minlength=4).max() <= math.ceil(ratio * 30 / 4)
    assert torch.autograd.gradcheck(lambda v: m(v)[0], (x.clone().requires_grad_(),), atol=1e-6)
    m(x)[0].sum().backward()
    assert m.router.weight.grad.abs().sum() > 0


def test_one_expert_is_one_mlp_and_order_is_free_with_room():
    m = Experts(6, 10, 1, ratio=1.0, seed=0).double()
    x = draw(12, 6)
    assert torch.allclose(m(x)[0], F.gelu(x @ m.w1[0] + m.b1[0]) @ m.w2[0] + m.b2[0])
    many, order = Experts(6, 10, 4, ratio=4.0, seed=0).double(), torch.randperm(12, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(many(x)[0][order], many(x[order])[0])
    first, again = (Experts(6, 10, 4, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[k], again[k]) for k in first)


def test_entropies_at_their_limits():
    n = 8
    even, sure = torch.zeros(32, n, dtype=torch.float64), 1e4 * torch.eye(n, dtype=torch.float64).repeat(4, 1)
    collapsed = sure[:1].repeat(32, 1)
    for logits, each, mean in ((even, math.log(n), math.log(n)), (sure, 0, math.log(n)), (collapsed, 0, 0)):
        assert local_entropy(logits).item() == pytest.approx(each, abs=1e-12)
        assert global_entropy(logits).item() == pytest.approx(mean, abs=1e-12)
    assert importance_loss(even).item() == pytest.approx(0, abs=1e-12) == importance_loss(sure).item()
    assert importance_loss(collapsed).item() == pytest.approx(n - 1)  # all of it on one of n
    assert z_loss(even).item() == pytest.approx(math.log(n) ** 2)
    assert entropy(torch.tensor([0.5, 0.5, 0.0])).item() == pytest.approx(math.log(2))


def test_load_loss_counts_what_noise_would_do():
    logits, noise = draw(20, 4), draw(20, 4, seed=1)
    expected = torch.zeros(4, dtype=torch.float64)
    for z, e in zip(logits, noise, strict=True):
        bar = max((z + e / 4).tolist())
        for k in range(4):
            expected[k] += 0.5 * math.erfc((bar - z[k].item()) * 4 / math.sqrt(2))
    want = ((expected - expected.mean()) ** 2).mean() / expected.mean() ** 2
    assert torch.allclose(load_loss(logits, noise), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", [local_entropy, global_entropy, importance_loss, z_loss, lambda z: load_loss(z, draw(9, 3, seed=2))])
def test_gradients(loss):
    assert torch.autograd.gradcheck(loss, (draw(9, 3).requires_grad_(),))


def test_what_is_refused():
    for wrong in (dict(experts=0), dict(experts=2, ratio=0)):
        with pytest.raises(InputError):
            Experts(4, 4, **wrong)
    with pytest.raises(InputError):
        assign(torch.ones(3, 2), 0)
