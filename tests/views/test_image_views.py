"""Each operation against torchvision with the same parameters, its random part against torchvision's distribution."""
import math
from functools import partial

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as peer
from scipy import ndimage, stats
from torchvision.transforms import ColorJitter, InterpolationMode, RandomResizedCrop

from cl_lib.errors import InputError
from cl_lib.views import image as views

N = 40


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n=N, c=3, h=32, w=32, seed=0):
    """Blobs of colour, with a few grey, black and white pixels, which have no hue."""
    x = torch.rand(n, c, h // 4, w // 4, generator=seeded(seed))
    x = torch.nn.functional.interpolate(x, (h, w), mode="bilinear").clone()
    x[:, :, 0, 0], x[:, :, 0, 1], x[:, :, 0, 2] = 0.0, 1.0, 0.5
    return x


def uniform(low, high, n=N, seed=1):
    return torch.empty(n).uniform_(low, high, generator=seeded(seed))


def each(x, function, *parameters):
    return torch.stack([function(a, *(p[i].item() for p in parameters)) for i, a in enumerate(x)])


def close(a, b, atol=2e-6):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


# each recipe takes (x, g); what one leaves out another has
RECIPES = {
    "crop": views.random_resized_crop,
    "flip": views.horizontal_flip,
    "affine": partial(views.affine, shear=10.0),
    "jitter": partial(views.color_jitter, p=0.8),
    "jitter all": views.color_jitter,
    "gray": partial(views.grayscale, p=0.5),
    "blur": views.gaussian_blur,
    "noise": views.gaussian_noise,
    "cutout": views.cutout,
    "rotate90": lambda x, g: views.rotate90(x, g)[0],
    "mixup": lambda x, g: views.mixup(x, g)[0],
    "cutmix": lambda x, g: views.cutmix(x, g)[0],
    "simclr": views.simclr(32, blur=0.5),
    "two views": lambda x, g: torch.cat(views.two_views(x, g, views.simclr(32))),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", RECIPES)
def test_the_generator_alone_decides_and_the_input_stays(name, channels):
    x = pictures(c=channels)
    before, state, g = x.clone(), torch.get_rng_state(), seeded(5)
    first = RECIPES[name](x, g)
    torch.manual_seed(123)
    again = RECIPES[name](x, seeded(5))
    assert again.equal(first) and x.equal(before)
    torch.set_rng_state(state)
    RECIPES[name](x, seeded(5))
    assert torch.get_rng_state().equal(state)
    assert first.shape[1:] == x.shape[1:] and first.dtype == torch.float32
    assert 0 <= first.min() and first.max() <= 1 + 1e-6
    if (name, channels) != ("gray", 1):
        assert not RECIPES[name](x, g).equal(first)


@pytest.mark.parametrize("name", RECIPES)
def test_bytes_are_float_over_255(name):
    x = (pictures() * 255).round().to(torch.uint8)
    before = x.clone()
    assert RECIPES[name](x, seeded()).equal(RECIPES[name](x.float() / 255, seeded())) and x.equal(before)


@pytest.mark.parametrize("name", [n for n in RECIPES if n not in ("mixup", "cutmix", "two views")])
def test_every_image_has_its_own_parameters(name):
    x = pictures(1).expand(N, -1, -1, -1)
    least = {"flip": 2, "gray": 2, "rotate90": 4}.get(name, N // 3)
    assert len({v.numpy().tobytes() for v in RECIPES[name](x, seeded())}) >= least


@pytest.mark.parametrize(("c", "height", "width", "size"), [(3, 32, 32, 32), (3, 32, 32, 20), (1, 28, 40, 33)])
def test_resized_crop_is_torchvisions(c, height, width, size):
    n = 150  # more than are worked on at once
    x, g = pictures(n, c, height, width), seeded(2)
    boxes, flip = views.crop_boxes(n, height, width, g, scale=(0.01, 1.0)), torch.rand(n, generator=g) < 0.5
    expected = []
    for a, f, *box in zip(x, flip, *(b.int().tolist() for b in boxes), strict=True):
        a = peer.resized_crop(a, *box, [size, size], InterpolationMode.BILINEAR, antialias=False)
        expected.append(peer.hflip(a) if f else a)
    close(views.resized_crop(x, *boxes, size, flip), torch.stack(expected))


def test_a_crop_of_everything_changes_nothing():
    x = pictures()
    assert views.random_resized_crop(x, seeded(), scale=(1.0, 1.0), ratio=(1.0, 1.0)).equal(x)


@pytest.mark.parametrize(("height", "width", "scale", "ratio"), [
    (32, 32, (0.08, 1.0), (3 / 4, 4 / 3)), (224, 160, (0.2, 1.0), (3 / 4, 4 / 3)), (64, 64, (0.5, 0.9), (0.5, 2.0)),
    (20, 100, (0.9, 1.0), (3 / 4, 4 / 3)), (100, 20, (0.9, 1.0), (3 / 4, 4 / 3)),  # these two fall back
])
def test_crop_boxes_are_distributed_as_torchvisions(height, width, scale, ratio):
    n = 2000
    ours = torch.stack(views.crop_boxes(n, height, width, seeded(), scale=scale, ratio=ratio), 1)
    torch.manual_seed(1)
    blank = torch.empty(1, height, width)
    theirs = torch.tensor([RandomResizedCrop.get_params(blank, list(scale), list(ratio)) for _ in range(n)])
    top, left, h, w = ours.T
    assert (ours >= 0).all() and (h >= 1).all() and (top + h <= height).all() and (left + w <= width).all()
    for f in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 2] / b[:, 3], lambda b: b[:, 0], lambda b: b[:, 1]):
        assert stats.ks_2samp(f(ours), f(theirs)).pvalue > 0.001  # of twenty comparisons


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("ours", "theirs", "low", "high"), [
    (views.adjust_brightness, peer.adjust_brightness, 0, 2), (views.adjust_contrast, peer.adjust_contrast, 0, 2),
    (views.adjust_saturation, peer.adjust_saturation, 0, 2), (views.adjust_hue, peer.adjust_hue, -0.5, 0.5),
])
def test_colours_are_adjusted_as_torchvision_does(ours, theirs, low, high, channels):
    x, amount = pictures(c=channels), uniform(low, high)
    amount[:3] = torch.tensor([low, high, (low + high) / 2])
    close(ours(x.clone(), amount), each(x, theirs, amount))


