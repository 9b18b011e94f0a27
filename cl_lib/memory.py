"""What outlives a batch: a queue of keys, a teacher that follows its student, a bank of prototypes.

All state is in buffers, so `state_dict` saves it and `to` moves it; nothing here carries gradients.
"""
from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

from cl_lib import checks
from cl_lib.errors import InputError, unknown

SCHEDULES = ("constant", "cosine")


class Queue(nn.Module):
    """The last `size` keys, first in, first out: MoCo's dictionary of negatives.

    Shapes: `push(z)` takes keys (n, d), any n: of more than `size` rows the last stay. `keys()` is (filled, d), oldest
    first. With `labels=True`, `push(z, y)` takes labels (n,) and `labels()` returns them in the same order.
    With `seed` the queue starts full of random directions (MoCo's start) labelled -1; without, it starts empty.
    Keys are of unit norm unless `normalize=False`; they are stored in the dtype of the buffer (float32).
    Raises: InputError for a size or d below 1, shapes that do not agree, labels missing or not asked for.
    Source: 1911.05722 Section 3.2, but for their demand that the batch divides the size.
    """

    def __init__(self, size: int, d: int, *, normalize: bool = True, labels: bool = False, seed: int | None = None):
        super().__init__()
        _at_least_one(size=size, d=d)
        self.normalize = normalize
        start = torch.zeros(size, d)
        if seed is not None:
            start = torch.randn(size, d, generator=torch.Generator().manual_seed(seed))
            start = F.normalize(start, dim=1) if normalize else start
        self.register_buffer("rows", start)
        self.register_buffer("pushed", torch.tensor(0 if seed is None else size))
        self.register_buffer("row_labels", torch.full((size,), -1) if labels else None)

    def __len__(self) -> int:
        """How many keys are held."""
        return min(int(self.pushed), len(self.rows))

    @torch.no_grad()
    def push(self, z: torch.Tensor, y: torch.Tensor | None = None) -> None:
        """Append keys in order; the oldest make room. z carries no gradient into the queue."""
        checks.embeddings("z", z)
        size, d = self.rows.shape
        if z.shape[1] != d:
            raise InputError(f"z has {z.shape[1]} dimensions, the queue {d}")
        if (y is None) != (self.row_labels is None):
            raise InputError("y is missing: the queue keeps labels" if y is None else "y: the queue keeps no labels")
        if y is not None:
            checks.labels("y", y, len(z))
        z = z.to(self.rows)
        z = F.normalize(z, dim=1) if self.normalize else z
        where = (self.pushed + torch.arange(len(z), device=z.device))[-size:] % size
        self.rows[where] = z[-size:]
        if y is not None:
            self.row_labels[where] = y[-size:].to(self.row_labels)
        self.pushed += len(z)

    def keys(self) -> torch.Tensor:
        """A copy of the keys, oldest first: later pushes do not change what a loss has seen."""
        return self.rows[self._order()]

    def labels(self) -> torch.Tensor:
        """The labels of `keys()`."""
        if self.row_labels is None:
            raise InputError("the queue keeps no labels; make it with labels=True")
        return self.row_labels[self._order()]

    def _order(self) -> torch.Tensor:
        held, at = len(self), int(self.pushed)
        return torch.arange(at - held, at, device=self.rows.device) % len(self.rows)


