"""Composed images: where each part stands, that the attributes are independent, and what is refused."""
import pytest
import torch

from cl_lib.datasets import sources
from cl_lib.datasets.composite import COLOURS, composite
from cl_lib.datasets.image import FASHION, MNIST, fashion_mnist
from cl_lib.datasets.sources import DataError
from cl_lib.errors import InputError

FASHIONS = dict(left="fashion_mnist", right="fashion_mnist")


def test_parts_stand_where_they_should():
    c = composite("test", 500, **FASHIONS)
    assert c.x.shape == (500, 3, 32, 32) and c.x.dtype == torch.uint8 and c.y.shape == (500, 3) and c.classes == (FASHION, FASHION, COLOURS)
    source = fashion_mnist("test")
    halved = source.x.view(-1, 14, 2, 14, 2).float().mean((2, 4)).round()
    for a, at in enumerate((1, 17)):
        part = c.x[:, :, 1:15, at:at + 14]
        assert torch.equal(part[:, 0], part[:, 1]) and torch.equal(part[:, 0], part[:, 2])
        # each is the half-sized picture of one item, of the label told, and no item serves twice
        distance = torch.cdist(part[:, 0].flatten(1).float(), halved.flatten(1))
        nearest = distance.argmin(1)
        assert distance.min(1).values.max() <= 14 and torch.equal(source.y[nearest], c.y[:, a])
        assert len(nearest.unique()) > 495  # the set has a few twins
    frame = c.x.clone()
    for rows, columns in ((slice(1, 15), slice(1, 15)), (slice(1, 15), slice(17, 31)), (slice(17, 31), slice(1, 31))):
        frame[:, :, rows, columns] = 0
    assert not frame.any()


def test_strip_shows_its_hue_and_grey_hides_it():
    c, grey = composite("test", 500, **FASHIONS), composite("test", 500, **FASHIONS, painted=False)
    strip = c.x[:, :, 17:31, 1:31].flatten(2)
    assert torch.equal(strip.amin(2), strip.amax(2))
    r, g, b = strip[..., 0].double().unbind(1)
    angle = torch.atan2(3 ** 0.5 * (g - b), 2 * r - g - b).remainder(2 * torch.pi) / (2 * torch.pi)
    for label in range(10):
        shown = (angle[c.y[:, 2] == label] * 10 - label - 0.25 + 5).remainder(10) - 5
        assert shown.abs().max() < 0.35
    assert torch.equal(c.y, grey.y) and torch.equal(c.x[:, :, :16], grey.x[:, :, :16])
    assert (grey.x[:, :, 17:31, 1:31] == 128).all()


def test_attributes_are_independent_and_splits_differ():
    c = composite("train", 8_000, **FASHIONS)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        counts = torch.zeros(10, 10).index_put_((c.y[:, a], c.y[:, b]), torch.ones(()), accumulate=True)
        expected = counts.sum(1, keepdim=True) * counts.sum(0) / 8_000
        assert ((counts - expected) ** 2 / expected).sum() < 130  # chi-square with 81 degrees of freedom
    assert not torch.equal(c.y[:1_600], composite("validation", 1_600, **FASHIONS).y)
    assert composite("train", 8_000, **FASHIONS) is c


def test_digits_are_the_left_picture():
    try:
        sources.locate(MNIST, download=False)
    except DataError as missing:
        pytest.skip(str(missing))
    c = composite("validation", 50)
    assert c.classes[0] == tuple("0123456789") and c.classes[1] == FASHION


@pytest.mark.parametrize("wrong", [dict(split="all", n=5), dict(split="test", n=0), dict(split="test", n=2_001), dict(split="test", n=5, left="cifar")])
def test_what_is_refused(wrong):
    with pytest.raises(InputError):
        composite(**{**FASHIONS, **wrong})
