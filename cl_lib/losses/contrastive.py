"""Contrastive losses: who is positive, at what temperature, against whom. One core, and the field's names on it."""
import importlib.util
import math

import torch
import torch.nn.functional as F

from cl_lib import checks, distributed
from cl_lib.errors import InputError, unknown
from cl_lib.fingerprint import pinned
from cl_lib.losses import streaming

METHODS = ("auto", "dense", "stream")
# Below this many similarities one dense matrix is quicker than blocks.
DENSE_UP_TO = 2 ** 20


def contrast(s: torch.Tensor, positive: torch.Tensor, *, tau: float | torch.Tensor = 0.1,
             candidates: torch.Tensor | None = None, weights: torch.Tensor | None = None,
             decoupled: bool = False) -> torch.Tensor:
    r"""The core on a matrix of similarities: each anchor picks its positives out of its candidates.

    L_i = - sum_j p_ij s_ij / tau_ij + log sum_{j in C_i} w_ij exp(s_ij / tau_ij), averaged over anchors with positives;
    p -> positive scaled so that each row sums to 1, w -> weights, C -> candidates.
    Shapes: s (n, m); positive (n, m) bool, or non-negative numbers (soft targets); tau a number, (n,) or (n, m);
    candidates (n, m) bool, default all; weights (n, m) >= 0, default 1 -> scalar.
    `decoupled` leaves positives out of the denominator (DCL).
    Reduces to: `F.cross_entropy(s / tau, targets)` with one positive a row; `sup_con` with positive = same label.
    Source: 2004.11362 Eq. 2 (positives outside the log), 2110.06848 Eq. 6 (decoupled).
    Cost: time and memory O(n m).
    Note: nothing is normalised; an anchor without positives is left out of the mean; all without is an error.
    """
    if s.ndim != 2 or 0 in s.shape:
        raise InputError(f"s must have shape (n, m), both at least 1, not {tuple(s.shape)}")
    for name, x in (("positive", positive), ("candidates", candidates), ("weights", weights)):
        if x is not None and x.shape != s.shape:
            raise InputError(f"{name} has shape {tuple(x.shape)}, s has {tuple(s.shape)}; they must agree")
    if not torch.isfinite(s).all():
        raise InputError("s holds NaN or Inf")
    if isinstance(tau, torch.Tensor) and tau.shape == s.shape:
        if not (tau > 0).all():
            raise InputError("tau must be positive everywhere")
    else:
        checks.temperature(tau, len(s))
        tau = tau[:, None] if isinstance(tau, torch.Tensor) and tau.shape == (len(s),) else tau
    p = positive.to(s.dtype)
    if (p < 0).any():
        raise InputError("positive must not be negative")
    mass = p.sum(1)
    anchors = mass > 0
    if not anchors.any():
        raise InputError("positive: no anchor has one")
    inside = torch.ones_like(s, dtype=torch.bool) if candidates is None else candidates.clone()
    if decoupled:
        inside &= p == 0
    if not inside[anchors].any(1).all():
        raise InputError("candidates: an anchor has none left in its denominator")
    logits = s / tau
    terms = logits if weights is None else logits + weights.log()
    log_z = torch.logsumexp(terms.masked_fill(~inside, -torch.inf)[anchors], 1)
    pull = (p * logits).sum(1)[anchors] / mass[anchors]
    return (log_z - pull).mean()


@pinned(1)
def log_partition(queries: torch.Tensor, keys: torch.Tensor, tau: float | torch.Tensor, *,
                  skip: torch.Tensor | None = None, method: str = "auto") -> torch.Tensor:
    """log sum_j exp(q_i . k_j / tau_i) over the keys that row i does not skip: "dense", in blocks ("stream"), or by "kernel".

    Shapes: queries (n, d), keys (m, d), tau a number or (n,), skip (n, r) columns left out of each row -> (n,).
    "auto" is dense while the matrix is small; beyond, the kernels where they can run (a GPU, Triton, no float64), else blocks.
    Raises: InputError for an unknown method, and for "kernel" where it cannot run.
    """
    if method not in (*METHODS, "kernel"):
        raise unknown("method", method, (*METHODS, "kernel"))
    large = len(queries) * len(keys) > DENSE_UP_TO
    if method == "kernel" or method == "auto" and large and _kernel_runs(queries):
        from cl_lib.losses import kernels

        return kernels.log_partition(queries, keys, tau, skip=skip)
    if method == "stream" or method == "auto" and large:
        return streaming.log_partition(queries, keys, tau, skip=skip)
    with torch.autocast(queries.device.type, enabled=False):
        s = queries @ keys.T / (tau[:, None] if isinstance(tau, torch.Tensor) and tau.ndim == 1 else tau)
        if skip is not None:
            s = s.scatter(1, skip, -torch.inf)
        return torch.logsumexp(s, 1)