class EMATeacher(nn.Module):
    r"""A copy of the student whose parameters are an exponential moving average of the student's.

    teacher <- m teacher + (1 - m) student at each `update(student)`. With schedule "cosine" m rises from `momentum` to 1
    over `steps`: m_k = 1 - (1 - momentum) (cos(pi k / steps) + 1) / 2 at step k = 0, 1, ...
    Buffers, such as the running statistics of batch normalisation, are copied from the student, not averaged.
    The teacher has no gradients. Its mode is its own: MoCo, BYOL and DINO leave it in `train()`, as it comes here when
    the student is.
    Raises: InputError for momentum outside [0, 1], an unknown schedule, "cosine" without steps, a student of other shape.
    Source: 1911.05722 Eq. 2; 2006.07733 Section 3.3 and Appendix J (cosine).
    """

    def __init__(self, student: nn.Module, *, momentum: float = 0.99, schedule: str = "constant", steps: int | None = None):
        super().__init__()
        if not 0 <= momentum <= 1:
            raise InputError(f"momentum must be in [0, 1], not {momentum!r}")
        if schedule not in SCHEDULES:
            raise unknown("schedule", schedule, SCHEDULES)
        if (schedule == "cosine") != (steps is not None):
            raise InputError('steps belongs to schedule="cosine", which needs it')
        if steps is not None:
            _at_least_one(steps=steps)
        self.start, self.steps = momentum, steps
        self.model = copy.deepcopy(student).requires_grad_(False)
        self.register_buffer("step", torch.tensor(0))

    @property
    def momentum(self) -> float:
        """The momentum of the next update."""
        if self.steps is None:
            return self.start
        return 1 - (1 - self.start) * (math.cos(math.pi * min(int(self.step), self.steps) / self.steps) + 1) / 2

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move towards the student; call it after the optimiser's step."""
        m = self.momentum
        mine, theirs = dict(self.model.named_parameters()), dict(student.named_parameters())
        if mine.keys() != theirs.keys() or any(mine[name].shape != theirs[name].shape for name in mine):
            raise InputError("student has other parameters than the teacher was made from")
        for name, parameter in mine.items():
            parameter.lerp_(theirs[name].to(parameter), 1 - m)
        for own, other in zip(self.model.buffers(), student.buffers(), strict=True):
            own.copy_(other)
        self.step += 1

    @torch.no_grad()
    def forward(self, *args, **kwargs):
        """The teacher's output, without gradient."""
        return self.model(*args, **kwargs)


class PrototypeBank(nn.Module):
    r"""One running vector for each of n samples (the memory bank of instance discrimination), classes or clusters.

    row_y <- m row_y + (1 - m) mean of the z_i with index y, then to unit norm; a row's first vectors are taken as they are.
    Shapes: `update(index, z)` with index (b,) in 0..n-1, repeated indices allowed, z (b, d); `rows` is (n, d), zero where
    `seen` (n,) is False. `rows[index]` reads, without gradient.
    Raises: InputError for n or d below 1, momentum outside [0, 1), indices out of range, shapes that do not agree.
    Source: 1805.01978 Section 3.1; momentum 0.5 is that of the authors' code.
    """

    def __init__(self, n: int, d: int, *, momentum: float = 0.5, normalize: bool = True):
        super().__init__()
        _at_least_one(n=n, d=d)
        checks.fraction("momentum", momentum)
        self.momentum, self.normalize = momentum, normalize
        self.register_buffer("rows", torch.zeros(n, d))
        self.register_buffer("seen", torch.zeros(n, dtype=torch.bool))

    @torch.no_grad()
    def update(self, index: torch.Tensor, z: torch.Tensor) -> None:
        """Move the rows at `index` towards their vectors in z."""
        checks.embeddings("z", z)
        checks.labels("index", index, len(z))
        n, d = self.rows.shape
        if z.shape[1] != d:
            raise InputError(f"z has {z.shape[1]} dimensions, the bank {d}")
        if index.min() < 0 or index.max() >= n:
            raise InputError(f"index must be in 0..{n - 1}, not {int(index.min())}..{int(index.max())}")
        z = z.to(self.rows)
        z = F.normalize(z, dim=1) if self.normalize else z
        touched, member, count = index.to(z.device).unique(return_inverse=True, return_counts=True)
        means = z.new_zeros(len(touched), d).index_add_(0, member, z) / count[:, None]
        rows = torch.where(self.seen[touched, None], torch.lerp(means, self.rows[touched], self.momentum), means)
        self.rows[touched] = F.normalize(rows, dim=1) if self.normalize else rows
        self.seen[touched] = True


def _at_least_one(**values: int) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number, at least 1, not {value!r}")
