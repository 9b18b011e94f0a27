"""Time and extra memory of one forward and backward pass of NT-Xent, ours beside other libraries'."""
import importlib.util
import subprocess
import sys
import time

from cl_lib.errors import unknown
from cl_lib.profiling.memory import peak_mb

NAMES = ("stream", "dense", "lightly")


def losses(*, pairs: int = 4096, d: int = 128, tau: float = 0.1, threads: int = 2, repeats: int = 3,
           names: tuple[str, ...] = NAMES) -> list[dict]:
    """A row for each implementation: seconds (the best of some repeats), extra_mb (peak over what the inputs take).

    Each runs in a process of its own, so that no peak hides another; a peer that is not installed is left out.
    """
    rows = []
    for name in names:
        if name not in NAMES:
            raise unknown("implementation", name, NAMES)
        if name == "lightly" and importlib.util.find_spec("lightly") is None:
            continue
        code = ("from cl_lib.profiling.losses import measure; "
                f"print(*measure({name!r}, {pairs}, {d}, {tau}, {threads}, {repeats}))")
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
        seconds, extra = map(float, done.stdout.split())
        rows.append(dict(name=name, pairs=pairs, d=d, threads=threads, seconds=seconds, extra_mb=extra))
    for row in rows:
        row["time_ratio"] = row["seconds"] / rows[-1]["seconds"]
        row["memory_ratio"] = row["extra_mb"] / rows[-1]["extra_mb"]
    return rows


def measure(name: str, pairs: int, d: int, tau: float, threads: int, repeats: int) -> tuple[float, float]:
    """Seconds and extra MiB of one implementation in this process; called in a fresh one."""
    import torch

    from cl_lib.losses import nt_xent

    torch.set_num_threads(threads)
    if name == "lightly":
        from lightly.loss import NTXentLoss

        call = NTXentLoss(tau)
    else:
        def call(z1, z2):
            return nt_xent(z1, z2, tau=tau, method=name)
    g = torch.Generator().manual_seed(0)
    z1, z2 = (torch.randn(pairs, d, generator=g, requires_grad=True) for _ in range(2))
    call(z1[:64], z2[:64]).backward()
    before, best = peak_mb(), float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        call(z1, z2).backward()
        best = min(best, time.perf_counter() - begin)
    return best, peak_mb() - before
