"""Time and extra memory of a training step with its batch encoded whole, and in pieces (gradient caching)."""
import subprocess
import sys
import time

from cl_lib.profiling.memory import peak_mb


def pieces(*, batch: int = 1024, sizes: tuple[int, ...] = (1024, 256, 64), threads: int = 2, repeats: int = 3) -> list[dict]:
    """A row for each size of a piece: seconds of a step (the best of some repeats), extra_mb (peak over what stands before).

    A small CNN on two views of RGB 32x32 with NT-Xent, forward and backward; `size=batch` is the whole batch, encoded
    once. Each runs in a process of its own, so that no peak hides another; ratios are to the first row.
    """
    rows = []
    for size in sizes:
        code = f"from cl_lib.profiling import pieces; print(*pieces.measure({batch}, {size}, {threads}, {repeats}))"
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
        seconds, extra = map(float, done.stdout.split())
        rows.append(dict(batch=batch, size=size, threads=threads, seconds=seconds, extra_mb=extra))
    return [{**row, "time_ratio": row["seconds"] / rows[0]["seconds"], "memory_ratio": row["extra_mb"] / rows[0]["extra_mb"]}
            for row in rows]


def measure(batch: int, size: int, threads: int, repeats: int) -> tuple[float, float]:
    """Seconds and extra MiB of a step in this process; called in a fresh one."""
    import torch

    from cl_lib.encoders.image import small_cnn
    from cl_lib.losses import nt_xent
    from cl_lib.training import in_pieces

    torch.set_num_threads(threads)
    net = small_cnn(seed=0)
    x1, x2 = torch.rand(2, batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def step(x1, x2):
        encode = net if size >= batch else lambda x: in_pieces(net, x, size=size)
        nt_xent(encode(x1), encode(x2)).backward()

    step(x1[:8], x2[:8])
    before, best = peak_mb(), float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        step(x1, x2)
        best = min(best, time.perf_counter() - begin)
    return best, peak_mb() - before
