"""Do other libraries compute the same losses? Values and gradients beside ours, and the rounding of both."""
import importlib.util
import math
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F

from cl_lib import losses

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# what a reader has to know before one is put in the place of the other
NOTES = {
    ("lightly", "NTXentLoss"): "mean over the 2n views; normalises",
    ("lightly", "DCLLoss"): "mean over the 2n views; normalises",
    ("lightly", "DCLWLoss"): "the weights carry no gradient, and their mean is one",
    ("pytorch-metric-learning", "NTXentLoss"): "takes labels: the two views of an item share one",
    ("pytorch-metric-learning", "SupConLoss"): "mean over the anchors that have a positive",
    ("sentence-transformers", "MultipleNegativesRankingLoss"): "one way; its scale is 1 / tau",
    ("open_clip", "ClipLoss"): "both ways; the caller normalises; its logit_scale is 1 / tau",
    ("open_clip", "SigLipLoss"): "sum over all pairs over n; the caller normalises; its logit_scale is 1 / tau",
    ("exp and sum", "NT-Xent"): "the short form found in many repositories: exp first, then the sum, then the logarithm",
}


def peers(*, n: int = 64, d: int = 32, taus: tuple[float, ...] = (0.01, 0.03, 0.1, 1.0), noise: float = 2.0) -> list[dict]:
    """A row for each function of a peer, temperature and dtype: value_difference and gradient_difference, peer against ours,
    and peer_error and our_error, the gradients' distance to ours in float64.

    Values are compared over the larger of 1 and ours; gradients by their largest difference over the largest entry of the
    gradient of the positive term alone, which does not vanish when a batch is solved. None stands for a result that is not
    finite. n pairs of d dimensions, random items and the same with `noise`. A peer that is not installed is left out.
    """
    g = torch.Generator().manual_seed(0)
    z1 = torch.randn(n, d, generator=g, dtype=torch.float64)
    z2 = z1 + noise * torch.randn(n, d, generator=g, dtype=torch.float64)
    rows = []
    for tau in taus:
        scale = _measured(lambda a, b, tau=tau: -(F.cosine_similarity(a, b) / tau).mean(), z1, z2)[1].abs().max()
        for (peer, name), (theirs, ours) in _pairs(tau, n).items():
            exact = _measured(ours, z1, z2)[1]
            for dtype in (torch.float64, torch.float32):
                (v, dv), (w, dw) = (_measured(f, z1.to(dtype), z2.to(dtype)) for f in (theirs, ours))
                rows.append(dict(peer=peer, function=name, tau=tau, dtype=str(dtype).removeprefix("torch."),
                                 value_difference=_over(v - w, w.abs().clamp(min=1)), gradient_difference=_over(dv - dw, scale),
                                 peer_error=_over(dv - exact, scale), our_error=_over(dw - exact, scale)))
    return rows


def _pairs(tau: float, n: int) -> dict[tuple[str, str], tuple[Loss, Loss]]:
    """(peer, function) -> that function and ours, for the peers that are installed."""
    from cl_lib.profiling.losses import form

    found = {("exp and sum", "NT-Xent"): (form("exponentials", tau), form("dense", tau))}
    y = torch.arange(n).repeat(2) % (n // 2)
    if importlib.util.find_spec("lightly"):
        from lightly import loss

        for name, ours in (("NTXentLoss", losses.nt_xent), ("DCLLoss", losses.dcl)):
            found["lightly", name] = getattr(loss, name)(tau), lambda a, b, ours=ours: ours(a, b, tau=tau)
        found["lightly", "DCLWLoss"] = loss.DCLWLoss(tau, sigma=0.5), lambda a, b: losses.dcl(a, b, tau=tau, sigma=0.5)
    if importlib.util.find_spec("pytorch_metric_learning"):
        from pytorch_metric_learning.losses import SupConLoss

        found["pytorch-metric-learning", "NTXentLoss"] = form("pytorch-metric-learning", tau), lambda a, b: losses.nt_xent(a, b, tau=tau)
        found["pytorch-metric-learning", "SupConLoss"] = (
            lambda a, b: SupConLoss(temperature=tau)(torch.cat([a, b]), y), lambda a, b: losses.sup_con(torch.cat([a, b]), y, tau=tau))
    if importlib.util.find_spec("sentence_transformers"):
        found["sentence-transformers", "MultipleNegativesRankingLoss"] = (form("sentence-transformers", tau),
                                                                          lambda a, b: losses.info_nce(a, b, tau=tau))
    if importlib.util.find_spec("open_clip"):
        from open_clip.loss import SigLipLoss

        sig = SigLipLoss()
        found["open_clip", "ClipLoss"] = form("open_clip", tau), lambda a, b: losses.clip(a, b, tau=tau)
        found["open_clip", "SigLipLoss"] = (
            lambda a, b: sig(F.normalize(a, dim=1), F.normalize(b, dim=1), torch.tensor(1 / tau, dtype=a.dtype),
                             torch.tensor(-2.0, dtype=a.dtype)), lambda a, b: losses.siglip(a, b, tau=tau, bias=-2.0))
    return found


def _measured(loss: Loss, z1: torch.Tensor, z2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss and its gradient, both views' in one tensor, in float64."""
    copies = [z.clone().requires_grad_() for z in (z1, z2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a peer copies a tensor in a way that torch warns about
        value = loss(*copies)
    return value.detach().double(), torch.stack(torch.autograd.grad(value, copies)).double()


def _over(difference: torch.Tensor, scale: torch.Tensor) -> float | None:
    worst = (difference.abs().max() / scale).item()
    return worst if math.isfinite(worst) else None
