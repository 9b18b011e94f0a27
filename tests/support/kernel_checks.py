"""Largest errors of the Triton kernels against the dense form in float64, as JSON; run with TRITON_INTERPRET=1 on a CPU."""
import json
import warnings

import torch

# name -> queries, keys (None: the queries themselves), dimensions, dtype, temperature (None: one a query), columns skipped,
# block. Sizes are no multiples of the blocks, and dimensions none of a power of two.
CASES = {
    "one tile": (5, 7, 3, "float32", 0.1, 0, (16, 16)),
    "several tiles": (37, 50, 19, "float32", 0.07, 0, (16, 32)),
    "more rows than keys": (50, 3, 16, "float32", 1.0, 1, (32, 16)),
    "all skipped": (20, 4, 16, "float32", 1.0, 4, (16, 16)),
    "small temperature": (33, 33, 8, "float32", 0.01, 1, (16, 16)),
    "temperatures": (20, 35, 70, "float32", None, 2, (16, 16)),
    "symmetric": (45, None, 20, "float32", 0.2, 1, (16, 32)),
    "symmetric twins": (34, None, 5, "float32", 0.05, 2, (32, 16)),
    "same, with temperatures": (21, None, 9, "float32", None, 1, (16, 16)),
    "wide": (18, 20, 300, "float32", 0.3, 1, (16, 16)),
    "bfloat16": (37, 50, 40, "bfloat16", 0.1, 1, (16, 32)),
    "bfloat16 symmetric": (40, None, 24, "bfloat16", 0.1, 1, (16, 16)),
    "float16": (37, 50, 40, "float16", 0.1, 1, (16, 32)),
    "float16 symmetric": (40, None, 24, "float16", 0.1, 2, (16, 16)),
}
NAMED = ("nt_xent", "info_nce", "clip", "dcl")
SMALL = 1e-4  # of the upstream gradients, as in the mean of a large batch


def check(n, m, d, dtype, tau, skips, block):
    from cl_lib.losses import kernels

    g = torch.Generator().manual_seed(n + d)
    z = [torch.nn.functional.normalize(torch.randn(size, d, generator=g), dim=1) for size in (n, m or n)]
    q, k = (x.to(getattr(torch, dtype)).requires_grad_() for x in z)
    t = torch.tensor(tau) if tau else torch.linspace(0.05, 0.8, n)
    t.requires_grad_()
    up = SMALL * torch.randn(n, generator=g, dtype=torch.float64)
    skip = None
    if skips and m is None:  # a row itself, and its twin
        own = torch.arange(n)
        skip = torch.stack([own, own.roll(n // 2)][:skips], 1)
    elif skips:  # any, some of them twice; the last query as many as there may be
        skip = torch.randint(min(m, n), (n, skips), generator=g)
        skip[:-1, -1] = skip[:-1, 0]
        skip[-1] = torch.arange(skips)
    q64, k64, t64 = (x.detach().double().requires_grad_() for x in (q, k, t))
    s = q64 @ (q64 if m is None else k64).T / (t64[:, None] if t64.ndim else t64)
    dense = torch.logsumexp(s if skip is None else s.scatter(1, skip, -torch.inf), 1)
    ours = kernels.log_partition(q, q if m is None else k, t, skip=skip, block=block)
    assert ours.dtype == torch.float32
    kept = torch.isfinite(dense)
    assert ours[~kept].equal(dense[~kept].float())
    of = (0, 1, 2) if m else (0, 2)
    grads = [torch.autograd.grad((x * up.to(x.dtype))[kept].sum(), [inputs[i] for i in of])
             for x, inputs in ((ours, (q, k, t)), (dense, (q64, k64, t64)))]
    found = {"value": (ours - dense)[kept].abs().max().item(), "largest value": dense[kept].abs().max().item(),
             "skips all": int((~kept).sum())}
    for i, a, b in zip(of, *grads, strict=True):
        assert a.dtype == (q, k, t)[i].dtype
        found["qkt"[i]] = ((a - b).abs().max() / b.abs().max()).item()
    return found


def named(name):
    """Value and gradients of a named loss by method="kernel", as shares of the dense ones."""
    from cl_lib import losses

    g = torch.Generator().manual_seed(1)
    z = [torch.randn(6, 4, generator=g).requires_grad_() for _ in range(2)]
    by = {method: getattr(losses, name)(*z, tau=0.2, method=method) for method in ("kernel", "dense")}
    grads = {method: torch.cat(torch.autograd.grad(value, z)) for method, value in by.items()}
    return {"value": ((by["kernel"] - by["dense"]) / by["dense"]).abs().item(),
            "gradient": ((grads["kernel"] - grads["dense"]).abs().max() / grads["dense"].abs().max()).item()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # NumPy's, of the log of nothing
    print(json.dumps({name: check(*case) for name, case in CASES.items()} | {name: named(name) for name in NAMED}))
