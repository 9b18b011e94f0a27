import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cl_lib.errors import InputError
from cl_lib.losses import contrastive
from cl_lib.momentum import momentum_contrast
from cl_lib.training import batches, generator
from cl_lib.views.image import two_views

IMAGES, TAU, LR, EMA = 11, 0.3, 0.01, 0.9


def pictures():
    return torch.rand(IMAGES, 1, 4, 4, generator=torch.Generator().manual_seed(5))


def network(d=3):
    torch.manual_seed(7)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, d))


def noisy(x, g):
    return x + 0.2 * torch.randn(x.shape, generator=g)


def moco(step):
    return contrastive.info_nce(step.q, step.k, negatives=step.queue, in_batch=False, tau=TAU)


def fit(model, loss=moco, **changes):
    settings = dict(seed=3, steps=2, batch=4, lr=LR, d=3, queue=6, view=noisy, momentum=EMA) | changes
    return momentum_contrast(model, pictures(), loss, **settings)


def by_hand(model, symmetric, steps=2, batch=4, size=6):
    """MoCo written out: one query, one key, one negative at a time; lists for a queue; the teacher's weights by name."""
    x, order, g = pictures(), batches(IMAGES, 4, generator(3)), generator(3, stream=1)
    teacher = copy.deepcopy(model).train()
    held = list(F.normalize(torch.randn(size, 3, generator=torch.Generator().manual_seed(3)), dim=1))
    owners, seen, history = [-1] * size, [], []
    model.train()
    groups = [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 1e-4},
              {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR)  # of two steps both have the full learning rate
    for _ in range(steps):
        index = next(order)
        v1 = noisy(x[index], g)
        v2 = noisy(x[index], g)
        with torch.no_grad():
            k1 = teacher(v1) if symmetric else None
            k2 = teacher(v2)
        terms = []
        for v, k in [(v1, k2), (v2, k1)][:2 if symmetric else 1]:
            q = model(v)
            for i in range(batch):
                qi, ki = q[i] / q[i].norm(), k[i] / k[i].norm()
                scores = [torch.exp(qi @ n / TAU) for n in held]
                terms.append(-torch.log(torch.exp(qi @ ki / TAU) / (torch.exp(qi @ ki / TAU) + sum(scores))))
        loss = sum(terms) / len(terms)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
        seen.append((list(owners), torch.stack(held)))
        with torch.no_grad():
            theirs = dict(model.named_parameters())
            for name, p in teacher.named_parameters():
                p.copy_(EMA * p + (1 - EMA) * theirs[name])
        for i, z in zip(index.tolist(), k2, strict=True):
            held, owners = [*held[1:], z / z.norm()], [*owners[1:], i]
    return history, seen


@pytest.mark.parametrize("symmetric", [False, True])
def test_two_steps_equal_mocos_algorithm_written_out(symmetric):
    ours, theirs, met = network(), network(), []
    start = copy.deepcopy(ours.state_dict())

    def loss(step):
        met.append((step.owners.tolist(), step.queue))
        return moco(step)

    history = fit(ours, loss, symmetric=symmetric)
    expected, seen = by_hand(theirs, symmetric)
    assert history == pytest.approx(expected, abs=1e-5)
    each = 2 if symmetric else 1
    assert len(met) == 2 * each
    for number, (owners, queue) in enumerate(met):
        assert owners == seen[number // each][0] and torch.allclose(queue, seen[number // each][1], atol=1e-5)
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-4), name
    assert not torch.allclose(ours[1].weight, start["1.weight"], atol=1e-3)


def test_the_queue_holds_earlier_keys_and_whose_they_are():
    met = []

    def loss(step):
        met.append(step)
        return moco(step)

    fit(network(), loss, steps=4)
    assert met[0].owners.tolist() == [-1] * 6 and met[1].owners.tolist() == [-1, -1, *met[0].index.tolist()]
    assert met[2].owners.tolist() == [*met[0].index.tolist()[2:], *met[1].index.tolist()]
    assert torch.allclose(met[1].queue[2:], met[0].k) and torch.allclose(met[1].queue[:2], met[0].queue[4:])
    assert torch.allclose(met[3].queue, torch.cat([met[1].k[2:], met[2].k]))
    assert [step.number for step in met] == [0, 1, 2, 3]
    for step in met:
        assert all(torch.allclose(z.norm(dim=1), torch.ones(len(z)), atol=1e-5) for z in (step.q, step.k, step.queue))


def test_only_the_queries_carry_a_gradient_and_the_teacher_stays_behind():
    kept = []

    def loss(step):
        assert step.q.requires_grad and not (step.k.requires_grad or step.queue.requires_grad)
        kept.append(step.k)
        return moco(step)

    for momentum in (0.0, 1.0):
        kept.clear()
        model = network()
        frozen = copy.deepcopy(model).train()
        fit(model, loss, momentum=momentum, steps=3, batch=IMAGES, lr=0.05)
        g = generator(3, stream=1)
        order = batches(IMAGES, IMAGES, generator(3))
        views = [two_views(pictures()[next(order)], g, noisy)[1] for _ in range(3)]
        same = [torch.allclose(F.normalize(frozen(v), dim=1), k, atol=1e-5) for v, k in zip(views, kept, strict=True)]
        assert same == ([True] * 3 if momentum else [True, False, False])


def test_a_seed_fixes_everything_and_the_global_state_is_left_alone():
    first, second, third = network(), network(), network()
    torch.manual_seed(1)
    a = fit(first, steps=3)
    after = torch.get_rng_state()
    torch.manual_seed(2)
    assert fit(second, steps=3) == a and fit(third, steps=3, seed=4) != a
    assert all(p.equal(q) for p, q in zip(first.parameters(), second.parameters(), strict=True))
    torch.manual_seed(1)
    assert torch.get_rng_state().equal(after)


def test_the_hook_runs_after_each_step():
    calls = []
    history = fit(network(), steps=3, after_step=lambda step, value: calls.append((step, value)))
    assert calls == list(enumerate(history))


@pytest.mark.parametrize(("changes", "message"), [
    (dict(queue=0), "size must be"), (dict(d=0), "d must be"), (dict(d=4), "4 dimensions"), (dict(batch=12), "batch size must be in 1..11"),
    (dict(steps=0), "steps must be >= 1"), (dict(momentum=1.5), r"momentum must be in \[0, 1\]"),
])
def test_bad_input_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        fit(network(), **changes)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_lies_on_one_device():
    def loss(step):
        assert {t.device.type for t in step if torch.is_tensor(t)} == {"cuda"}
        return moco(step)

    model = network().cuda()
    momentum_contrast(model, pictures().cuda(), loss, seed=3, steps=2, batch=4, lr=LR, d=3, queue=6, view=lambda x, g: x)
