"""A cohort of simulated people whose pulse is recorded by light, again and again: what is true of each is known."""
from dataclasses import dataclass
from functools import lru_cache

import torch

from cl_lib.errors import InputError

RATE = 32  # samples a second
COLOURS = 2  # of light, one channel each


@dataclass(frozen=True)
class Cohort:
    """Segments of photoplethysmograms (PPG), and what made them.

    Shapes: x (people, segments, 2, length) float32, 32 samples a second in raw sensor units; of a person: age (people,) in
    years, sex (people,) 0 or 1; of a segment: heart_rate (people, segments) in beats a minute.
    """
    x: torch.Tensor
    age: torch.Tensor
    sex: torch.Tensor
    heart_rate: torch.Tensor


@lru_cache(maxsize=16)
def pulse_cohort(people: int = 600, segments: int = 12, *, length: int = 256, seed: int = 0) -> Cohort:
    """People whose pulse waves differ by age, sex and by themselves, recorded at rest and in motion.

    A beat is a forward wave, a wave reflected from the lower body and a small notch between them, each a Gaussian in time.
    With age the reflected wave comes back sooner and stronger; the forward wave of sex 1 is wider; the rest of a person's
    shape is drawn for that person alone. Of a segment: heart rate (its beats breathe with the person), the tone of the
    vessels, and everything about the sensor: gain and offset of each colour, drift with the breath, white noise, and
    sometimes a burst of motion. So no constant of a sensor tells who wears it.

    Raises: InputError for sizes below 1. Source: the two Gaussians and the stiffness index are textbook models of the pulse
    wave; all constants here are chosen, none is fitted to people.
    """
    if min(people, segments, length) < 1:
        raise InputError(f"people, segments and length must be at least 1, not {people}, {segments} and {length}")
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=g)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(shape, generator=g)

    # of a person
    age = uniform(20, 80, people)
    sex = torch.randint(2, (people,), generator=g)
    old = (age - 20) / 60
    reflection = 0.35 + 0.35 * old + 0.06 * normal(people)
    delay = 0.36 - 0.13 * old + 0.02 * normal(people)
    width = 0.065 + 0.018 * sex + 0.006 * normal(people)
    width_back = 0.09 + 0.012 * normal(people).clamp(-2, 2)
    notch = 0.12 * normal(people)
    rest = 66 + 7 * normal(people)
    # of a segment
    n = people * segments

    def each(of_person):
        return of_person.repeat_interleave(segments)

    rate = (each(rest) + uniform(-8, 40, n)).clamp(45, 140)
    tone = normal(n)
    shrink = (70 / rate) ** 0.4  # a fast heart ejects in less time
    reflection, delay = each(reflection) * (1 + 0.2 * tone), each(delay) * shrink * (1 - 0.06 * tone)
    width, width_back, notch = each(width) * shrink, each(width_back) * shrink, each(notch)
    breath, phase = uniform(0.15, 0.4, n), uniform(0, 6.28, n)
    seconds = length / RATE
    beats = int(seconds * 140 / 60 * 1.2) + 5
    k = torch.arange(beats)
    gap = 60 / rate[:, None] * (1 + 0.03 * torch.sin(6.28 * breath[:, None] * k * 60 / rate[:, None] + phase[:, None])
                                + 0.015 * normal(n, beats))
    start = gap.cumsum(1) - gap[:, :1] - (2 + torch.rand(n, 1, generator=g)) * 60 / rate[:, None]  # two beats lie before the segment
    time = torch.arange(length) / RATE
    last = torch.searchsorted(start, time.expand(n, -1).contiguous(), right=True)  # beats that have begun
    wave = torch.zeros(n, length)
    for lag in (-1, 0, 1, 2):  # the next beat, the present one and the two before: what else there is has died away
        t = time - start.gather(1, (last - 1 - lag).clamp(0, beats - 1))
        t = t.masked_fill((last - 1 - lag < 0) | (last - 1 - lag >= beats), torch.inf)
        wave += _bump(t, 0.16, width) + notch[:, None] * _bump(t, 0.16 + delay / 2, width / 2)
        wave += reflection[:, None] * _bump(t, 0.16 + delay, width_back)
    drift = torch.sin(6.28 * breath[:, None] * time + phase[:, None])[:, None]
    x = wave[:, None] + uniform(0.05, 0.35, n, COLOURS, 1) * drift + uniform(0.02, 0.15, n, COLOURS, 1) * normal(n, COLOURS, length)
    moved = (torch.rand(n, 1, 1, generator=g) < 0.4) * _bump(time, uniform(0, seconds, n), uniform(0.2, 0.8, n))[:, None]
    x += uniform(0.3, 1.2, n, 1, 1) * moved * torch.sin(6.28 * uniform(0.5, 4, n, 1, 1) * time + uniform(0, 6.28, n, 1, 1))
    x = torch.exp(uniform(-1, 1, n, COLOURS, 1)) * x + 2 * normal(n, COLOURS, 1)
    return Cohort(x.view(people, segments, COLOURS, length), age, sex, rate.view(people, segments))


def _bump(t: torch.Tensor, centre: torch.Tensor | float, width: torch.Tensor) -> torch.Tensor:
    """Gaussians in time, one a row: t (length,) or (n, length), centre a number or (n,), width (n,) -> (n, length)."""
    centre = centre[:, None] if isinstance(centre, torch.Tensor) else centre
    return torch.exp(-((t - centre) / width[:, None]) ** 2 / 2)
