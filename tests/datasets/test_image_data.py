"""Image sets: their splits, their sizes, known pixels and labels, and each file format against its description."""
import gzip
import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from cl_lib.datasets import image, sources
from cl_lib.datasets.sources import DataError, File, Mirror
from cl_lib.errors import InputError

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def fashion():
    return {s: image.fashion_mnist(s) for s in SPLITS}


@pytest.fixture(scope="module")
def cifar():
    try:
        sources.locate(image.CIFAR_SLICE, download=False)
    except DataError as missing:
        pytest.skip(str(missing))
    return {s: image.cifar10(s) for s in SPLITS}


def check_splits(parts, shape, sizes, classes):
    assert [len(parts[s].y) for s in SPLITS] == sizes
    for name, part in parts.items():
        assert part.x.shape == (len(part.y), *shape) and part.x.dtype == torch.uint8 and part.y.dtype == torch.int64
        assert part.split == name and part.classes == classes and part.y.unique().tolist() == list(range(10))
    # a sixth of every class is held out
    held, kept = (torch.bincount(parts[s].y) for s in ("validation", "train"))
    assert held.tolist() == [round(n / 6) for n in (held + kept).tolist()]


def test_fashion_mnist_is_bundled(fashion, monkeypatch):
    check_splits(fashion, (1, 28, 28), [8_334, 1_666, 2_000], image.FASHION)
    assert fashion["test"].y[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]  # as published
    x = torch.cat([fashion["train"].x, fashion["validation"].x]).float() / 255
    assert x.mean().item() == pytest.approx(0.2860, abs=0.003) and x.std().item() == pytest.approx(0.3530, abs=0.003)
    monkeypatch.delenv("CL_DATA", raising=False)
    monkeypatch.setattr(sources, "_used", {})
    assert sources.available(image.FASHION_SHEET) and sources.available(image.FASHION_LABELS)


def test_train_and_validation_part_the_training_images(fashion):
    (x, y), test = image._fashion_slice()
    assert y[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]  # as published
    mask = image.held_out(tuple(y.tolist()))
    assert fashion["train"].x.equal(x[~mask]) and fashion["validation"].x.equal(x[mask])
    assert fashion["train"].y.equal(y[~mask]) and fashion["validation"].y.equal(y[mask])
    assert fashion["test"].x.equal(test[0]) and fashion["test"].y.equal(test[1])
    image.held_out.cache_clear()
    torch.manual_seed(9)
    assert image.held_out(tuple(y.tolist())).equal(mask)