def test_jitter_applies_its_draws_in_the_drawn_order():
    x, g, seen = pictures(), seeded(), set()
    for _ in range(20):
        replay = torch.Generator()
        replay.set_state(g.get_state())
        out = views.color_jitter(x, g, brightness=0.8, contrast=0.7, saturation=1.5, hue=0.2, p=0.7)
        on = torch.rand(N, generator=replay) < 0.7
        draws = [torch.empty(N).uniform_(low, high, generator=replay)
                 for low, high in ((1 - 0.8, 1.8), (1 - 0.7, 1.7), (0, 2.5), (-0.2, 0.2))]
        order = torch.randperm(4, generator=replay).tolist()
        seen.add(tuple(order))
        steps = (peer.adjust_brightness, peer.adjust_contrast, peer.adjust_saturation, peer.adjust_hue)
        expected = x.clone()
        for i in range(N):
            for k in order if on[i] else []:
                expected[i] = steps[k](expected[i], draws[k][i].item())
        close(out, expected, 2e-5)
    assert len(seen) > 10
    assert views.color_jitter(x, g, p=0.0).equal(x)
    inside = x.clone()
    assert views.color_jitter(inside, seeded(), inplace=True) is inside
    assert inside.equal(views.color_jitter(x, seeded()))


def test_brightness_factors_are_distributed_as_torchvisions():
    x = torch.full((3000, 3, 1, 1), 0.25)
    only = dict(brightness=0.8, contrast=0.0, saturation=0.0, hue=0.0)
    ours = views.color_jitter(x, seeded(), p=0.8, **only)[:, 0, 0, 0] / 0.25
    applied = (ours - 1).abs() > 1e-6
    assert stats.binomtest(int(applied.sum()), 3000, 0.8).pvalue > 0.01
    torch.manual_seed(0)
    jitter = ColorJitter(brightness=0.8)
    theirs = [jitter(x[0])[0, 0, 0].item() / 0.25 for _ in range(2000)]
    assert stats.ks_2samp(ours[applied], theirs).pvalue > 0.01


@pytest.mark.parametrize(("operation", "p"), [
    (views.horizontal_flip, 0.5), (views.grayscale, 0.2), (views.gaussian_blur, 0.5), (views.color_jitter, 0.8),
    (views.horizontal_flip, 0.0), (views.grayscale, 1.0),
])
def test_chances(operation, p):
    x = pictures(1, h=4, w=4).expand(3000, -1, -1, -1)
    changed = int((operation(x, seeded(), p=p) != x).flatten(1).any(1).sum())
    assert stats.binomtest(changed, 3000, p).pvalue > 0.01