def _kernel_runs(x: torch.Tensor) -> bool:
    return x.is_cuda and x.dtype != torch.float64 and importlib.util.find_spec("triton") is not None


def info_nce(queries: torch.Tensor, keys: torch.Tensor, *, tau: float | torch.Tensor = 0.1,
             negatives: torch.Tensor | None = None, in_batch: bool = True, normalize: bool = True,
             method: str = "auto") -> torch.Tensor:
    r"""Each query picks its own key out of all keys, and out of shared extra negatives such as a queue.

    L = mean_i [ -q_i.k_i / tau_i + log( sum_j exp(q_i.k_j / tau_i) + sum_l exp(q_i.n_l / tau_i) ) ].
    Shapes: queries, keys (n, d); negatives (m, d); tau a number or (n,) -> scalar, mean over queries.
    `in_batch=False` leaves the other items' keys out: MoCo's form, where only the queue is contrasted.
    Reduces to: `F.cross_entropy(q @ k.T / tau, arange(n))` without negatives.
    Source: 1807.03748 Eq. 4; 1911.05722 Eq. 1 (queue). Cost: O(n (n+m) d) time; memory O((n+m) d) by "stream".
    Note: one direction; keys carry gradients, detach them for a momentum encoder. Normalises unless told not to.
    """
    checks.embeddings("queries", queries, at_least=2 if negatives is None else 1)
    checks.embeddings("keys", keys, like=("queries", queries))
    checks.temperature(tau, len(queries))
    if negatives is None and not in_batch:
        raise InputError("in_batch=False needs negatives: nothing would be left to contrast with")
    if negatives is not None:
        checks.embeddings("negatives", negatives)
        if negatives.shape[1] != queries.shape[1]:
            raise InputError(f"negatives have {negatives.shape[1]} dimensions, queries {queries.shape[1]}")
    q, k, n = _prepare(normalize, queries, keys, negatives)
    pull = (q * k).sum(1) / tau
    if in_batch:
        return (log_partition(q, k if n is None else torch.cat([k, n]), tau, method=method) - pull).mean()
    return (torch.logaddexp(log_partition(q, n, tau, method=method), pull) - pull).mean()


def nt_xent(z1: torch.Tensor, z2: torch.Tensor, *, tau: float | torch.Tensor = 0.1, normalize: bool = True,
            method: str = "auto", gather: bool = False) -> torch.Tensor:
    r"""SimCLR's loss: both views are anchors, and each finds its twin among the 2n - 1 other embeddings.

    L = mean_a [ -z_a.z_b(a) / tau_a + log sum_{c != a} exp(z_a.z_c / tau_a) ], b(a) the other view of a.
    Shapes: z1, z2 (n, d); tau a number or (2n,), first the anchors of z1 -> scalar, mean over 2n anchors.
    `gather` takes the candidates from all processes of torch.distributed, gradients included; the loss is then the
    mean over all of them, the same on each process.
    Reduces to: `sup_con(cat([z1, z2]), cat([arange(n)] * 2))`.
    Source: 2002.05709 Eq. 1. Cost: time O(n^2 d); memory O(n d) by "stream", O(n^2) by "dense".
    Note: normalises unless told not to.
    """
    z, twin, tau = _pairs(z1, z2, tau, normalize, gather)
    own = torch.arange(len(z), device=z.device)
    return (log_partition(z, z, tau, skip=own[:, None], method=method) - (z * z[twin]).sum(1) / tau).mean()


