"""Each view of time series against its definition as a loop over series and points, and against what it must keep."""
from functools import partial

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

from cl_lib.errors import InputError
from cl_lib.views import series as views

N, C, T = 60, 2, 50


def g(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def x():
    return torch.randn(N, C, T, generator=g(9), dtype=torch.float64)


RECIPES = {
    "jitter": views.jitter, "scale": views.scale, "permute": views.permute, "magnitude": views.magnitude_warp,
    "time": views.time_warp, "cutout": views.cutout, "crop": views.crop, "channels": views.permute_channels,
    "cascade": views.cascade((views.jitter, 0.5), (partial(views.cutout, share=0.3), 0.9)),
    "two": lambda x, g: torch.cat(views.two_views(x, g, views.jitter, views.permute))[:len(x)],
}


@pytest.mark.parametrize("name", RECIPES)
def test_shape_dtype_seed_and_input_kept(name, x):
    before = x.clone()
    out = RECIPES[name](x, g(1))
    assert out.shape == x.shape and out.dtype == x.dtype and x.equal(before) and not out.equal(x)
    assert RECIPES[name](x, g(1)).equal(out) and not RECIPES[name](x, g(2)).equal(out)
    assert RECIPES[name](x.float(), g(1)).dtype == torch.float32


@pytest.mark.parametrize("name", RECIPES)
def test_wrong_input(name):
    for wrong in (torch.zeros(3, 8), torch.zeros(3, 1, 8, dtype=torch.int64), torch.zeros(3, 1, 1)):
        with pytest.raises(InputError, match="x must be float"):
            RECIPES[name](wrong, g())


def test_jitter_and_scale(x):
    noise = views.jitter(x, g(), sigma=0.3) - x
    assert abs(noise.std().item() - 0.3) < 0.02 and abs(noise.mean().item()) < 0.02
    factor = views.scale(x, g(), sigma=0.5, mean=2) / x
    assert torch.allclose(factor, factor[:, :, :1].expand_as(factor))  # one factor for each channel
    assert abs(factor[:, :, 0].mean().item() - 2) < 0.15 and abs(factor[:, :, 0].std().item() - 0.5) < 0.1
    assert not torch.allclose(factor[:, 0], factor[:, 1])
    assert views.jitter(x, g(), sigma=0).equal(x) and views.scale(x, g(), sigma=0).equal(x)


@pytest.mark.parametrize(("segments", "least"), [(1, 1), (2, 2), (8, 1), (12, 12), (80, 80)])
def test_permute_keeps_the_values_and_breaks_few_neighbours(segments, least):
    x = torch.arange(T, dtype=torch.float64).expand(N, C, T).contiguous()
    out = views.permute(x, g(), segments=segments, least=least)
    assert out.sort(2).values.equal(x) and out[:, 0].equal(out[:, 1])  # the same points, all channels alike
    breaks = (out[:, 0].diff(dim=1) != 1).sum(1)
    assert breaks.max() <= segments - 1
    if segments == 1:
        assert out.equal(x)
    if (segments, least) == (2, 2):  # half of the time the two pieces change places
        assert set(breaks.tolist()) == {0, 1} and 0.25 < breaks.double().mean() < 0.75
    if (segments, least) == (8, 1):
        assert breaks.min() == 0 and breaks.max() >= 5
    if (segments, least) == (12, 12):
        assert breaks.double().mean() > 6


def test_magnitude_warp_is_a_cubic_spline_through_its_knots(x):
    curve = views.magnitude_warp(torch.ones_like(x), g(3), sigma=0.4, knots=3)
    values = 1 + 0.4 * torch.randn(N, C, 5, generator=g(3), dtype=torch.float64)
    for i in range(0, N, 13):
        for c in range(C):
            spline = CubicSpline(np.linspace(0, T - 1, 5), values[i, c].numpy(), bc_type="natural")
            assert np.allclose(curve[i, c].numpy(), spline(np.arange(T)))
    assert torch.allclose(views.magnitude_warp(x, g(3), sigma=0.4, knots=3), x * curve)
    assert torch.allclose(views.magnitude_warp(x, g(), sigma=0), x)


def test_time_warp_runs_forward_from_end_to_end():
    x = torch.linspace(0, 1, T, dtype=torch.float64).expand(N, C, T).contiguous()
    for sigma in (0.2, 1.5):
        out = views.time_warp(x, g(), sigma=sigma)
        assert (out.diff(dim=2) > 0).all() and out[:, 0].equal(out[:, 1])
        assert torch.allclose(out[:, :, 0], x[:, :, 0]) and torch.allclose(out[:, :, -1], x[:, :, -1])
        assert (out - x).abs().amax(2).mean() > 0.02
    assert torch.allclose(views.time_warp(x, g(), sigma=0), x)


def test_cutout_blanks_one_stretch(x):
    for share in (0.01, 0.2, 0.99):
        out = views.cutout(x, g(), share=share, fill=7.0)
        hole = out == 7.0
        assert (hole.sum(2) == max(1, round(share * T))).all() and hole[:, 0].equal(hole[:, 1])
        assert (hole.int().diff(dim=2).abs().sum(2) <= 2).all() and out[~hole].equal(x[~hole])
    starts = (views.cutout(x, g(), share=0.2, fill=7.0)[:, 0] == 7).int().argmax(1)
    assert starts.min() < 8 and starts.max() > T - 18


def test_crop_reads_a_straight_window():
    x = torch.linspace(0, 1, T, dtype=torch.float64).expand(N, C, T).contiguous()
    out = views.crop(x, g(), share=(0.3, 0.6))
    step = out.diff(dim=2)
    assert torch.allclose(step, step[:, :, :1].expand_as(step)) and out.min() >= 0 and out.max() <= 1
    span = out[:, 0, -1] - out[:, 0, 0]
    assert span.min() >= 0.3 and span.max() <= 0.6 and span.std() > 0.05 and out[:, 0, 0].std() > 0.05
    assert torch.allclose(views.crop(x, g(), share=(1, 1)), x)


def test_channels_change_places_alone():
    x = torch.arange(5.0)[None, :, None] + torch.zeros(N, 5, 4)
    out = views.permute_channels(x, g())
    assert out.sort(1).values.equal(x) and len({tuple(r) for r in out[:, :, 0].tolist()}) > 20
    assert views.permute_channels(x[:, :1], g()).equal(x[:, :1])


def test_cascade_steps_by_chance(x):
    plus = lambda x, g: x + 1  # noqa: E731
    times = lambda x, g: x * 10  # noqa: E731
    assert torch.equal(views.cascade((plus, 1.0), (times, 1.0))(x, g()), (x + 1) * 10)
    assert torch.equal(views.cascade((plus, 0.0), (times, 0.0))(x, g()), x)
    moved = (views.cascade((plus, 0.3))(x.expand(N, C, T).repeat(20, 1, 1), g()) != x.repeat(20, 1, 1)).flatten(1)
    assert (moved.all(1) | ~moved.any(1)).all() and abs(moved[:, 0].double().mean().item() - 0.3) < 0.05


def test_two_views_are_independent(x):
    a, b = views.two_views(x, g(), views.jitter)
    assert not a.equal(b) and abs(torch.corrcoef(torch.stack([(a - x).flatten(), (b - x).flatten()]))[0, 1]) < 0.05
    a, b = views.two_views(x, g(), views.permute_channels, partial(views.scale, sigma=0.0))
    assert b.equal(x) and not a.equal(x)


@pytest.mark.parametrize(("call", "message"), [
    (partial(views.permute, segments=0), "least and segments"), (partial(views.permute, segments=3, least=4), "least and segments"),
    (partial(views.cutout, share=0.0), "share"), (partial(views.cutout, share=1.0), "share"),
    (partial(views.crop, share=(0.0, 1.0)), "share"), (partial(views.crop, share=(0.5, 1.1)), "share"),
    (partial(views.crop, share=(0.8, 0.5)), "share"), (partial(views.magnitude_warp, knots=-1), "knots")])
def test_wrong_arguments(call, message, x):
    with pytest.raises(InputError, match=message):
        call(x, g())


def test_wrong_cascades():
    for steps in ((), ((views.jitter, 1.5),)):
        with pytest.raises(InputError, match="steps"):
            views.cascade(*steps)