def test_flip_and_gray_are_torchvisions():
    x = pictures()
    assert views.horizontal_flip(x, seeded(), p=1.0).equal(peer.hflip(x))
    close(views.grayscale(x, seeded(), p=1.0), peer.rgb_to_grayscale(x, 3))
    inside = x.clone()
    assert views.grayscale(inside, seeded(), inplace=True) is inside and inside.equal(views.grayscale(x, seeded()))


@pytest.mark.parametrize(("kernel", "height", "width"), [(3, 32, 32), (9, 32, 24), (15, 8, 8), (1, 8, 8)])
def test_blur_is_torchvisions(kernel, height, width):
    x, sigma = pictures(h=height, w=width), uniform(0.1, 2.0)
    close(views.blur_by(x, sigma, kernel), each(x, lambda a, s: peer.gaussian_blur(a, [kernel, kernel], [s, s]), sigma))


def test_blur_takes_a_tenth_of_the_side():
    x, g = pictures(4, h=96, w=96), seeded()
    replay = seeded()
    torch.rand(4, generator=replay)
    sigma = torch.empty(4).uniform_(0.1, 2.0, generator=replay)
    close(views.gaussian_blur(x, g, p=1.0), views.blur_by(x, sigma, 11), 0)


def test_affine_reads_where_an_inverse_matrix_points():
    n, h, w = 6, 24, 32
    x, g = pictures(n, 1, h, w), seeded(3)
    out = views.affine(x, seeded(3), degrees=40.0, translate=0.2, scale=(0.5, 2.0), shear=20.0)
    draw = [torch.empty(n).uniform_(low, high, generator=g).tolist()
            for low, high in ((-math.radians(40), math.radians(40)), (-math.radians(20), math.radians(20)), (0.5, 2.0),
                              (-0.4, 0.4), (-0.4, 0.4))]
    for i, (turn, shear, scale, dx, dy) in enumerate(zip(*draw, strict=True)):
        rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        matrix = rotation @ np.array([[1, math.tan(shear)], [0, 1]]) / scale  # of (x, y) about the centre
        centre = np.array([(w - 1) / 2, (h - 1) / 2])
        at = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1) - centre
        at = at @ matrix.T + centre + np.array([dx * w / 2, dy * h / 2])
        expected = ndimage.map_coordinates(x[i, 0].double().numpy(), [at[..., 1], at[..., 0]], order=1, mode="reflect")
        close(out[i, 0].double(), torch.from_numpy(expected), 2e-5)


def test_affine_turns_and_shifts_in_the_named_units():
    x = pictures(8)
    still = dict(degrees=0.0, translate=0.0, scale=(1.0, 1.0))
    close(views.affine(x, seeded(), **still), x, 2e-5)
    g = seeded()
    shift = [torch.rand(8, generator=g) for _ in range(4)][3] - 0.5  # after turn, shear and scale
    edge = torch.zeros(8, 1, 32, 32)
    edge[:, :, :, 16:] = 1
    bright = views.affine(edge, seeded(), **{**still, "translate": 0.25})[:, 0, 8].sum(1)
    close(bright, 16 + 2 * 0.25 * shift * 32, 1e-3)


def test_noise_is_normal_with_the_given_deviation():
    x = torch.full((8, 3, 32, 32), 0.5)
    noise = views.gaussian_noise(x, seeded(), sigma=0.05) - x
    assert stats.kstest(noise.flatten() / 0.05, "norm").pvalue > 0.01
    assert views.gaussian_noise(x, seeded(), sigma=10.0).unique().aminmax() == (0, 1)