def dcl(z1: torch.Tensor, z2: torch.Tensor, *, tau: float | torch.Tensor = 0.1, sigma: float | None = None,
        normalize: bool = True, method: str = "auto", gather: bool = False) -> torch.Tensor:
    r"""Decoupled contrastive loss: NT-Xent with the positive taken out of the denominator.

    L = mean_a [ -w_a z_a.z_b(a) / tau + log sum_{c not a, b(a)} exp(z_a.z_c / tau) ]; w = 1, or with `sigma` (DCLW)
    w_i = 2 - exp(z1_i.z2_i / sigma) / mean_j exp(z1_j.z2_j / sigma), which pulls harder on distant positives.
    Shapes: z1, z2 (n, d); tau a number or (2n,) -> scalar, mean over 2n anchors.
    Reduces to: DCLW with sigma -> inf is DCL. Its gradient is NT-Xent's divided by q_B for each anchor.
    Source: 2110.06848 Eq. 6 and 7. Cost: as `nt_xent`.
    Note: can be negative; the weights w carry no gradient; normalises unless told not to.
    """
    if sigma is not None:
        checks.positive("sigma", sigma)
    z, twin, tau = _pairs(z1, z2, tau, normalize, gather)
    pull = (z * z[twin]).sum(1)
    own = torch.arange(len(z), device=z.device)
    log_z = log_partition(z, z, tau, skip=torch.stack([own, twin], 1), method=method)
    w = 1 if sigma is None else 2 - len(z) * torch.softmax(pull.detach() / sigma, 0)
    return (log_z - w * pull / tau).mean()


def sup_con(z: torch.Tensor, y: torch.Tensor, *, tau: float | torch.Tensor = 0.1, normalize: bool = True,
            method: str = "auto") -> torch.Tensor:
    r"""Supervised contrast: every embedding of the same label is a positive, every other embedding a candidate.

    L = mean_i [ -1/|P_i| sum_{p in P_i} z_i.z_p / tau_i + log sum_{a != i} exp(z_i.z_a / tau_i) ], P_i = same label, not i.
    Shapes: z (n, d), y (n,) integers, tau a number or (n,) -> scalar, mean over anchors that have a positive.
    Reduces to: `nt_xent` when each label stands on exactly two views.
    Source: 2004.11362 Eq. 2 (L_out, without its factor tau / tau_base). Cost: as `nt_xent`; positives cost O(n d).
    Note: stack the views of an image and repeat its label; no label used twice is an error; normalises unless told not to.
    """
    checks.embeddings("z", z, at_least=2)
    checks.labels("y", y, len(z))
    checks.temperature(tau, len(z))
    (z,) = _prepare(normalize, z)
    label, count = y.unique(return_inverse=True, return_counts=True)[1:]
    positives = (count - 1)[label]
    anchors = positives > 0
    if not anchors.any():
        raise InputError("y: no label stands twice, so no anchor has a positive")
    sums = z.new_zeros(len(count), z.shape[1]).index_add(0, label, z)
    pull = ((z * sums[label]).sum(1) - (z * z).sum(1)) / positives.clamp(min=1)
    own = torch.arange(len(z), device=z.device)[:, None]
    return (log_partition(z, z, tau, skip=own, method=method) - pull / tau)[anchors].mean()


def debiased(z1: torch.Tensor, z2: torch.Tensor, *, tau: float = 0.1, tau_plus: float = 0.1, normalize: bool = True,
             method: str = "auto") -> torch.Tensor:
    r"""Debiased contrast: subtracts what false negatives of probability `tau_plus` are expected to add.

    L = mean_a [ -log e^{p_a} / (e^{p_a} + N g_a) ], p_a = z_a.z_b(a) / tau, N = 2n - 2,
    g_a = max( (mean_neg e^{s/tau} - tau_plus e^{p_a}) / (1 - tau_plus), e^{-1/tau} ).
    Shapes: z1, z2 (n, d) -> scalar, mean over 2n anchors.
    Reduces to: `nt_xent` at tau_plus = 0; `hard_negative` at beta = 0.
    Source: 2007.00224 Eq. 7 and 8. Cost: as `nt_xent`.
    Note: the floor e^{-1/tau} is the smallest that unit vectors allow; normalises unless told not to.
    """
    return hard_negative(z1, z2, tau=tau, tau_plus=tau_plus, beta=0.0, normalize=normalize, method=method)


