"""Each loss against its definition written as explicit loops, and what it reduces to."""
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_lib import losses
from cl_lib.errors import InputError
from cl_lib.losses import streaming

TAUS = (0.01, 0.07, 1.0)


def draw(n, d=6, seed=0, dtype=torch.float64, views=2):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=g, dtype=dtype).requires_grad_() for _ in range(views)]


def unit(z):
    return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in z.tolist()]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def log_sum_exp(xs):
    top = max(xs)
    return top + math.log(sum(math.exp(x - top) for x in xs))


def loop_pairs(z1, z2, tau, *, decoupled=False, sigma=None):
    z, n = unit(z1) + unit(z2), len(z1)
    pulls = [dot(z[i], z[i + n]) for i in range(n)]
    total = 0.0
    for a in range(2 * n):
        b = (a + n) % (2 * n)
        inside = [c for c in range(2 * n) if c != a and not (decoupled and c == b)]
        w = 1.0 if sigma is None else 2 - math.exp(pulls[a % n] / sigma) / (sum(math.exp(p / sigma) for p in pulls) / n)
        total += log_sum_exp([dot(z[a], z[c]) / tau for c in inside]) - w * dot(z[a], z[b]) / tau
    return total / (2 * n)


def loop_info_nce(q, k, tau, negatives=None, in_batch=True):
    q, k, extra = unit(q), unit(k), unit(negatives) if negatives is not None else []
    total = 0.0
    for i in range(len(q)):
        others = (k if in_batch else [k[i]]) + extra
        total += log_sum_exp([dot(q[i], c) / tau for c in others]) - dot(q[i], k[i]) / tau
    return total / len(q)


def loop_sup_con(z, y, tau):
    z, y = unit(z), y.tolist()
    terms = []
    for i in range(len(z)):
        same = [j for j in range(len(z)) if j != i and y[j] == y[i]]
        if same:
            log_z = log_sum_exp([dot(z[i], z[j]) / tau for j in range(len(z)) if j != i])
            terms.append(log_z - sum(dot(z[i], z[j]) / tau for j in same) / len(same))
    return sum(terms) / len(terms)


def loop_hard(z1, z2, tau, tau_plus, beta):
    z, n = unit(z1) + unit(z2), len(z1)
    total = 0.0
    for a in range(2 * n):
        b = (a + n) % (2 * n)
        s = [dot(z[a], z[c]) / tau for c in range(2 * n) if c not in (a, b)]
        p, m = dot(z[a], z[b]) / tau, len(s)
        top = max(s)
        weighted = sum(math.exp((1 + beta) * x - beta * top) for x in s) / sum(math.exp(beta * (x - top)) for x in s)
        g = max((weighted - tau_plus * math.exp(p)) / (1 - tau_plus), math.exp(-1 / tau))
        total += math.log(math.exp(p) + m * g) - p
    return total / (2 * n)


def loop_clip(zi, zt, tau, targets=None, smoothing=0.0):
    zi, zt, n = unit(zi), unit(zt), len(zi)
    t = [[float(i == j) for j in range(n)] for i in range(n)] if targets is None else targets.tolist()
    total = 0.0
    for i in range(n):
        rows, columns = sum(t[i]), sum(t[j][i] for j in range(n))
        for a, others, weight in ((zi[i], zt, [t[i][j] / rows for j in range(n)]),
                                  (zt[i], zi, [t[j][i] / columns for j in range(n)])):
            s = [dot(a, o) / tau for o in others]
            log_z = log_sum_exp(s)
            total -= sum(((1 - smoothing) * w + smoothing / n) * (x - log_z) for w, x in zip(weight, s, strict=True))
    return total / (2 * n)


def loop_siglip(zi, zt, tau, bias):
    zi, zt, total = unit(zi), unit(zt), 0.0
    for i, a in enumerate(zi):
        for j, b in enumerate(zt):
            x = (dot(a, b) / tau + bias) * (1 if i == j else -1)
            total += max(-x, 0) + math.log1p(math.exp(-abs(x)))
    return total / len(zi)


