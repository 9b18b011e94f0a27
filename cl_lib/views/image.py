"""Random views of a whole batch of images at once, each sample with its own parameters.

Every operation takes a batch `x`, float in [0, 1] of shape (n, c, h, w), and a `torch.Generator` on its device, and returns a
new batch. Resizing and blurring are separable, so they work along one axis and then the other.
"""
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from cl_lib.errors import InputError

View = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
GRAY = (0.2989, 0.587, 0.114)  # ITU-R 601-2 luma, as in torchvision


def images(x: torch.Tensor) -> torch.Tensor:
    """The batch as float32 in [0, 1]; bytes are divided by 255.

    Raises: InputError when x is not (n, c, h, w) with 1 or 3 channels, or holds other integers than bytes.
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise InputError(f"x must have shape (n, c, h, w) with c of 1 or 3, not {tuple(x.shape)}")
    if x.dtype != torch.uint8 and not x.is_floating_point():
        raise InputError(f"x must be float in [0, 1] or bytes, not {x.dtype}")
    return x.float().div_(255) if x.dtype == torch.uint8 else x.float()


def _uniform(n: int, low: float, high: float, g: torch.Generator) -> torch.Tensor:
    return torch.empty(n, device=g.device).uniform_(low, high, generator=g)


def _chosen(n: int, p: float, g: torch.Generator) -> torch.Tensor:
    return torch.rand(n, device=g.device, generator=g) < p


def _part(x: torch.Tensor) -> int:
    """How many images to work on at once: on a CPU so few that what is made on the way stays in its cache."""
    return 64 * torch.get_num_threads() if x.device.type == "cpu" else max(1, len(x))


def crop_boxes(n: int, height: int, width: int, g: torch.Generator, *, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """Integer boxes (top, left, h, w), each (n,): area and aspect ratio as torchvision's RandomResizedCrop draws them.

    The first of ten draws that fits; the whole image, cut to the nearest allowed ratio, where none does.
    """
    area = height * width * torch.empty(n, 10, device=g.device).uniform_(*scale, generator=g)
    aspect = torch.empty(n, 10, device=g.device).uniform_(math.log(ratio[0]), math.log(ratio[1]), generator=g).exp()
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w >= 1) & (w <= width) & (h >= 1) & (h <= height)
    first = fits.int().argmax(1, keepdim=True)
    w, h = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0]
    none = ~fits.any(1)
    whole = width / height
    w = torch.where(none, float(round(height * ratio[1]) if whole > ratio[1] else width), w)
    h = torch.where(none, float(round(width / ratio[0]) if whole < ratio[0] else height), h)
    top = (torch.rand(n, device=g.device, generator=g) * (height - h + 1)).floor()
    left = (torch.rand(n, device=g.device, generator=g) * (width - w + 1)).floor()
    return (torch.where(none, ((height - h) / 2).floor(), top), torch.where(none, ((width - w) / 2).floor(), left), h, w)


def _points(start: torch.Tensor, length: torch.Tensor, size: int) -> torch.Tensor:
    """The places (n, size) where `size` points stand that share out [start, start + length), kept inside it."""
    at = (torch.arange(size, device=start.device) + 0.5) / size * length[:, None] - 0.5
    return start[:, None] + at.clamp_(min=0).minimum(length[:, None] - 1)


def _read(x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Read (n, c, k, m) along k at the places `at` (n, size), linearly interpolated: (n, c, size, m)."""
    n, c, k, m = x.shape
    low = at.floor()
    weight = (at - low)[:, None].expand(n, c, -1).reshape(-1, 1)
    low, first = low.long()[:, None], torch.arange(0, n * c * k, k, device=x.device).view(n, c, 1)
    rows = x.reshape(-1, m)
    below, above = (rows.index_select(0, (i + first).flatten()) for i in (low, (low + 1).clamp_(max=k - 1)))
    return torch.lerp(below, above, weight).view(n, c, -1, m)


def resized_crop(x: torch.Tensor, top, left, h, w, size: int, flip: torch.Tensor | None = None) -> torch.Tensor:
    """Cut the boxes out and resize them to (size, size), bilinear without antialiasing; mirror where `flip`."""
    down, across = _points(top, h, size), _points(left, w, size)
    if flip is not None:
        across = torch.where(flip[:, None], across.flip(1), across)
    out = x.new_empty(*x.shape[:2], size, size)
    for i in range(0, len(x), _part(x)):
        part = slice(i, i + _part(x))
        out[part] = _read(_read(x[part], down[part]).transpose(2, 3), across[part]).transpose(2, 3)
    return out


