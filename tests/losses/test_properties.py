"""What holds for losses at any size, dtype, mask, block and temperature, on inputs that hypothesis picks."""
import math

import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cl_lib import losses
from cl_lib.losses import contrastive, distillation, redundancy, streaming

# Of a similarity of size 1: what the dtype leaves of it.
ROUNDING = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 2e-6, torch.float16: 2e-6}
taus = st.floats(math.log(0.01), math.log(5)).map(math.exp)
seeds = st.integers(0, 10_000)
few = settings(max_examples=30, deadline=None, derandomize=True)


def draw(*shape, seed, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=g, dtype=torch.float64), dim=-1).to(dtype).requires_grad_()


def grads(value, *inputs):
    return torch.autograd.grad(value, inputs)


@few
@given(n=st.integers(1, 8), m=st.integers(1, 8), tau=taus, shape=st.sampled_from(["number", "anchors", "pairs"]),
       soft=st.booleans(), masked=st.booleans(), weighted=st.booleans(), decoupled=st.booleans(), seed=seeds)
def test_the_core_is_its_definition_under_any_masks(n, m, tau, shape, soft, masked, weighted, decoupled, seed):
    g = torch.Generator().manual_seed(seed)

    def some(*size):
        return torch.rand(*size, generator=g, dtype=torch.float64)

    s = 2 * some(n, m) - 1
    positive = some(n, m) * (some(n, m) < 0.4) if soft else some(n, m) < 0.4
    candidates = some(n, m) < 0.8 if masked else None
    weights = some(n, m) * (some(n, m) < 0.9) if weighted else None
    each = {"number": tau, "anchors": tau + some(n), "pairs": tau + some(n, m)}[shape]
    terms = []
    for i in range(n):
        p = [float(x) for x in positive[i]]
        if not any(p):
            continue
        logits = [s[i, j].item() / (tau if shape == "number" else each[i].item() if shape == "anchors" else each[i, j].item())
                  for j in range(m)]
        inside = [j for j in range(m) if (candidates is None or candidates[i, j]) and not (decoupled and p[j])]
        assume(inside)
        w = [1.0 if weights is None else weights[i, j].item() for j in range(m)]
        assume(any(w[j] for j in inside))
        top = max(logits)
        log_z = top + math.log(sum(w[j] * math.exp(logits[j] - top) for j in inside))
        terms.append(log_z - sum(x * y for x, y in zip(p, logits, strict=True)) / sum(p))
    assume(terms)
    value = losses.contrast(s, positive, tau=each, candidates=candidates, weights=weights, decoupled=decoupled)
    wanted = sum(terms) / len(terms)
    assert abs(value.item() - wanted) <= 1e-10 * max(1, 1 / tau)


@few
@given(n=st.integers(1, 30), m=st.integers(1, 30), d=st.integers(1, 9), dtype=st.sampled_from(list(ROUNDING)), tau=taus,
       each=st.booleans(), skips=st.integers(0, 3), same=st.booleans(), block=st.integers(1, 40), seed=seeds)
def test_denominators_agree_at_any_dtype_mask_and_block(n, m, d, dtype, tau, each, skips, same, block, seed):
    q = draw(n, d, seed=seed, dtype=dtype)
    k = q if same else draw(m, d, seed=seed + 1, dtype=dtype)
    g = torch.Generator().manual_seed(seed)
    skip = torch.stack([torch.randperm(len(k), generator=g)[:skips] for _ in range(n)]) if 0 < skips < len(k) else None
    t = tau * (0.5 + torch.rand(n, generator=g, dtype=torch.float64)) if each else torch.tensor(tau, dtype=torch.float64)
    t = t.to(dtype).double()  # the blockwise form reads it in the dtype of the queries
    q64 = q.detach().double().requires_grad_()
    k64 = q64 if same else k.detach().double().requires_grad_()
    s = q64 @ k64.T / (t[:, None] if each else t)
    dense = torch.logsumexp(s if skip is None else s.scatter(1, skip, -torch.inf), 1)
    inputs, inputs64 = ((q,), (q64,)) if same else ((q, k), (q64, k64))
    wanted = grads(dense.sum(), *inputs64)
    t = t.to(torch.promote_types(dtype, torch.float32))
    streamed = streaming.log_partition(q, k, t, skip=skip, block=block)
    found = [streamed]
    if dtype in (torch.float64, torch.float32):  # callers of the dense form have already made half precision float32
        found.append(contrastive.log_partition(q, k, t, skip=skip, method="dense"))
    rounding = ROUNDING[dtype] * 10 / tau
    for ours in found:
        assert ours.dtype == torch.promote_types(dtype, torch.float32)
        assert (ours - dense).abs().max() <= rounding
        for a, b in zip(grads(ours.sum(), *inputs), wanted, strict=True):
            # a gradient is stored in the dtype of its tensor
            assert (a - b).abs().max() <= (rounding + torch.finfo(dtype).eps) * (n / tau)