def test_cifar10_slice(cifar):
    check_splits(cifar, (3, 32, 32), [10_000, 2_000, 3_000], image.CIFAR10)
    (x, y), (test_x, test_y) = image._cifar10("slice")
    assert y[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3] and test_y[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert x[0, :, 0, 0].tolist() == [59, 62, 63] and test_x[0, :, 0, 0].tolist() == [158, 112, 49]
    assert x[0, 0, 0, :4].tolist() == [59, 43, 50, 68]
    mask = image.held_out(tuple(y.tolist()))
    assert cifar["train"].x.equal(x[~mask]) and cifar["validation"].x.equal(x[mask])


def draw(n, c=3, side=32, classes=10):
    g = np.random.default_rng(n)
    return g.integers(0, 256, (n, c, side, side), np.uint8), g.integers(0, classes, n, np.uint8)


def archive(path, members):
    with tarfile.open(path, "w:gz") as t:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            t.addfile(entry, io.BytesIO(data))
    return path


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png")
    return out.getvalue()


def same(got, expected):
    for (x, y), (wanted_x, wanted_y) in zip(got, expected, strict=True):
        assert (x.numpy() == wanted_x).all() and y.tolist() == wanted_y.tolist()


def test_cifar_files_of_all_three_kinds_give_the_same(tmp_path):
    train, test = draw(15), draw(4)
    binary, packed = {}, {"package/train_lables.json": json.dumps(train[1].tolist()).encode(),
                          "package/test_lables.json": json.dumps(test[1].tolist()).encode()}
    parts = {f"data_batch_{i + 1}": [a[3 * i:3 * i + 3] for a in train] for i in range(5)} | {"test_batch": test}
    for name, (x, y) in parts.items():
        records = [bytes([label]) + a.tobytes() for a, label in zip(x, y, strict=True)]
        binary[f"cifar-10-batches-bin/{name}.bin"] = b"".join(records)
        packed[f"package/{name}.png"] = png(x.transpose(0, 2, 3, 1).reshape(len(x), 1024, 3))
    limit = Image.MAX_IMAGE_PIXELS
    same(image._cifar_binary(archive(tmp_path / "binary", binary)), (train, test))
    same(image._cifar_packed(archive(tmp_path / "packed", packed)), (train, test))
    assert Image.MAX_IMAGE_PIXELS == limit

    def coded(x):
        out = np.empty((3, len(x), 32, 32), np.uint8)
        for n, (r, g, b) in enumerate(x.astype(int)):
            for c, plane in enumerate((r - g, g, b - g)):
                for i in range(32):
                    for j in range(32):
                        before = plane[i, j - 1] if j else plane[i - 1, 0] if i else 0
                        out[c, n, i, j] = (plane[i, j] - before) % 256
        return out

    np.savez(tmp_path / "coded.npz", train_coded=coded(train[0]), train_labels=train[1], test_coded=coded(test[0]),
             test_labels=test[1])
    same(image._coded_slice(tmp_path / "coded.npz"), (train, test))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Replace a published file by one of the test's own in CL_DATA."""
    monkeypatch.setenv("CL_DATA", str(tmp_path))
    monkeypatch.setenv("CL_CACHE", str(tmp_path / "cache"))

    def put(name, data):
        (tmp_path / name).write_bytes(data)
        return File(name, hashlib.sha256(data).hexdigest(), (Mirror("folder", name),))

    yield put
    for f in (image._mnist, image._quickdraw):
        f.cache_clear()


def idx(x, y):
    """Big-endian header (bytes, number of axes, each length), then the bytes."""
    return [bytes([0, 0, 8, a.ndim]) + np.array(a.shape, ">u4").tobytes() + a.tobytes() for a in (x[:, 0], y)]


def test_mnist_and_fashion_mnist_in_idx_files(files, tmp_path, monkeypatch):
    train, test = draw(60, 1, 28), draw(7, 1, 28)
    data = [*idx(*train), *idx(*test)]
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    packed = archive(tmp_path / "m", {f"package/data/{n}": d for n, d in zip(names, data, strict=True)}).read_bytes()
    monkeypatch.setattr(image, "MNIST", files("mnist.tgz", packed))
    fashion = tuple(files(n, gzip.compress(d)) for n, d in zip(names, data, strict=True))
    monkeypatch.setattr(image, "FASHION_FILES", fashion)
    image._mnist.cache_clear()
    for load in (image.mnist, lambda s: image.fashion_mnist(s, version="full")):
        parts = {s: load(s) for s in SPLITS}
        same([(parts["test"].x, parts["test"].y)], [test])
        assert len(parts["train"].y) + len(parts["validation"].y) == 60
        mask = image.held_out(tuple(train[1].tolist())).numpy()
        same([(parts["validation"].x, parts["validation"].y)], [(train[0][mask], train[1][mask])])


def test_quickdraw_parts_the_hundred_of_each_class(files, tmp_path, monkeypatch):
    x = draw(200, 1, 28)[0].reshape(2, 100, 784)
    members = {}
    for name, drawings in zip(("cat", "ant"), x, strict=True):
        lines = [json.dumps([v / 255 for v in d]) for d in drawings.tolist()]
        members[f"package/src/drawings/{name}.ndjson.gz"] = gzip.compress("\n".join(lines).encode())
    monkeypatch.setattr(image, "QUICKDRAW", files("q.tgz", archive(tmp_path / "q", members).read_bytes()))
    image._quickdraw.cache_clear()
    parts = [image.quickdraw(s) for s in SPLITS]
    assert [torch.bincount(p.y).tolist() for p in parts] == [[70, 70], [10, 10], [20, 20]]
    assert all(p.classes == ("ant", "cat") for p in parts)
    for label, drawings in ((0, x[1]), (1, x[0])):
        together = torch.cat([p.x[p.y == label] for p in parts]).view(-1, 784)
        assert sorted(map(bytes, together.numpy())) == sorted(map(bytes, drawings))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: image.cifar10("val"), "unknown split of cifar10 'val'; (did you mean|valid)"),
    (lambda: image.fashion_mnist("tests"), "unknown split of fashion_mnist 'tests'; did you mean 'test'"),
    (lambda: image.mnist("all"), "valid: test, train, validation"),
    (lambda: image.quickdraw("trian"), "did you mean 'train'"),
    (lambda: image.cifar10("train", version="half"), "unknown version of cifar10 'half'"),
    (lambda: image.fashion_mnist("train", version="ful"), "did you mean 'full'"),
])
def test_bad_names_are_told(call, message):
    with pytest.raises(InputError, match=message):
        call()
