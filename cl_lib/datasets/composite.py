"""Images with several attributes that have nothing to do with each other: two real pictures above a strip of colour."""
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

from cl_lib.datasets.image import SPLITS, fashion_mnist, mnist
from cl_lib.errors import InputError, unknown

PICTURES = {"mnist": mnist, "fashion_mnist": fashion_mnist}
COLOURS = ("red", "orange", "lime", "green", "jade", "cyan", "blue", "indigo", "magenta", "rose")


@dataclass(frozen=True)
class Composite:
    """A split of composed images.

    Shapes: x (n, 3, 32, 32) uint8; y (n, 3) int64, the labels of the left picture, the right picture and the strip;
    classes[a][y] is the name of label y of attribute a.
    """
    x: torch.Tensor
    y: torch.Tensor
    classes: tuple[tuple[str, ...], ...]
    split: str


@lru_cache(maxsize=8)
def composite(split: str, n: int, *, left: str = "mnist", right: str = "fashion_mnist", painted: bool = True) -> Composite:
    """n images: a 28x28 grey picture of `left` and one of `right`, each at half its size, above a strip of one colour.

    The colour is one of ten hues, whose shade, saturation and brightness differ from image to image. The three are drawn
    independently, the same in every process; no picture is used twice in the same place. Unless `painted` the strip is grey,
    and its label is there though nothing shows it.
    Raises: InputError for an unknown split or set, or n above the pictures of the split; DataError when the data are not
    to be had.
    """
    if split not in SPLITS:
        raise unknown("split of composite", split, SPLITS)
    for name in (left, right):
        if name not in PICTURES:
            raise unknown("set of pictures", name, PICTURES)
    pictures = [PICTURES[name](split) for name in (left, right)]
    most = min(len(p.x) for p in pictures)
    if not 1 <= n <= most:
        raise InputError(f"n must be in 1..{most}, the number of pictures in {split}, not {n}")
    g = torch.Generator().manual_seed(SPLITS.index(split))
    chosen = [torch.randperm(len(p.x), generator=g)[:n] for p in pictures]
    hue = torch.randint(len(COLOURS), (n,), generator=g)
    x = torch.zeros(n, 3, 32, 32)
    for at, p, index in zip((1, 17), pictures, chosen, strict=True):
        x[:, :, 1:15, at:at + 14] = F.avg_pool2d(p.x[index].float() / 255, 2)
    x[:, :, 17:31, 1:31] = (_shades(hue, g) if painted else torch.full((n, 3), 0.5))[:, :, None, None]
    y = torch.stack([*(p.y[index] for p, index in zip(pictures, chosen, strict=True)), hue], 1)
    return Composite(x.mul_(255).round_().byte(), y, (*(p.classes for p in pictures), COLOURS), split)


def _shades(hue: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """A colour (n, 3) in [0, 1] for each hue: within half of its share of the circle, saturation and value of 0.5 to 1."""
    u = torch.rand(3, len(hue), generator=g)
    turn = (hue + u[0] / 2) / len(COLOURS)
    return torch.tensor([hsv_to_rgb(*t) for t in zip(turn.tolist(), *(u[1:] / 2 + 0.5).tolist(), strict=True)])