@few
@given(n=st.integers(2, 12), d=st.integers(2, 6), classes=st.integers(1, 4), tau=taus, seed=seeds,
       method=st.sampled_from(["dense", "stream"]))
def test_supervised_contrast_is_the_core_with_equal_labels(n, d, classes, tau, method, seed):
    z, y = draw(n, d, seed=seed), torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
    assume(y.unique().numel() < n)
    other = ~torch.eye(n, dtype=torch.bool)
    core = losses.contrast(z @ z.T, (y[:, None] == y) & other, candidates=other, tau=tau)
    ours = losses.sup_con(z, y, tau=tau, method=method)
    torch.testing.assert_close(ours, core, rtol=1e-9, atol=1e-9 / tau)
    # z is of unit length, so the gradient of the normalised loss is the core's without its part along z
    (a,), (b,) = grads(ours, z), grads(core, z)
    torch.testing.assert_close(a, b - (b * z).sum(1, keepdim=True) * z, rtol=1e-8, atol=1e-9 / tau)


@few
@given(n=st.integers(2, 12), d=st.integers(1, 6), tau=taus, method=st.sampled_from(["dense", "stream"]), seed=seeds,
       name=st.sampled_from(["nt_xent", "dcl", "info_nce", "clip", "siglip", "debiased", "hard_negative"]))
def test_turning_all_embeddings_turns_the_gradient(n, d, tau, method, seed, name):
    z1, z2 = draw(n, d, seed=seed), draw(n, d, seed=seed + 1)
    turn = torch.linalg.qr(draw(d, d, seed=seed + 2).detach())[0]
    loss = getattr(losses, name)
    value, turned = loss(z1, z2, tau=tau, method=method), loss(z1 @ turn, z2 @ turn, tau=tau, method=method)
    torch.testing.assert_close(value, turned, rtol=1e-9, atol=1e-9 / tau)
    for a, z in zip(grads(value, z1, z2), (z1, z2), strict=True):
        b = z.detach() @ turn
        fixed = [x.detach() @ turn if x is not z else b.requires_grad_() for x in (z1, z2)]
        (again,) = grads(loss(*fixed, tau=tau, method=method), b)
        torch.testing.assert_close(a @ turn, again, rtol=1e-7, atol=1e-9 / tau)
        # only the direction of an embedding counts
        assert (a * z).sum(1).abs().max() <= 1e-9 / tau


@few
@given(n=st.integers(2, 12), d=st.integers(1, 6), t=st.floats(0.1, 30), method=st.sampled_from(["dense", "stream"]), seed=seeds)
def test_uniformity_is_the_mean_over_pairs(n, d, t, method, seed):
    z = draw(n, d, seed=seed)
    pairs = [math.exp(-t * ((z[i] - z[j]) ** 2).sum().item()) for i in range(n) for j in range(i)]
    assume(sum(pairs) > 1e-200)
    assert abs(redundancy.uniform_loss(z, t=t, method=method).item() - math.log(sum(pairs) / len(pairs))) <= 1e-9 * (1 + t)


@few
@given(n=st.integers(1, 20), c=st.integers(1, 9), epsilon=taus, dtype=st.sampled_from([torch.float64, torch.float32]), seed=seeds)
def test_balanced_codes_are_rows_of_probabilities_scaled_by_item_and_prototype(n, c, epsilon, dtype, seed):
    scores = draw(n, c, seed=seed, dtype=dtype)
    q = distillation.sinkhorn(scores, epsilon=epsilon, iterations=3)
    assert q.dtype == dtype and (q >= 0).all()
    torch.testing.assert_close(q.sum(1), torch.ones(n, dtype=dtype), rtol=1e-5, atol=1e-5)
    # scaling rows and columns leaves the ratios of ratios: log q - scores / epsilon is a sum of a row's and a column's number
    left = q.log() - scores.detach() / epsilon
    assume(torch.isfinite(left).all())
    left = left - left.mean(0)
    assert (left - left.mean(1, keepdim=True)).abs().max() <= 100 * torch.finfo(dtype).eps / epsilon


@few
@given(n=st.integers(2, 12), d=st.integers(1, 6), name=st.sampled_from(["barlow_twins", "vicreg", "align_loss"]), seed=seeds)
def test_items_have_no_order(n, d, name, seed):
    z1, z2 = draw(n, d, seed=seed), draw(n, d, seed=seed + 1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    loss = getattr(redundancy, name)
    value = loss(z1, z2)
    torch.testing.assert_close(value, loss(z1[order], z2[order]), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(value, loss(z2, z1), rtol=1e-9, atol=1e-10)