def hard_negative(z1: torch.Tensor, z2: torch.Tensor, *, tau: float = 0.1, tau_plus: float = 0.1, beta: float = 1.0,
                  normalize: bool = True, method: str = "auto") -> torch.Tensor:
    r"""Hard-negative weighting: negatives count in proportion to e^{beta s / tau}, after debiasing.

    As `debiased`, with mean_neg e^{s/tau} replaced by sum_neg e^{(1 + beta) s/tau} / sum_neg e^{beta s/tau}.
    Shapes: z1, z2 (n, d) -> scalar, mean over 2n anchors.
    Reduces to: `debiased` at beta = 0.
    Source: 2010.04592 Eq. 4; beta multiplies s / tau as in the authors' code. Cost: twice `nt_xent` for beta > 0.
    Note: the weights carry gradients, as in the authors' code; normalises unless told not to.
    """
    checks.fraction("tau_plus", tau_plus)
    checks.fraction("beta", beta, below=math.inf)
    checks.positive("tau", tau)
    z, twin, tau = _pairs(z1, z2, tau, normalize, gather=False)
    if len(z) < 4:
        raise InputError("z1 has 1 row; at least 2 needed")
    own = torch.arange(len(z), device=z.device)
    skip, negatives = torch.stack([own, twin], 1), math.log(len(z) - 2)
    base = log_partition(z, z, tau / beta, skip=skip, method=method) if beta else negatives
    log_mean = log_partition(z, z, tau / (1 + beta), skip=skip, method=method) - base
    p = (z * z[twin]).sum(1) / tau
    if tau_plus:
        # log of (e^a - c e^p) / (1 - c), where the difference is positive; the floor serves elsewhere
        gap = p + math.log(tau_plus) - log_mean
        inside = torch.where(gap < 0, gap, gap.new_tensor(-1.0))
        log_g = torch.where(gap < 0, log_mean + torch.log(-torch.expm1(inside)), -torch.inf) - math.log1p(-tau_plus)
        log_mean = log_g.clamp(min=-1 / tau)
    return (torch.logaddexp(p, log_mean + negatives) - p).mean()


def clip(zi: torch.Tensor, zt: torch.Tensor, *, tau: float | torch.Tensor = 0.07, targets: torch.Tensor | None = None,
         label_smoothing: float = 0.0, normalize: bool = True, method: str = "auto", gather: bool = False) -> torch.Tensor:
    r"""CLIP's symmetric loss: each image picks its text, each text its image.

    L = 1/2 [ CE(zi zt^T / tau, targets) + CE(zt zi^T / tau, targets^T) ], targets = identity by default.
    Shapes: zi, zt (n, d); tau a number or a scalar tensor (it may be learnt); targets (n, n) >= 0, its rows, and for
    the texts its columns, scaled to sum 1 -> scalar. label_smoothing spreads that mass evenly over all n candidates.
    Reduces to: the mean of `info_nce` both ways. Source: 2103.00020 Fig. 3; soft targets 2204.14095.
    Cost: time O(n^2 d); memory O(n d) by "stream" (O(n^2) with explicit targets). Note: normalises unless told not to.
    """
    checks.embeddings("zi", zi, at_least=2)
    checks.embeddings("zt", zt, like=("zi", zi))
    checks.fraction("label_smoothing", label_smoothing)
    if isinstance(tau, torch.Tensor) and tau.numel() != 1:
        raise InputError(f"tau must be one number for clip, not of shape {tuple(tau.shape)}")
    checks.temperature(tau, len(zi))
    tau = tau.reshape(()) if isinstance(tau, torch.Tensor) else tau
    zi, zt = _prepare(normalize, zi, zt)
    if gather:
        zi, zt = distributed.all_gather_with_grad(zi), distributed.all_gather_with_grad(zt)
    n = len(zi)
    if targets is None:
        pull_i = pull_t = (zi * zt).sum(1)
    else:
        if targets.shape != (n, n):
            raise InputError(f"targets must have shape ({n}, {n}), not {tuple(targets.shape)}")
        targets = targets.to(zi.dtype)
        if (targets < 0).any() or (targets.sum(1) == 0).any() or (targets.sum(0) == 0).any():
            raise InputError("targets must be non-negative, with some mass in each row and each column")
        pull_i = ((targets / targets.sum(1, keepdim=True)) @ zt * zi).sum(1)
        pull_t = ((targets / targets.sum(0)).T @ zi * zt).sum(1)
    if label_smoothing:
        pull_i = (1 - label_smoothing) * pull_i + label_smoothing * (zi @ zt.mean(0))
        pull_t = (1 - label_smoothing) * pull_t + label_smoothing * (zt @ zi.mean(0))
    per_image = log_partition(zi, zt, tau, method=method) - pull_i / tau
    per_text = log_partition(zt, zi, tau, method=method) - pull_t / tau
    return (per_image.mean() + per_text.mean()) / 2


