"""Time and extra memory of one forward and backward pass of contrastive losses, ours beside other libraries'."""
import importlib.util
import subprocess
import sys
import time

from cl_lib.errors import InputError, unknown
from cl_lib.profiling.memory import peak_mb

# name -> the objective that it computes, the package it needs beside torch, the most pairs it is asked for
FORMS = {
    "stream": ("nt_xent", None, None), "dense": ("nt_xent", None, 65_536), "exponentials": ("nt_xent", None, 65_536),
    "lightly": ("nt_xent", "lightly", 65_536), "pytorch-metric-learning": ("nt_xent", "pytorch_metric_learning", 256),
    "products": ("nt_xent", None, 8_192),
    "stream, two encoders": ("clip", None, None), "open_clip": ("clip", "open_clip", 8_192),
    "sentence-transformers": ("info_nce", "sentence_transformers", 8_192), "stream, one way": ("info_nce", None, None)}


def losses(*, pairs: tuple[int, ...] = (256, 1024, 4096), d: int = 128, tau: float = 0.1, threads: int = 2, repeats: int = 3,
           names: tuple[str, ...] = tuple(FORMS)) -> list[dict]:
    """A row for each form and number of pairs: seconds (the best of some repeats), extra_mb (peak over what the inputs take).

    objective says what is computed: nt_xent (2n anchors, each against 2n - 1), clip (n against n, both ways), info_nce (one way).
    stream is ours by blocks; dense is ours with the whole matrix; exponentials is the short form with exp and sum, and a peer's
    published formula; products are the two matrix products that no exact form can do without, in blocks. Each runs in a
    process of its own, so that no peak hides another. A peer that is not installed is left out; one that fails for lack of
    memory has no numbers.
    """
    rows = []
    for n in pairs:
        for name in names:
            if name not in FORMS:
                raise unknown("implementation", name, FORMS)
            objective, package, most = FORMS[name]
            if (package and importlib.util.find_spec(package) is None) or (most and n > most):
                continue
            if 16_384 <= n < 65_536 and not name.startswith("stream"):
                continue  # might just fit and push everything else out of memory; more is refused at once
            row = dict(name=name, objective=objective, pairs=n, d=d, threads=threads, seconds=None, extra_mb=None)
            code = ("from cl_lib.profiling.losses import measure; "
                    f"print(*measure({name!r}, {n}, {d}, {tau}, {threads}, {repeats if n < 65_536 else 1}))")
            done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
            if done.returncode == 0:
                row["seconds"], row["extra_mb"] = map(float, done.stdout.split())
            elif "allocate" not in done.stderr and done.returncode > 0:
                raise InputError(f"{name} at {n} pairs: {done.stderr.strip().splitlines()[-1]}")
            rows.append(row)
    return rows


def measure(name: str, pairs: int, d: int, tau: float, threads: int, repeats: int) -> tuple[float, float]:
    """Seconds and extra MiB of one form in this process; called in a fresh one."""
    import torch

    torch.set_num_threads(threads)
    call = form(name, tau)
    g = torch.Generator().manual_seed(0)
    z1, z2 = (torch.randn(pairs, d, generator=g, requires_grad=True) for _ in range(2))
    run = call if name == "products" else lambda a, b: call(a, b).backward()
    run(z1[:64], z2[:64])
    before, best = peak_mb(), float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        run(z1, z2)
        best = min(best, time.perf_counter() - begin)
    return best, peak_mb() - before


def form(name: str, tau: float):
    """The loss of that name as a function of two sets of embeddings (n, d), not yet of unit norm, to a scalar."""
    import torch
    import torch.nn.functional as F

    from cl_lib import losses

    if name in ("stream", "dense"):
        return lambda z1, z2: losses.nt_xent(z1, z2, tau=tau, method=name)
    if name == "stream, two encoders":
        return lambda z1, z2: losses.clip(z1, z2, tau=tau, method="stream")
    if name == "stream, one way":
        return lambda z1, z2: losses.info_nce(z1, z2, tau=tau, method="stream")
    if name == "exponentials":
        def exponentials(z1, z2):
            z1, z2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
            z = torch.cat([z1, z2])
            e = torch.exp(z @ z.T / tau) * (1 - torch.eye(len(z), dtype=z.dtype))
            positive = torch.exp((z1 * z2).sum(1) / tau).repeat(2)
            return -torch.log(positive / e.sum(1)).mean()
        return exponentials
    if name == "products":
        def products(z1, z2):
            z = torch.cat([z1, z2]).detach()
            for rows in z.split(512):
                (rows @ z.T) @ z
        return products
    if name == "lightly":
        from lightly.loss import NTXentLoss
        return NTXentLoss(tau)
    if name == "pytorch-metric-learning":
        from pytorch_metric_learning.losses import NTXentLoss
        peer = NTXentLoss(temperature=tau)
        return lambda z1, z2: peer(torch.cat([z1, z2]), torch.arange(len(z1)).repeat(2))
    if name == "open_clip":
        from open_clip.loss import ClipLoss
        peer = ClipLoss()
        return lambda z1, z2: peer(F.normalize(z1, dim=1), F.normalize(z2, dim=1), torch.tensor(1 / tau, dtype=z1.dtype))
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    ranking = MultipleNegativesRankingLoss(torch.nn.Module(), scale=1 / tau)
    return lambda z1, z2: ranking.compute_loss_from_embeddings([z1, z2], None)
