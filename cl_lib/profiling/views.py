"""Images a second of which two SimCLR views are made, ours beside lightly's transform in a DataLoader."""
import importlib.util
import os
import subprocess
import sys
import time

from cl_lib.errors import unknown

NAMES = ("batched", "lightly")
SIZE, BATCH = 32, 256
# lightly's defaults without its blur, which both leave out at this size; both end with ImageNet's mean and deviation
# the C library keeps freed memory instead of handing each large block back to the system and fetching it anew
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(2 ** 29), "MALLOC_TRIM_THRESHOLD_": str(2 ** 30), "MALLOC_TOP_PAD_": str(2 ** 26)}
RANGES = dict(min_scale=0.08, strength=1.0, jitter=0.8, gray=0.2, flip=0.5)


def views(*, threads: int = 2, batches: int = 8, repeats: int = 3, rounds: int = 2,
          names: tuple[str, ...] = NAMES) -> list[dict]:
    """A row for each implementation: images_s, images a second (the best of some passes), RGB 32x32 in batches of 256.

    Ours runs in one process, `threads` threads taking a batch each; lightly's over PIL images in a DataLoader with as
    many workers. They are measured in turn, each in a process of its own; a peer that is not installed is left out.
    """
    for name in names:
        if name not in NAMES:
            raise unknown("implementation", name, NAMES)
    best = {n: 0.0 for n in names if n != "lightly" or importlib.util.find_spec("lightly")}
    for _ in range(rounds):
        for name in best:
            code = f"from cl_lib.profiling import views; print(views.measure({name!r}, {threads}, {batches}, {repeats}))"
            command = [sys.executable, "-W", "ignore", "-c", code]
            done = subprocess.run(command, env=os.environ | KEEP, capture_output=True, text=True, check=True)
            best[name] = max(best[name], float(done.stdout))
    last = list(best.values())[-1]
    return [dict(name=n, batch=BATCH, threads=threads, images_s=v, speed_ratio=v / last) for n, v in best.items()]


def measure(name: str, threads: int, batches: int, repeats: int) -> float:
    """Images a second of one implementation in this process; called in a fresh one."""
    import torch

    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (batches * BATCH, 3, SIZE, SIZE), dtype=torch.uint8, generator=g)
    go = {"batched": _batched, "lightly": _lightly}[name](pixels, threads)
    # at least a second for either, so that short passes and long ones see the same machine
    best, end = 0.0, time.perf_counter() + 1
    while repeats > 0 or time.perf_counter() < end:
        begin = time.perf_counter()
        go()
        best, repeats = max(best, len(pixels) / (time.perf_counter() - begin)), repeats - 1
    return best


def _batched(pixels, threads):
    from concurrent.futures import ThreadPoolExecutor

    import torch

    from cl_lib.views.image import simclr

    view = simclr(size=SIZE, **RANGES)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def one(x, seed):
        # both views of every image in one call: each image is drawn for by itself, and fewer calls cost less
        view(torch.cat([x, x]), torch.Generator().manual_seed(seed)).sub_(mean).div_(std)

    parts = pixels.split(BATCH)
    # a thread that starts has torch's own number of threads again
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    return lambda: list(pool.map(one, parts, range(len(parts))))


def _lightly(pixels, threads):
    import torch
    from lightly.transforms import SimCLRTransform
    from PIL import Image

    transform = SimCLRTransform(SIZE, cj_prob=RANGES["jitter"], cj_strength=RANGES["strength"],
                                min_scale=RANGES["min_scale"], random_gray_scale=RANGES["gray"], hf_prob=RANGES["flip"],
                                gaussian_blur=0.0)
    pictures = [Image.fromarray(p) for p in pixels.permute(0, 2, 3, 1).numpy()]

    class Views(torch.utils.data.Dataset):
        def __len__(self):
            return len(pictures)

        def __getitem__(self, i):
            return transform(pictures[i])

    torch.manual_seed(0)
    # the workers stay between passes, so that their start is not measured
    loader = torch.utils.data.DataLoader(Views(), BATCH, num_workers=threads, persistent_workers=True)

    def go():
        for _ in loader:
            pass

    return go
