"""Random views of a whole batch of images at once, each sample with its own parameters.

Every operation takes a batch `x`, float in [0, 1] of shape (n, c, h, w), and a `torch.Generator` on its device, and returns a
new batch. Resizing and blurring are separable, so they are two small matrix products for each image.
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

    Raises: InputError when x is not (n, c, h, w) with 1 or 3 channels.
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise InputError(f"x must have shape (n, c, h, w) with c of 1 or 3, not {tuple(x.shape)}")
    return x.float().div_(255) if x.dtype == torch.uint8 else x


def _uniform(n: int, low: float, high: float, g: torch.Generator) -> torch.Tensor:
    return torch.empty(n, device=g.device).uniform_(low, high, generator=g)


def _chosen(n: int, p: float, g: torch.Generator) -> torch.Tensor:
    return torch.rand(n, device=g.device, generator=g) < p


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


def _sampling(start: torch.Tensor, length: torch.Tensor, size: int, full: int, flip: torch.Tensor | None = None):
    """Matrices (n, size, full) that read `size` points, linearly interpolated, from [start, start + length) of `full`."""
    at = (torch.arange(size, device=start.device) + 0.5) / size * length[:, None] - 0.5
    at = start[:, None] + at.clamp(min=0).minimum(length[:, None] - 1)
    if flip is not None:
        at = torch.where(flip[:, None], at.flip(1), at)
    return (1 - (at[..., None] - torch.arange(full, device=start.device)).abs_()).clamp_(min=0)


def _separable(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """rows @ x @ columns^T for each image and channel."""
    n, c, h, w = x.shape
    tall = torch.bmm(rows, x.transpose(1, 2).reshape(n, h, c * w)).view(n, -1, c, w)
    wide = torch.bmm(tall.reshape(n, -1, w), columns.transpose(1, 2))
    return wide.view(n, tall.shape[1], c, -1).transpose(1, 2)


def resized_crop(x: torch.Tensor, top, left, h, w, size: int, flip: torch.Tensor | None = None) -> torch.Tensor:
    """Cut the boxes out and resize them to (size, size), bilinear without antialiasing; mirror where `flip`."""
    return _separable(x, _sampling(top, h, size, x.shape[2]), _sampling(left, w, size, x.shape[3], flip))


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
    # in sixths of the circle, from the largest channel; a grey pixel has none and needs none
    sixths = torch.where(value == r, g - b, torch.where(value == g, b - r, r - g)).div_(chroma.clamp(min=1e-12))
    sixths += torch.where(value == r, 0.0, torch.where(value == g, 2.0, 4.0)).add_(6 * shift[:, None, None])
    for channel, offset in zip((r, g, b), (5.0, 3.0, 1.0), strict=True):
        k = sixths + offset
        k.sub_(k.div(6).floor_(), alpha=6)
        channel.copy_(value - torch.minimum(k, 4 - k).clamp_(0, 1).mul_(chroma))
    return x


def color_jitter(x: torch.Tensor, g: torch.Generator, *, brightness: float = 0.4, contrast: float = 0.4,
                 saturation: float = 0.4, hue: float = 0.1, p: float = 1.0) -> torch.Tensor:
    """Brightness, contrast, saturation by factors in [1 - a, 1 + a] (not below 0), hue by a shift in [-hue, hue].

    Each image is jittered with probability p and has its own factors; the order of the four is drawn once for a batch
    (torchvision draws it for each image).
    """
    x = images(x)
    n = len(x)
    on = _chosen(n, p, g)
    steps = [(adjust_brightness, brightness), (adjust_contrast, contrast), (adjust_saturation, saturation)]
    draws = [(f, _uniform(n, max(0.0, 1 - a), 1 + a, g)) for f, a in steps if a] + (
        [(adjust_hue, _uniform(n, -hue, hue, g))] if hue else [])
    order = torch.randperm(len(draws), generator=g, device=g.device).tolist()
    out = x.contiguous() if p >= 1 else x[on]
    out = out.clone() if out.data_ptr() == x.data_ptr() else out
    for i in order:
        f, amount = draws[i]
        out = f(out, amount if p >= 1 else amount[on])
    if p >= 1:
        return out
    x = x.clone(memory_format=torch.contiguous_format)
    x[on] = out
    return x


def _gray(x: torch.Tensor) -> torch.Tensor:
    """The luma of each pixel, (n, 1, h, w)."""
    if x.shape[1] == 1:
        return x
    gray = x[:, :1] * GRAY[0]
    return gray.add_(x[:, 1:2], alpha=GRAY[1]).add_(x[:, 2:], alpha=GRAY[2])


def grayscale(x: torch.Tensor, g: torch.Generator, *, p: float = 0.2) -> torch.Tensor:
    """Take the colour away with probability p; the number of channels stays."""
    x = images(x)
    return torch.where(_chosen(len(x), p, g)[:, None, None, None], _gray(x), x)


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
                             hue=0.2 * strength, p=jitter)
        if gray and x.shape[1] == 3:
            x = grayscale(x, g, p=gray)
        return gaussian_blur(x, g, p=blur) if blur else x

    return view


def two_views(x: torch.Tensor, g: torch.Generator, view: View) -> tuple[torch.Tensor, torch.Tensor]:
    """Two independent views of every image: v1, v2."""
    x = images(x)
    return view(x, g), view(x, g)