@pytest.mark.parametrize("method", ["dense", "stream"])
@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("n", [2, 3, 7])
def test_every_loss_is_its_definition(n, tau, method):
    z1, z2 = draw(n)
    y = torch.tensor([i % 3 for i in range(n)] * 2)
    (extra,) = draw(5, seed=9, views=1)
    soft = torch.rand(n, n, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    o = dict(tau=tau, method=method)
    z = torch.cat([z1, z2])
    pairs = {
        "nt_xent": (losses.nt_xent(z1, z2, **o), loop_pairs(z1, z2, tau)),
        "dcl": (losses.dcl(z1, z2, **o), loop_pairs(z1, z2, tau, decoupled=True)),
        "dclw": (losses.dcl(z1, z2, sigma=0.5, **o), loop_pairs(z1, z2, tau, decoupled=True, sigma=0.5)),
        "info_nce": (losses.info_nce(z1, z2, **o), loop_info_nce(z1, z2, tau)),
        "extra": (losses.info_nce(z1, z2, negatives=extra, **o), loop_info_nce(z1, z2, tau, extra)),
        "queue": (losses.info_nce(z1, z2, negatives=extra, in_batch=False, **o), loop_info_nce(z1, z2, tau, extra, False)),
        "sup_con": (losses.sup_con(z, y, **o), loop_sup_con(z, y, tau)),
        "debiased": (losses.debiased(z1, z2, tau_plus=0.1, **o), loop_hard(z1, z2, tau, 0.1, 0.0)),
        "hard": (losses.hard_negative(z1, z2, tau_plus=0.1, beta=0.7, **o), loop_hard(z1, z2, tau, 0.1, 0.7)),
        "clip": (losses.clip(z1, z2, **o), loop_clip(z1, z2, tau)),
        "siglip": (losses.siglip(z1, z2, **o), loop_siglip(z1, z2, tau, -10.0)),
        "siglip bias": (losses.siglip(z1, z2, bias=0.7, **o), loop_siglip(z1, z2, tau, 0.7)),
        "siglip one": (losses.siglip(z1[:1], z2[:1], bias=0.7, **o), loop_siglip(z1[:1], z2[:1], tau, 0.7)),
        "clip soft": (losses.clip(z1, z2, targets=soft, label_smoothing=0.1, **o), loop_clip(z1, z2, tau, soft, 0.1)),
    }
    for name, (got, wanted) in pairs.items():
        assert got.shape == (), name
        assert abs(got.item() - wanted) <= 1e-10 * max(1, abs(wanted)), name


@pytest.mark.parametrize("method", ["dense", "stream"])
@pytest.mark.parametrize("name", ["nt_xent", "dcl", "info_nce", "hard_negative", "debiased", "clip", "siglip"])
def test_gradcheck(name, method):
    z1, z2 = draw(5, 4)
    assert torch.autograd.gradcheck(lambda a, b: getattr(losses, name)(a, b, tau=0.3, method=method), (z1, z2))


@pytest.mark.parametrize("method", ["dense", "stream"])
def test_gradcheck_in_the_temperature(method):
    z1, z2 = draw(4, 3)
    tau = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    each = torch.linspace(0.2, 0.6, 8, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: losses.clip(z1, z2, tau=t, method=method), (tau,))
    assert torch.autograd.gradcheck(lambda t: losses.nt_xent(z1, z2, tau=t, method=method), (tau,))
    bias = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t, b: losses.siglip(z1, z2, tau=t, bias=b, method=method), (tau, bias))
    assert torch.autograd.gradcheck(lambda t: losses.nt_xent(z1, z2, tau=t, method=method), (each,))


def test_supervised_gradcheck_and_reduction_to_nt_xent():
    z1, z2 = draw(5)
    z, y = torch.cat([z1, z2]), torch.arange(5).repeat(2)
    assert torch.autograd.gradcheck(lambda a: losses.sup_con(a, y, tau=0.2, method="stream"), (z,))
    torch.testing.assert_close(losses.sup_con(z, y, tau=0.2), losses.nt_xent(z1, z2, tau=0.2))


def test_core_on_a_matrix_gives_the_named_losses():
    z1, z2 = draw(6)
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    s, other = z @ z.T, ~torch.eye(12, dtype=torch.bool)
    twin = torch.eye(12, dtype=torch.bool).roll(6, 1)
    y = torch.arange(12) % 4
    same = (y[:, None] == y) & other
    close = torch.testing.assert_close
    close(losses.contrast(s, twin, candidates=other, tau=0.2), losses.nt_xent(z1, z2, tau=0.2))
    close(losses.contrast(s, twin, candidates=other, tau=0.2, decoupled=True), losses.dcl(z1, z2, tau=0.2))
    close(losses.contrast(s, same, candidates=other, tau=0.2), losses.sup_con(z, y, tau=0.2))
    each = torch.linspace(0.1, 0.9, 12, dtype=torch.float64)
    close(losses.contrast(s, twin, candidates=other, tau=each), losses.nt_xent(z1, z2, tau=each))
    close(losses.contrast(s, twin, candidates=other, tau=each[:, None].expand(12, 12)), losses.nt_xent(z1, z2, tau=each))
    hard = (0.5 * s / 0.2).exp() * (other & ~twin)
    n = hard.sum(1, keepdim=True) / 10
    weights = torch.where(twin, 1.0, hard / n)
    close(losses.contrast(s, twin, candidates=other, tau=0.2, weights=weights),
          losses.hard_negative(z1, z2, tau=0.2, tau_plus=0.0, beta=0.5))


