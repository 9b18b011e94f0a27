"""Latent-class tuples: who shares a class with whom, at which rate, and what is refused."""
import pytest
import torch

from cl_lib.datasets.synthetic import latent_class_tuples
from cl_lib.errors import InputError
from cl_lib.training import generator

Y = torch.tensor([7, 2, 2, 9, 7, 2, 9, 2, 4, 4])  # four classes of 2, 4, 2 and 2 points, not in order


def draw(n=20_000, k=3, seed=0, **settings):
    return latent_class_tuples(Y, n, k, generator=generator(seed), **settings)


def test_positives_share_the_anchors_class_and_shapes_are_as_said():
    t = draw(n=50, k=3, block=4)
    assert t.anchor.shape == (50,) and t.positive.shape == (50, 4) and t.negative.shape == (50, 3, 4)
    assert (Y[t.positive] == Y[t.anchor][:, None]).all()
    assert (Y[t.negative] == Y[t.negative[..., :1]]).all()  # a block is of one class


def test_classes_are_uniform_and_points_uniform_within_them():
    t = draw()
    for points in (t.anchor, t.positive.flatten(), t.negative.flatten()):
        share = torch.bincount(points, minlength=len(Y)) / len(points)
        expected = 1 / 4 / torch.bincount(Y)[Y]
        assert torch.allclose(share, expected, atol=0.01)


def test_rate_of_collisions_and_of_noise():
    t = draw()
    assert abs((Y[t.negative[..., 0]] == Y[t.anchor][:, None]).double().mean() - 1 / 4) < 0.01
    t = draw(collide=False, noise=0.4)
    assert (Y[t.negative[..., 0]] != Y[t.anchor][:, None]).all()
    assert abs((Y[t.positive[:, 0]] == Y[t.anchor]).double().mean() - (0.6 + 0.4 / 4)) < 0.01
    others = Y[t.negative[Y[t.anchor] == 2].flatten()]
    assert torch.allclose(torch.bincount(others)[[4, 7, 9]] / len(others), torch.full((3,), 1 / 3), atol=0.02)


def test_the_draws_are_independent_of_each_other():
    t = draw()
    same = (Y[t.negative[:, 0, 0]] == Y[t.negative[:, 1, 0]]).double().mean()
    assert abs(same - 1 / 4) < 0.015
    assert abs((t.anchor == t.positive[:, 0]).double().mean() - (3 / 4 * 1 / 2 + 1 / 4 * 1 / 4)) < 0.015


def test_seeded():
    a, b, c = draw(n=9, seed=1), draw(n=9, seed=1), draw(n=9, seed=2)
    assert torch.equal(a.negative, b.negative) and torch.equal(a.anchor, b.anchor) and not torch.equal(a.negative, c.negative)


@pytest.mark.parametrize("wrong", [dict(n=0), dict(k=0), dict(block=0), dict(noise=1.5)])
def test_refuses(wrong):
    with pytest.raises(InputError, match="at least 1"):
        draw(**{"n": 5, **wrong})


def test_refuses_one_class_without_collisions():
    with pytest.raises(InputError, match="two classes"):
        latent_class_tuples(torch.zeros(4, dtype=torch.int64), 2, 1, generator=generator(0), collide=False)
