"""One epoch of SimCLR from pictures to weights, with our views and loss and with lightly's, on the same machine."""
import importlib.util
import subprocess
import sys
import time

from cl_lib.errors import unknown
from cl_lib.profiling.views import RANGES

NAMES = ("ours", "lightly")
BATCH, TAU, LR, SIZE = 256, 0.2, 1.5e-3, 32


def epoch(*, seeds: tuple[int, ...] = (0, 1, 2, 3, 4), threads: int = 2, names: tuple[str, ...] = NAMES) -> list[dict]:
    """A row for each implementation and seed: seconds of the epoch, knn_accuracy of the features after it.

    The same encoder and head with the same initial weights, batches of 256, optimiser and schedule, on the training part of
    the CIFAR-10 slice, held in memory; lightly's transform runs over PIL images in a DataLoader with as many workers as
    threads, which start before the clock does. Ranges of the views agree; their draws do not. One process a run.
    """
    rows = []
    for seed in seeds:
        for name in names:
            if name not in NAMES:
                raise unknown("implementation", name, NAMES)
            if name == "lightly" and importlib.util.find_spec("lightly") is None:
                continue
            code = f"from cl_lib.profiling.epoch import measure; print(*measure({name!r}, {seed}, {threads}))"
            done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
            seconds, accuracy = map(float, done.stdout.split())
            rows.append(dict(name=name, seed=seed, threads=threads, seconds=seconds, knn_accuracy=accuracy))
    return rows


def measure(name: str, seed: int, threads: int) -> tuple[float, float]:
    """Seconds of an epoch and the accuracy after it, in this process; called in a fresh one."""
    import torch
    from torch import nn

    from cl_lib.datasets.image import cifar10
    from cl_lib.encoders.heads import projection
    from cl_lib.encoders.image import small_cnn
    from cl_lib.evaluation.features import encode
    from cl_lib.evaluation.knn import knn_accuracy
    from cl_lib.training import train

    torch.set_num_threads(threads)
    bank, held_out = cifar10("train"), cifar10("test")
    h = small_cnn(seed=seed)
    model = nn.Sequential(h, projection(h.dim, 128, 64, seed=seed))
    batches, loss = {"ours": _ours, "lightly": _lightly}[name](bank.x, seed, threads)
    begin = time.perf_counter()
    train(model, lambda views: loss(*model(torch.cat(views)).chunk(2)), batches, steps=len(bank.x) // BATCH, lr=LR)
    seconds = time.perf_counter() - begin
    return seconds, knn_accuracy(encode(h, bank.x, "cpu"), bank.y, encode(h, held_out.x, "cpu"), held_out.y)


def _ours(x, seed, threads):
    from cl_lib.losses import nt_xent
    from cl_lib.training import batches, generator
    from cl_lib.views.image import simclr, two_views

    view, g = simclr(size=SIZE, **RANGES), generator(seed, stream=1)
    return (two_views(x[i], g, view) for i in batches(len(x), BATCH, generator(seed))), lambda a, b: nt_xent(a, b, tau=TAU)


def _lightly(x, seed, threads):
    import torch
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    transform = SimCLRTransform(SIZE, cj_prob=RANGES["jitter"], cj_strength=RANGES["strength"], min_scale=RANGES["min_scale"],
                                random_gray_scale=RANGES["gray"], hf_prob=RANGES["flip"], gaussian_blur=0.0,
                                normalize={"mean": [0.0] * 3, "std": [1.0] * 3})  # the encoder centres and scales
    pictures = [Image.fromarray(p) for p in x.permute(0, 2, 3, 1).numpy()]

    class Views(Dataset):
        def __len__(self):
            return len(pictures)

        def __getitem__(self, i):
            return transform(pictures[i])

    torch.manual_seed(seed)
    loader = DataLoader(Views(), BATCH, shuffle=True, drop_last=True, num_workers=threads)
    return iter(loader), NTXentLoss(TAU)