def test_limits():
    z1, z2 = draw(6)
    close = torch.testing.assert_close
    close(losses.dcl(z1, z2, sigma=1e9), losses.dcl(z1, z2))
    close(losses.debiased(z1, z2, tau_plus=0.0), losses.nt_xent(z1, z2))
    close(losses.hard_negative(z1, z2, beta=0.0), losses.debiased(z1, z2))
    close(losses.clip(z1, z2), (losses.info_nce(z1, z2, tau=0.07) + losses.info_nce(z2, z1, tau=0.07)) / 2)
    same = torch.ones(6, 3, dtype=torch.float64)
    assert losses.nt_xent(same, same).item() == pytest.approx(math.log(11))
    assert losses.info_nce(same, same).item() == pytest.approx(math.log(6))
    far = torch.eye(6, dtype=torch.float64)
    assert losses.dcl(far, far).item() < 0 < losses.nt_xent(far, far, tau=1.0).item()


def test_order_and_direction_do_not_matter():
    z1, z2 = draw(7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    for f in (losses.nt_xent, losses.dcl, losses.hard_negative, losses.clip, losses.siglip):
        torch.testing.assert_close(f(z1[order], z2[order]), f(z1, z2))
        torch.testing.assert_close(f(z2, z1), f(z1, z2))
        torch.testing.assert_close(f(3 * z1, 0.2 * z2), f(z1, z2))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 40), d=st.integers(1, 9), tau=st.sampled_from(TAUS), block=st.integers(1, 50), seed=st.integers(0, 99))
def test_stream_is_dense_at_any_size_and_block(n, d, tau, block, seed):
    from cl_lib.losses import contrastive, streaming

    (z,) = draw(n, d, seed, torch.float64, views=1)
    q = F.normalize(z, dim=1)
    k = F.normalize(z.detach().flip(0), dim=1)
    rows = torch.arange(n)
    for keys, skip in ((q, rows[:, None]), (q, torch.stack([rows, n - 1 - rows], 1)), (k, None), (q, None)):
        if skip is not None and n <= skip.shape[1]:
            continue
        a = contrastive.log_partition(q, keys, tau, skip=skip, method="dense")
        b = streaming.log_partition(q, keys, tau, skip=skip, block=block)
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        weight = torch.linspace(-1, 2, n, dtype=torch.float64)
        ga = torch.autograd.grad((a * weight).sum(), z, retain_graph=True)[0]
        gb = torch.autograd.grad((b * weight).sum(), z, retain_graph=True)[0]
        torch.testing.assert_close(ga, gb, rtol=1e-8, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 40), m=st.integers(1, 40), tau=st.sampled_from(TAUS), bias=st.floats(-12, 3), block=st.integers(1, 50),
       skips=st.integers(0, 3), seed=st.integers(0, 99))
def test_a_streamed_sum_of_softplus_is_dense_at_any_size_and_block(n, m, tau, bias, block, skips, seed):
    from cl_lib.losses import streaming

    g = torch.Generator().manual_seed(seed)
    (q,), (k,) = draw(n, 5, seed, views=1), draw(m, 5, seed + 1, views=1)
    skip = torch.randint(m, (n, skips), generator=g) if skips else None
    each = (tau * (0.5 + torch.rand(n, generator=g, dtype=torch.float64))).requires_grad_()
    b = torch.tensor(bias, dtype=torch.float64, requires_grad=True)
    dense = -F.logsigmoid(-(q @ k.T / each[:, None] + b))
    dense = (dense if skip is None else dense.scatter(1, skip, 0.0)).sum(1)
    ours = streaming.softplus_sum(q, k, each, b, skip=skip, block=block)
    weight = torch.linspace(-1, 2, n, dtype=torch.float64)
    for x, y in zip((dense, *torch.autograd.grad((dense * weight).sum(), (q, k, each, b))),
                    (ours, *torch.autograd.grad((ours * weight).sum(), (q, k, each, b))), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9 / tau)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_temperature_keeps_its_bits_whatever_the_embeddings_are(dtype):
    q, k = (x.detach().to(dtype) for x in draw(5))
    tau = 0.0703  # lies between two numbers of either dtype
    assert torch.equal(streaming.log_partition(q, k, tau), streaming.log_partition(q.float(), k.float(), tau))
    short, same = q / 8, q.float() / 8  # short enough for the symmetric form
    assert torch.equal(streaming.log_partition(short, short, tau), streaming.log_partition(same, same, tau))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_siglip_keeps_what_a_sure_match_leaves(dtype):
    # softplus(x) - x would be 0 here
    z = torch.eye(3, 8)
    for method in ("dense", "stream"):
        value = losses.siglip(z, z, tau=0.02, bias=-10.0, method=method)
        assert value.item() == pytest.approx(2 * math.log1p(math.exp(-10)) + math.exp(-40), rel=1e-5)
        sure = losses.siglip(z[:1], z[:1], tau=0.02, bias=-10.0, method=method)
        assert sure.item() == pytest.approx(math.exp(-40), rel=1e-3)
        half = losses.siglip(z.to(dtype), z.to(dtype), method=method)
        assert half.dtype == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            assert losses.siglip(z, z, method=method).item() == pytest.approx(half.item(), rel=1e-5)