def random_resized_crop(x: torch.Tensor, g: torch.Generator, *, size: int | None = None, scale=(0.08, 1.0),
                        ratio=(3 / 4, 4 / 3), flip: float = 0.0) -> torch.Tensor:
    """A box of random area (a share of the image's) and aspect ratio, resized to (size, size), mirrored with chance `flip`.

    Raises: InputError unless 0 < scale[0] <= scale[1] <= 1 and 0 < ratio[0] <= ratio[1].
    """
    if not 0 < scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
        raise InputError(f"scale must lie in (0, 1] and ratio be positive, each from low to high, not {scale} and {ratio}")
    x = images(x)
    boxes = crop_boxes(len(x), *x.shape[2:], g, scale=scale, ratio=ratio)
    return resized_crop(x, *boxes, size or x.shape[2], _chosen(len(x), flip, g) if flip else None)


def horizontal_flip(x: torch.Tensor, g: torch.Generator, *, p: float = 0.5) -> torch.Tensor:
    """Mirror each image with probability p."""
    x = images(x)
    return torch.where(_chosen(len(x), p, g)[:, None, None, None], x.flip(3), x)


def affine(x: torch.Tensor, g: torch.Generator, *, degrees: float = 15.0, translate: float = 0.1, scale=(0.9, 1.1),
           shear: float = 0.0) -> torch.Tensor:
    """Rotate (degrees), shift (share of the side), scale and shear (degrees) about the centre; borders are reflected."""
    x = images(x)
    n, c, h, w = x.shape
    turn = _uniform(n, -math.radians(degrees), math.radians(degrees), g)
    lean = torch.tan(_uniform(n, -math.radians(shear), math.radians(shear), g))
    zoom = 1 / _uniform(n, *scale, g)
    cos, sin = zoom * turn.cos(), zoom * turn.sin()
    dx, dy = _uniform(n, -2 * translate, 2 * translate, g), _uniform(n, -2 * translate, 2 * translate, g)
    theta = torch.stack([cos, (lean * cos - sin) * h / w, dx, sin * w / h, lean * sin + cos, dy], 1).view(n, 2, 3)
    grid = F.affine_grid(theta.to(x), [n, c, h, w], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def adjust_brightness(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """x times its factor (n,), clipped to [0, 1]; in place."""
    return x.mul_(factor[:, None, None, None]).clamp_(0, 1)


def adjust_contrast(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blend with the mean of the grey image: factor 0 gives that grey, 1 the image; in place."""
    mean = _gray(x).mean((1, 2, 3), keepdim=True)
    f = factor[:, None, None, None]
    return x.mul_(f).add_((1 - f) * mean).clamp_(0, 1)


def adjust_saturation(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blend with the grey image: factor 0 gives grey, 1 the image; in place. One channel stays as it is."""
    if x.shape[1] == 1:
        return x
    f, gray = factor[:, None, None, None], _gray(x)
    return x.mul_(f).add_(gray.mul_(1 - f)).clamp_(0, 1)


def adjust_hue(x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Turn the hue by `shift` (n,) of a full circle, saturation and value kept; in place. One channel stays as it is."""
    if x.shape[1] == 1:
        return x
    r, g, b = x.unbind(1)
    value = torch.maximum(r, g).maximum(b)
    chroma = value - torch.minimum(r, g).minimum(b)
    # in sixths of the circle, from the largest channel; a grey pixel has none and needs none. lerp by 0 or 1 is
    # exact, and many times faster than where, whose branches on a CPU cannot be foretold
    inverse = chroma.clamp(min=1e-12).reciprocal_()
    from_g, from_b = (b - r).mul_(inverse).add_(2), (r - g).mul_(inverse).add_(4)
    hue = torch.lerp(torch.lerp(from_b, from_g, value.clone().eq_(g)), (g - b).mul_(inverse), value.clone().eq_(r))
    hue.div_(6).add_(shift[:, None, None])
    # a channel loses all chroma within a sixth of the hue opposite to it, none beyond a third
    for channel, opposite in zip((r, g, b), (1 / 2, 5 / 6, 1 / 6), strict=True):
        away = hue - opposite
        away.sub_(away.round()).abs_()
        channel.copy_(torch.addcmul(value, away.mul_(-6).add_(2).clamp_(0, 1), chroma, value=-1))
    return x


def color_jitter(x: torch.Tensor, g: torch.Generator, *, brightness: float = 0.4, contrast: float = 0.4,
                 saturation: float = 0.4, hue: float = 0.1, p: float = 1.0, inplace: bool = False) -> torch.Tensor:
    """Brightness, contrast, saturation by factors in [1 - a, 1 + a] (not below 0), hue by a shift in [-hue, hue].

    Each image is jittered with probability p and has its own factors; the order of the four is drawn once for a batch
    (torchvision draws it for each image). With `inplace` a float x is itself changed.
    """
    x = images(x)
    n = len(x)
    on = _chosen(n, p, g)
    steps = [(adjust_brightness, brightness), (adjust_contrast, contrast), (adjust_saturation, saturation)]
    draws = [(f, _uniform(n, max(0.0, 1 - a), 1 + a, g)) for f, a in steps if a] + (
        [(adjust_hue, _uniform(n, -hue, hue, g))] if hue else [])
    order = torch.randperm(len(draws), generator=g, device=g.device).tolist()
    out = x if inplace else x.clone(memory_format=torch.contiguous_format)
    for part in on.nonzero()[:, 0].split(_part(x)):
        jittered = out.index_select(0, part)
        for i in order:
            f, amount = draws[i]
            jittered = f(jittered, amount[part])
        out.index_copy_(0, part, jittered)
    return out


def _gray(x: torch.Tensor) -> torch.Tensor:
    """The luma of each pixel, (n, 1, h, w)."""
    if x.shape[1] == 1:
        return x
    gray = x[:, :1] * GRAY[0]
    return gray.add_(x[:, 1:2], alpha=GRAY[1]).add_(x[:, 2:], alpha=GRAY[2])


def grayscale(x: torch.Tensor, g: torch.Generator, *, p: float = 0.2, inplace: bool = False) -> torch.Tensor:
    """Take the colour away with probability p; the number of channels stays. With `inplace` a float x is itself changed."""
    x = images(x)
    on = _chosen(len(x), p, g)
    out = x if inplace else x.clone()
    out[on] = _gray(x[on]).expand(-1, x.shape[1], -1, -1)
    return out


def _separable(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """rows @ x @ columns^T for each image and channel."""
    n, c, h, w = x.shape
    tall = torch.bmm(rows, x.transpose(1, 2).reshape(n, h, c * w)).view(n, -1, c, w)
    wide = torch.bmm(tall.reshape(n, -1, w), columns.transpose(1, 2))
    return wide.view(n, tall.shape[1], c, -1).transpose(1, 2)


def blur_by(x: torch.Tensor, sigma: torch.Tensor, kernel: int) -> torch.Tensor:
    """Gaussian blur with a kernel of odd width and standard deviation sigma (n,) in pixels; borders are reflected."""
    def matrix(size):
        offset = torch.arange(kernel, device=x.device) - kernel // 2
        weight = torch.softmax(-(offset / sigma[:, None]) ** 2 / 2, 1)
        source = torch.arange(size, device=x.device)[:, None] + offset
        source = (size - 1) - ((size - 1) - source.abs()).abs()  # reflects at both ends
        out = torch.zeros(len(x), size, size, device=x.device)
        return out.scatter_add_(2, source.expand(len(x), -1, -1), weight[:, None].expand(-1, size, -1))

    rows = matrix(x.shape[2])
    return _separable(x, rows, rows if x.shape[2] == x.shape[3] else matrix(x.shape[3]))


def gaussian_blur(x: torch.Tensor, g: torch.Generator, *, sigma=(0.1, 2.0), kernel: int | None = None,
                  p: float = 0.5) -> torch.Tensor:
    """Blur each image with probability p by its own sigma (pixels); the kernel is a tenth of the side by default, odd."""
    x = images(x)
    kernel = kernel or max(3, round(0.1 * x.shape[2]) // 2 * 2 + 1)
    if kernel % 2 == 0 or kernel // 2 >= min(x.shape[2:]):
        raise InputError(f"kernel must be odd and less than twice the side, not {kernel} for {tuple(x.shape[2:])}")
    on, amount = _chosen(len(x), p, g), _uniform(len(x), *sigma, g)
    out = x.clone(memory_format=torch.contiguous_format)
    out[on] = blur_by(x[on], amount[on], kernel)
    return out


def gaussian_noise(x: torch.Tensor, g: torch.Generator, *, sigma: float = 0.05) -> torch.Tensor:
    """Add independent noise of standard deviation sigma to every pixel, clipped to [0, 1]."""
    x = images(x)
    return (x + sigma * torch.randn(x.shape, device=x.device, generator=g)).clamp_(0, 1)


def cutout(x: torch.Tensor, g: torch.Generator, *, size: int = 8, fill: float = 0.5) -> torch.Tensor:
    """Paint a square of `size` pixels around a random centre; it may reach over the border."""
    x = images(x)
    n, _, h, w = x.shape
    def near(side):
        centre = (torch.rand(n, device=g.device, generator=g) * side).floor()
        start = centre - size // 2
        at = torch.arange(side, device=g.device)
        return (at >= start[:, None]) & (at < start[:, None] + size)
    hole = near(h)[:, None, :, None] & near(w)[:, None, None, :]
    return x.masked_fill(hole, fill)


def rotate90(x: torch.Tensor, g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn each square image by a random multiple of 90 degrees; returns the images and their labels 0 to 3 (n,)."""
    x = images(x)
    if x.shape[2] != x.shape[3]:
        raise InputError(f"rotate90 needs square images, not {tuple(x.shape[2:])}")
    y = torch.randint(4, (len(x),), device=g.device, generator=g)
    out = x.clone()
    for k in (1, 2, 3):
        out[y == k] = x[y == k].rot90(k, (2, 3))
    return out, y


def multi_crop(x: torch.Tensor, g: torch.Generator, *, views: tuple[View, ...], counts: tuple[int, ...]) -> list[torch.Tensor]:
    """SwAV's multi-crop: counts[i] views by views[i], such as two large crops and six small ones; a list of batches."""
    if len(views) != len(counts) or not views:
        raise InputError(f"views and counts must have the same length, at least 1, not {len(views)} and {len(counts)}")
    return [view(x, g) for view, count in zip(views, counts, strict=True) for _ in range(count)]


def mixup(x: torch.Tensor, g: torch.Generator, *, alpha: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Blend each image with a partner; returns images, partner index (n,), and weight of the image itself (n,) ~ Beta."""
    x = images(x)
    partner, weight = torch.randperm(len(x), device=g.device, generator=g), _beta(len(x), alpha, g)
    return torch.lerp(x[partner], x, weight[:, None, None, None]), partner, weight


def cutmix(x: torch.Tensor, g: torch.Generator, *, alpha: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Paste a box of a partner into each image; returns images, partner index (n,), and the share of the image left (n,)."""
    x = images(x)
    n, _, h, w = x.shape
    partner, keep = torch.randperm(n, device=g.device, generator=g), _beta(n, alpha, g)
    def inside(side):
        half = (1 - keep).sqrt() * side / 2
        centre = torch.rand(n, device=g.device, generator=g) * side
        at = torch.arange(side, device=g.device) + 0.5
        return (at - centre[:, None]).abs() < half[:, None]
    box = inside(h)[:, None, :, None] & inside(w)[:, None, None, :]
    return torch.where(box, x[partner], x), partner, 1 - box.float().mean((1, 2, 3))


def _beta(n: int, alpha: float, g: torch.Generator) -> torch.Tensor:
    """Beta(alpha, alpha) draws from the generator."""
    if alpha <= 0:
        raise InputError(f"alpha must be positive, not {alpha}")
    a, b = torch._standard_gamma(torch.full((2, n), float(alpha), device=g.device), generator=g)
    return a / (a + b)


def simclr(size: int = 32, *, min_scale: float = 0.2, strength: float = 0.5, jitter: float = 0.8, gray: float = 0.2,
           blur: float = 0.0, flip: float = 0.5) -> View:
    """SimCLR's recipe: crop and mirror, colour jitter of the given strength, grey, blur; each of the last by its chance.

    The defaults are those of CIFAR-10 (2002.05709, appendix B.9); ImageNet has min_scale 0.08, strength 1, blur 0.5.
    """
    def view(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
        x = random_resized_crop(x, g, size=size, scale=(min_scale, 1.0), flip=flip)
        if jitter and strength:
            x = color_jitter(x, g, brightness=0.8 * strength, contrast=0.8 * strength, saturation=0.8 * strength,
                             hue=0.2 * strength, p=jitter, inplace=True)
        if gray and x.shape[1] == 3:
            x = grayscale(x, g, p=gray, inplace=True)
        return gaussian_blur(x, g, p=blur) if blur else x

    return view


def two_views(x: torch.Tensor, g: torch.Generator, view: View) -> tuple[torch.Tensor, torch.Tensor]:
    """Two independent views of every image: v1, v2."""
    x = images(x)
    return view(x, g), view(x, g)
