"""Encoders of time series: a small residual network of strided convolutions that trains in seconds on one core."""
import torch
import torch.nn.functional as F
from torch import nn

from cl_lib.encoders.image import seeded
from cl_lib.errors import InputError


def _over_time(d_in: int, d_out: int, kernel: int, stride: int) -> nn.Conv2d:
    """A convolution over time; as one over images of height 1 it can be channels-last, half as long on a CPU as `Conv1d`."""
    return nn.Conv2d(d_in, d_out, (1, kernel), stride=(1, stride), padding=(0, kernel // 2), bias=False)


class Residual(nn.Module):
    """Two convolutions over time with batch norm, the first of stride 2, beside a 1-tap convolution of stride 2.

    Shapes: (n, d_in, 1, length) -> (n, d_out, 1, ceil(length / 2)).
    """

    def __init__(self, d_in: int, d_out: int, kernel: int):
        super().__init__()
        self.first, self.second = _over_time(d_in, d_out, kernel, 2), _over_time(d_out, d_out, kernel, 1)
        self.norm1, self.norm2 = nn.BatchNorm2d(d_out), nn.BatchNorm2d(d_out)
        self.skip = nn.Sequential(_over_time(d_in, d_out, 1, 2), nn.BatchNorm2d(d_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm2(self.second(F.relu(self.norm1(self.first(x))))) + self.skip(x))


class SeriesEncoder(nn.Module):
    """Series, (n, channels, length), to features h, (n, dim), by `body`, which sees images of height 1."""

    def __init__(self, body: nn.Module, dim: int):
        super().__init__()
        self.body, self.dim = body.to(memory_format=torch.channels_last), dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x[:, :, None].contiguous(memory_format=torch.channels_last))


def resnet1d(in_channels: int = 1, *, width: int = 16, blocks: int = 3, kernel: int = 5, seed: int | None = None) -> SeriesEncoder:
    """A stem (7 taps, stride 2), `blocks` residual blocks of stride 2 whose width doubles from the second on, mean over time.

    Shapes: (n, in_channels, length) -> (n, width * 2^(blocks - 1)); any length, about 2^(blocks + 1) and more make sense.
    Three blocks are 7 convolutions deep (10 with the shortcuts'). Seeded as `small_cnn`.
    Raises: InputError for width or blocks below 1, an even kernel.
    """
    if width < 1 or blocks < 1 or kernel < 1 or kernel % 2 == 0:
        raise InputError(f"width and blocks must be at least 1 and kernel odd, not {width}, {blocks} and {kernel}")
    with seeded(seed):
        widths = [width, *(width * 2 ** i for i in range(blocks))]
        stem = (_over_time(in_channels, width, 7, 2), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        body = (Residual(a, b, kernel) for a, b in zip(widths, widths[1:], strict=False))
        return SeriesEncoder(nn.Sequential(*stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten()), widths[-1])
