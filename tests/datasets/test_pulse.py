"""Simulated pulses: what is true of a person shows in the wave, nothing of the sensor does."""
import pytest
import torch

from cl_lib.datasets import pulse
from cl_lib.datasets.pulse import RATE, pulse_cohort
from cl_lib.errors import InputError


def test_shapes_ranges_and_seed():
    c = pulse_cohort(20, 5, length=160, seed=3)
    assert c.x.shape == (20, 5, 2, 160) and c.x.dtype == torch.float32 and c.x.isfinite().all()
    assert c.age.shape == c.sex.shape == (20,) and c.heart_rate.shape == (20, 5)
    assert (20 <= c.age).all() and (c.age <= 80).all() and set(c.sex.tolist()) == {0, 1}
    assert (45 <= c.heart_rate).all() and (c.heart_rate <= 140).all()
    pulse_cohort.cache_clear()
    assert torch.equal(pulse_cohort(20, 5, length=160, seed=3).x, c.x)
    assert not torch.equal(pulse_cohort(20, 5, length=160, seed=4).x, c.x)


def test_the_heart_beats_at_the_rate_that_is_told():
    c = pulse_cohort(60, 4, length=2048, seed=0)
    power = torch.fft.rfft(c.x - c.x.mean(3, keepdim=True)).abs().square().sum(2)
    hertz = torch.fft.rfftfreq(2048, 1 / RATE)
    slow, told = hertz < 0.6, c.heart_rate / 60
    found = hertz[power.masked_fill(slow, 0).argmax(2)]
    # the strongest frequency is the rate, or twice it where the reflected wave is strong
    off = torch.minimum((found / told - 1).abs(), (found / (2 * told) - 1).abs())
    assert (off < 0.06).float().mean() > 0.8


def test_rate_varies_within_a_person_and_the_sensor_within_a_segment():
    c = pulse_cohort(100, 12, seed=1)
    assert c.heart_rate.std(1).mean() > 1.5 * c.heart_rate.mean(1).std()
    for constant in (c.x.mean(3), c.x.std(3)):  # offset and gain: no more alike within a person than between people
        within, all_of_them = constant.std(1).mean(), constant.flatten(0, 1).std(0).mean()
        assert within > 0.9 * all_of_them


@pytest.mark.parametrize("wrong", [dict(people=0), dict(segments=0), dict(length=0)])
def test_refuses(wrong):
    with pytest.raises(InputError, match="at least 1"):
        pulse_cohort(**{"people": 2, "segments": 2, **wrong})


def test_a_bump_is_a_gaussian_in_time():
    t = torch.tensor([0.0, 1.0, 3.0])
    assert torch.allclose(pulse._bump(t, 1.0, torch.tensor([2.0]))[0], torch.exp(-((t - 1) / 2) ** 2 / 2))