@pytest.mark.parametrize("n", [33, 257])
@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("name", ["nt_xent", "dcl", "info_nce", "hard_negative", "clip", "siglip"])
def test_stream_is_dense_in_float32(name, tau, n):
    z1, z2 = draw(n, 32, dtype=torch.float32)
    found = {}
    for method in ("dense", "stream"):
        value = getattr(losses, name)(z1, z2, tau=tau, method=method)
        found[method] = (value, *torch.autograd.grad(value, (z1, z2)))
    # 1e-6 of the logits' size 1/tau: what float32 leaves of a difference of two numbers of that size
    for number, (a, b) in enumerate(zip(found["dense"], found["stream"], strict=True)):
        scale = max(a.abs().max().item(), 1 / tau if number == 0 else 0)
        assert (a - b).abs().max().item() <= (1e-6 if number == 0 else 5e-6) * scale


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(dtype):
    z1, z2 = draw(9, 16, dtype=torch.float32)
    exact = losses.nt_xent(z1, z2)
    for method in ("dense", "stream"):
        with torch.autocast("cpu", torch.bfloat16):
            assert abs(losses.nt_xent(z1, z2, method=method) - exact) < 1e-5
        half = losses.nt_xent(z1.to(dtype), z2.to(dtype), method=method)
        assert half.dtype == torch.float32 and abs(half - exact) < 0.05


BAD = [
    (lambda z: losses.nt_xent(z, z[:3]), "z2 has shape"),
    (lambda z: losses.nt_xent(z[:1], z[:1]), "z1 has 1 rows"),
    (lambda z: losses.nt_xent(z[:0], z[:0]), "z1 has 0 rows"),
    (lambda z: losses.nt_xent(z[0], z[0]), "z1 must have shape"),
    (lambda z: losses.nt_xent(z, z, tau=0.0), "tau must be a positive"),
    (lambda z: losses.nt_xent(z, z, tau=-1.0), "tau must be a positive"),
    (lambda z: losses.nt_xent(z, z, tau=float("nan")), "tau must be a positive"),
    (lambda z: losses.nt_xent(z, z, tau=torch.ones(3)), "tau must be a number or have shape"),
    (lambda z: losses.nt_xent(z * float("nan"), z), "z1 holds NaN"),
    (lambda z: losses.nt_xent(z, z / 0), "z2 holds NaN or Inf"),
    (lambda z: losses.nt_xent(z.long(), z.long()), "z1 must be a floating"),
    (lambda z: losses.nt_xent(z, z, method="sparse"), "unknown method"),
    (lambda z: losses.dcl(z, z, sigma=0), "sigma must be a positive"),
    (lambda z: losses.info_nce(z, z, in_batch=False), "needs negatives"),
    (lambda z: losses.info_nce(z, z, negatives=z[:, :2]), "negatives have 2 dimensions"),
    (lambda z: losses.sup_con(z, torch.arange(4)), "no label stands twice"),
    (lambda z: losses.sup_con(z, torch.zeros(3, dtype=torch.long)), "y must be an integer tensor"),
    (lambda z: losses.debiased(z, z, tau_plus=1.0), "tau_plus must be in"),
    (lambda z: losses.hard_negative(z, z, beta=-1.0), "beta must be in"),
    (lambda z: losses.clip(z, z, label_smoothing=1.5), "label_smoothing must be in"),
    (lambda z: losses.clip(z, z, targets=torch.zeros(4, 4)), "targets must be non-negative"),
    (lambda z: losses.siglip(z, z[:2]), "zt has shape"),
    (lambda z: losses.siglip(z, z, tau=torch.ones(4)), "tau must be a number"),
    (lambda z: losses.siglip(z, z, bias=torch.ones(4)), "bias must be one number"),
    (lambda z: losses.siglip(z, z, bias=float("nan")), "bias must be a finite number"),
    (lambda z: losses.siglip(z, z, method="loop"), "unknown method"),
    (lambda z: losses.contrast(z, torch.zeros(4, 4)), "positive has shape"),
    (lambda z: losses.contrast(z @ z.T, torch.zeros(4, 4)), "no anchor"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_named(call, message):
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=message):
        call(z)
