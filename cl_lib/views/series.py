"""Random views of a whole batch of time series at once, each series with its own parameters.

Every operation takes a batch `x`, float of shape (n, channels, length), and a `torch.Generator` on its device, and returns a
new batch of the same shape. What moves time moves all channels of a series alike.
"""
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch

from cl_lib.errors import InputError

View = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def series(x: torch.Tensor) -> torch.Tensor:
    """The batch itself. Raises: InputError when x is not a float tensor (n, channels, length) of at least two points."""
    if x.ndim != 3 or not x.is_floating_point() or x.shape[2] < 2:
        raise InputError(f"x must be float of shape (n, channels, length >= 2), not {x.dtype} of {tuple(x.shape)}")
    return x


def jitter(x: torch.Tensor, g: torch.Generator, *, sigma: float = 0.1) -> torch.Tensor:
    """Add independent normal noise of standard deviation sigma (the series' unit) to every point."""
    return series(x) + sigma * _normal(x.shape, x, g)


def scale(x: torch.Tensor, g: torch.Generator, *, sigma: float = 0.2, mean: float = 1.0) -> torch.Tensor:
    """Multiply each channel of each series by a factor from a normal distribution of this mean and deviation."""
    return series(x) * (mean + sigma * _normal((*x.shape[:2], 1), x, g))


def permute(x: torch.Tensor, g: torch.Generator, *, segments: int = 8, least: int = 1) -> torch.Tensor:
    """Cut each series at random points into `least` to `segments` pieces and put these together in random order.

    The number of pieces is uniform; two cuts may fall together, and pieces may come back in their old order.
    Source: 1706.00527 (segment permutation); cuts at random points as in TS-TCC (2106.14112).
    Raises: InputError unless 1 <= least <= segments.
    """
    n, _, length = series(x).shape
    if not 1 <= least <= segments:
        raise InputError(f"least and segments must satisfy 1 <= least <= segments, not {least} and {segments}")
    pieces = torch.randint(least, segments + 1, (n, 1), device=x.device, generator=g)
    cuts = torch.randint(1, length, (n, segments - 1), device=x.device, generator=g)
    cuts = cuts.masked_fill(torch.arange(1, segments, device=x.device) >= pieces, length)  # those that are not made
    at = torch.arange(length, device=x.device).expand(n, -1).contiguous()
    piece = torch.searchsorted(cuts.sort(1).values, at, right=True)
    key = torch.rand(n, segments, device=x.device, generator=g)
    return _take(x, key.gather(1, piece).argsort(dim=1, stable=True))


def magnitude_warp(x: torch.Tensor, g: torch.Generator, *, sigma: float = 0.2, knots: int = 4) -> torch.Tensor:
    """Multiply each channel by a smooth random curve around 1: a cubic spline through knots + 2 normal values.

    Source: 1706.00527.
    """
    return series(x) * _curves(x, g, sigma, knots, x.shape[1])


def time_warp(x: torch.Tensor, g: torch.Generator, *, sigma: float = 0.2, knots: int = 4) -> torch.Tensor:
    """Let time run faster here and slower there: speed is a smooth random curve around 1; ends stay where they are.

    Speeds are kept at a tenth and more, so that time never runs backwards. Values between points by linear interpolation.
    Source: 1706.00527.
    """
    speed = _curves(series(x), g, sigma, knots, 1)[:, 0, 1:].clamp(min=0.1)
    passed = torch.cat([speed.new_zeros(len(x), 1), speed.cumsum(1)], 1)
    return _read(x, passed / passed[:, -1:] * (x.shape[2] - 1))


def cutout(x: torch.Tensor, g: torch.Generator, *, share: float = 0.2, fill: float = 0.0) -> torch.Tensor:
    """Set a stretch of this share of the length, at a random place wholly inside, to `fill` in all channels.

    Raises: InputError unless 0 < share < 1.
    """
    n, _, length = series(x).shape
    if not 0 < share < 1:
        raise InputError(f"share must lie between 0 and 1, not {share}")
    size = max(1, round(share * length))
    start = torch.randint(length - size + 1, (n, 1), device=x.device, generator=g)
    at = torch.arange(length, device=x.device)
    return x.masked_fill(((at >= start) & (at < start + size))[:, None], fill)


def crop(x: torch.Tensor, g: torch.Generator, *, share=(0.5, 1.0)) -> torch.Tensor:
    """A random window, its share of the length drawn from a range, stretched to the full length (linear interpolation).

    Raises: InputError unless 0 < share[0] <= share[1] <= 1.
    """
    n, _, length = series(x).shape
    if not 0 < share[0] <= share[1] <= 1:
        raise InputError(f"share must lie in (0, 1], from low to high, not {share}")
    span = (length - 1) * torch.empty(n, 1, device=x.device, dtype=x.dtype).uniform_(*share, generator=g)
    start = torch.rand(n, 1, device=x.device, dtype=x.dtype, generator=g) * (length - 1 - span)
    return _read(x, start + span * torch.linspace(0, 1, length, device=x.device, dtype=x.dtype))


def permute_channels(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Put the channels of each series in a random order; a single channel stays."""
    order = torch.rand(series(x).shape[:2], device=x.device, generator=g).argsort(1)
    return x.gather(1, order[:, :, None].expand_as(x))


def cascade(*steps: tuple[View, float]) -> View:
    """A view made of steps in turn, each (view, chance): each series takes each step with its chance, by itself.

    Raises: InputError without steps, or for a chance outside [0, 1].
    """
    if not steps or not all(0 <= p <= 1 for _, p in steps):
        raise InputError(f"steps must be pairs (view, chance in [0, 1]), at least one, not {[p for _, p in steps]}")

    def view(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
        for step, p in steps:
            on = torch.rand(len(x), 1, 1, device=x.device, generator=g) < p
            x = torch.where(on, step(x, g), x)
        return x

    return view


def two_views(x: torch.Tensor, g: torch.Generator, view: View, other: View | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Two views of every series: v1 by `view`, v2 by `other`, or by `view` again, independently."""
    return view(series(x), g), (other or view)(x, g)


def _normal(shape, x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, device=x.device, dtype=x.dtype, generator=g)


def _curves(x, g, sigma, knots, channels):
    """Smooth random curves around 1, (n, channels, length)."""
    if knots < 0:
        raise InputError(f"knots must be at least 0, not {knots}")
    values = 1 + sigma * _normal((len(x), channels, knots + 2), x, g)
    return values @ torch.from_numpy(_spline(knots + 2, x.shape[2])).to(values)


@lru_cache
def _spline(knots: int, length: int) -> np.ndarray:
    """The matrix (knots, length) that turns values at even knots into their cubic spline (natural ends) at every point."""
    from scipy.interpolate import CubicSpline

    return CubicSpline(np.linspace(0, length - 1, knots), np.eye(knots), bc_type="natural")(np.arange(length)).T


def _take(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return x.gather(2, index[:, None].expand_as(x))


def _read(x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """The series read at places `at` (n, length) in [0, length - 1], linearly interpolated."""
    low = at.floor().clamp(0, x.shape[2] - 2)
    below = low.long()
    return torch.lerp(_take(x, below), _take(x, below + 1), (at - low).clamp(0, 1)[:, None])