def siglip(zi: torch.Tensor, zt: torch.Tensor, *, tau: float | torch.Tensor = 0.1, bias: float | torch.Tensor = -10.0,
           normalize: bool = True, method: str = "auto", gather: bool = False) -> torch.Tensor:
    r"""SigLIP's loss: each image-text pair by itself is told to be a match or not; no softmax, no common denominator.

    L = - 1/n sum_i sum_j log sigmoid( y_ij (zi_i . zt_j / tau + bias) ), y_ij = 1 for i = j, -1 elsewhere.
    Shapes: zi, zt (n, d); tau, bias numbers or scalar tensors (both are learnt in the paper) -> scalar, mean over images
    of the sum over texts. `gather` takes images and texts from all processes, gradients included.
    Reduces to: softplus(-(s / tau + bias)) for one pair. Source: 2303.15343 Eq. 1 and Algorithm 1, t = 1 / tau = 10, b = -10.
    Cost: time O(n^2 d); memory O(n d) by "stream", O(n^2) by "dense".
    Note: not divided by the number of texts, so it grows with n; normalises unless told not to.
    """
    checks.embeddings("zi", zi)
    checks.embeddings("zt", zt, like=("zi", zi))
    checks.temperature(tau, 1)
    checks.number("bias", bias)
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    tau, bias = (x.reshape(()) if isinstance(x, torch.Tensor) else x for x in (tau, bias))
    zi, zt = _prepare(normalize, zi, zt)
    if gather:
        zi, zt = distributed.all_gather_with_grad(zi), distributed.all_gather_with_grad(zt)
    own = torch.arange(len(zi), device=zi.device)[:, None]
    if method == "stream" or method == "auto" and len(zi) ** 2 > DENSE_UP_TO:
        apart = streaming.softplus_sum(zi, zt, tau, bias, skip=own)
    else:
        with torch.autocast(zi.device.type, enabled=False):
            apart = -F.logsigmoid(-zi @ zt.T / tau - bias).scatter(1, own, 0.0).sum(1)
    return (apart - F.logsigmoid((zi * zt).sum(1) / tau + bias)).mean()


def _prepare(normalize: bool, *zs: torch.Tensor | None) -> list[torch.Tensor | None]:
    """The embeddings in at least float32, of unit norm when asked; half precision cannot hold a softmax at small tau."""
    out = []
    for z in zs:
        z = None if z is None else z.to(torch.promote_types(z.dtype, torch.float32))
        out.append(F.normalize(z, dim=1) if normalize and z is not None else z)
    return out


def _pairs(z1, z2, tau, normalize, gather):
    """Both views stacked, the row of each row's twin, and tau; gathered from all processes when asked."""
    checks.embeddings("z1", z1, at_least=1 if gather else 2)
    checks.embeddings("z2", z2, like=("z1", z1))
    checks.temperature(tau, 2 * len(z1))
    z1, z2 = _prepare(normalize, z1, z2)
    if gather:
        z1, z2 = distributed.all_gather_with_grad(z1), distributed.all_gather_with_grad(z2)
    z = torch.cat([z1, z2])
    tau = tau.reshape(()) if isinstance(tau, torch.Tensor) and tau.numel() == 1 else tau
    return z, torch.arange(len(z), device=z.device).roll(len(z1)), tau
