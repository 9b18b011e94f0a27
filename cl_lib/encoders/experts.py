"""Mixtures of experts: routing with a capacity, a layer of experts, and the losses that keep its router in order."""
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from cl_lib.encoders.image import seeded
from cl_lib.errors import InputError


@dataclass(frozen=True)
class Routing:
    """What a router did with t tokens: logits (t, experts), expert (t,) int64 the one chosen, kept (t,) bool whether it had room."""
    logits: torch.Tensor
    expert: torch.Tensor
    kept: torch.Tensor

    @property
    def p(self) -> torch.Tensor:
        return self.logits.softmax(1)


def assign(p: torch.Tensor, capacity: int, *, priority: bool = True) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each token's likeliest expert, its place in that expert's queue, and whether that is within the capacity.

    With `priority` the tokens whose likeliest expert is likeliest are served first (batch priority routing, 2106.05974
    section 3.1), else the first in order.
    Shapes: p (t, experts) -> expert (t,) int64, place (t,) int64, kept (t,) bool. Raises: InputError for a capacity below 1.
    """
    if capacity < 1:
        raise InputError(f"capacity must be at least 1, not {capacity}")
    best, expert = p.max(1)
    order = best.argsort(descending=True, stable=True) if priority else torch.arange(len(p), device=p.device)
    ahead = F.one_hot(expert[order], p.shape[1]).cumsum(0).gather(1, expert[order, None])[:, 0] - 1
    place = torch.empty_like(expert)
    place[order] = ahead
    return expert, place, place < capacity


class Experts(nn.Module):
    """Two-layer MLPs side by side; each token goes to one of them, whose output is multiplied by the token's probability of it.

    Tokens beyond an expert's capacity, ratio * t / experts of t tokens, get zeros. Shapes: x (t, d) -> (t, d), and the `Routing`.
    Source: 2206.02770 section 2 (top-1, ratio 1.05, batch priority routing).
    Reduces to: one MLP with one expert and a ratio of 1 or more.
    Cost: the matrix products of one MLP for ratio * t tokens, and the router's.
    Raises: InputError for fewer than 1 expert or a ratio that is not positive.
    """

    def __init__(self, d: int, hidden: int, experts: int, *, ratio: float = 1.05, seed: int | None = None):
        super().__init__()
        if experts < 1 or ratio <= 0:
            raise InputError(f"experts must be at least 1 and ratio positive, not {experts} and {ratio}")
        self.experts, self.ratio = experts, ratio
        with seeded(seed):
            self.router = nn.Linear(d, experts, bias=False)
            nn.init.normal_(self.router.weight, std=d ** -0.5)  # logits of deviation 1 for normed tokens
            self.w1, self.w2 = (nn.Parameter(torch.randn(experts, a, b) * a ** -0.5) for a, b in ((d, hidden), (hidden, d)))
            self.b1, self.b2 = nn.Parameter(torch.zeros(experts, 1, hidden)), nn.Parameter(torch.zeros(experts, 1, d))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, Routing]:
        logits = self.router(x)
        p = logits.softmax(1)
        capacity = math.ceil(self.ratio * len(x) / self.experts)
        expert, place, kept = assign(p.detach(), capacity)
        slot = (expert * capacity + place)[kept]
        queues = x.new_zeros(self.experts * capacity, x.shape[1]).index_copy(0, slot, x[kept]).view(self.experts, capacity, -1)
        done = torch.baddbmm(self.b2, F.gelu(torch.baddbmm(self.b1, queues, self.w1)), self.w2).flatten(0, 1)
        out = torch.zeros_like(x).index_copy(0, torch.nonzero(kept)[:, 0], done[slot] * p.gather(1, expert[:, None])[kept])
        return out, Routing(logits, expert, kept)


def entropy(p: torch.Tensor) -> torch.Tensor:
    """-sum p log p over the last axis, in nats; 0 log 0 is 0."""
    return -torch.special.xlogy(p, p).sum(-1)


def local_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Mean over tokens of the entropy of each one's expert probabilities; 0 when each is sure. Shapes: (t, experts) -> scalar."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


def global_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy of the mean expert probabilities; exp of it is how many experts are used softly. Shapes: (t, experts) -> scalar."""
    return entropy(logits.softmax(1).mean(0))


def importance_loss(logits: torch.Tensor) -> torch.Tensor:
    """Squared coefficient of variation, over experts, of the sum of their probabilities. Source: 1701.06538 Eq. 6-7."""
    return _cv2(logits.softmax(1).sum(0))


def load_loss(logits: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Squared coefficient of variation, over experts, of the expected number of tokens each gets.

    What a token's choice would be is smoothed by noise of deviation 1 / experts: with the noise of the others held, an expert
    gets the token with the probability that its own, drawn anew, lifts it above the largest noisy logit.
    Shapes: logits (t, experts), noise (t, experts) standard normal -> scalar. Source: 2106.05974 appendix A (k = 1).
    """
    deviation = 1 / logits.shape[1]
    bar = (logits + noise * deviation).max(1, keepdim=True).values
    return _cv2(torch.special.ndtr((logits - bar) / deviation).sum(0))


def z_loss(logits: torch.Tensor) -> torch.Tensor:
    """Mean squared logsumexp of the logits, which keeps them small. Source: 2202.08906 Eq. 5."""
    return logits.logsumexp(1).square().mean()


def _cv2(x: torch.Tensor) -> torch.Tensor:
    return x.var(unbiased=False) / x.mean().square()