@pytest.mark.parametrize("size", [1, 7, 8])
def test_cutout_paints_one_square(size):
    x = pictures(400) * 0.4
    hole = (views.cutout(x, seeded(), size=size, fill=0.5) == 0.5)
    assert hole.equal(hole[:, :1].expand_as(hole))
    hole = hole[:, 0]
    rows, columns = hole.any(2).sum(1), hole.any(1).sum(1)
    assert (hole.sum((1, 2)) == rows * columns).all() and rows.max() == columns.max() == size
    assert min(rows.min(), columns.min()) == math.ceil(size / 2)  # the centre lies inside
    side = sum(min(32, c - size // 2 + size) - max(0, c - size // 2) for c in range(32)) / 32
    assert hole.float().mean().item() == pytest.approx((side / 32) ** 2, rel=0.06)


def test_rotate90_gives_its_label():
    x = pictures(200)
    out, y = views.rotate90(x, seeded())
    assert all(out[i].equal(x[i].rot90(int(k), (1, 2))) for i, k in enumerate(y))
    assert stats.chisquare(torch.bincount(y, minlength=4)).pvalue > 0.01


def test_mixing_weights_say_what_the_images_hold():
    x = pictures(300)
    out, partner, weight = views.mixup(x, seeded(), alpha=0.4)
    close(out, weight.view(-1, 1, 1, 1) * x + (1 - weight).view(-1, 1, 1, 1) * x[partner])
    assert stats.kstest(weight, stats.beta(0.4, 0.4).cdf).pvalue > 0.01 and sorted(partner.tolist()) == list(range(300))
    number = torch.arange(300.0).view(-1, 1, 1, 1).expand(-1, 1, 32, 32)
    out, partner, weight = views.cutmix(number, seeded(), alpha=1.0)
    own = out == number
    assert torch.where(own, number, partner.float().view(-1, 1, 1, 1)).equal(out)
    close(weight, torch.where(partner == torch.arange(300), weight, own.float().mean((1, 2, 3))))
    # the box has the drawn share of the image, here a half, where it does not reach over the border
    assert views.cutmix(number, seeded(), alpha=1e4)[2].min().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("alpha", [0.02, 1.0, 8.0])
def test_weights_are_beta(alpha):
    weight = views.mixup(torch.zeros(3000, 1, 1, 1), seeded(), alpha=alpha)[2]
    assert abs(weight.mean() - 0.5) < 0.03
    assert weight.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)


def test_multi_crop_and_two_views():
    x, g = pictures(), seeded()
    large, small = views.simclr(32, min_scale=0.3), views.simclr(16, min_scale=0.05)
    out = views.multi_crop(x, g, views=(large, small), counts=(2, 4))
    assert [v.shape[-1] for v in out] == [32, 32, 16, 16, 16, 16] and not out[0].equal(out[1])
    replay = seeded()
    assert all(v.equal(view(x, replay)) for v, view in zip(out, (large, large, *[small] * 4), strict=True))
    v1, v2 = views.two_views(x, seeded(), small)
    replay = seeded()
    assert v1.equal(small(x, replay)) and v2.equal(small(x, replay)) and not v1.equal(v2)


def test_simclr_is_its_steps():
    x, g = pictures(), seeded()
    out = views.simclr(24, min_scale=0.1, strength=0.7, jitter=0.6, gray=0.3, blur=0.4, flip=0.2)(x, seeded())
    v = views.random_resized_crop(x, g, size=24, scale=(0.1, 1.0), flip=0.2)
    v = views.color_jitter(v, g, brightness=0.56, contrast=0.56, saturation=0.56, hue=0.14, p=0.6)
    close(out, views.gaussian_blur(views.grayscale(v, g, p=0.3), g, p=0.4), 1e-6)


@pytest.mark.parametrize(("call", "message"), [
    (lambda x, g: views.random_resized_crop(x[0], g), r"x must have shape \(n, c, h, w\)"),
    (lambda x, g: views.grayscale(x[:, :2], g), "c of 1 or 3"),
    (lambda x, g: views.color_jitter(x.long(), g), "x must be float in .* not torch.int64"),
    (lambda x, g: views.random_resized_crop(x, g, scale=(0.0, 1.0)), "scale must lie in"),
    (lambda x, g: views.random_resized_crop(x, g, scale=(0.5, 1.5)), "scale must lie in"),
    (lambda x, g: views.random_resized_crop(x, g, ratio=(2.0, 1.0)), "ratio be positive"),
    (lambda x, g: views.gaussian_blur(x, g, kernel=4), "kernel must be odd"),
    (lambda x, g: views.gaussian_blur(x, g, kernel=65), "kernel must be odd"),
    (lambda x, g: views.rotate90(x[:, :, :9], g), "needs square images"),
    (lambda x, g: views.mixup(x, g, alpha=0.0), "alpha must be positive"),
    (lambda x, g: views.cutmix(x, g, alpha=-1.0), "alpha must be positive"),
    (lambda x, g: views.multi_crop(x, g, views=(), counts=()), "same length, at least 1"),
    (lambda x, g: views.multi_crop(x, g, views=(views.grayscale,), counts=(1, 2)), "same length, at least 1"),
])
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call(pictures(2), seeded())
