"""MoCo's loop: an encoder that learns queries, a copy that follows it and makes keys, a queue of the keys that were."""
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from cl_lib.memory import EMATeacher, Queue
from cl_lib.training import batches, generator, train
from cl_lib.views.image import View, two_views


class Step(NamedTuple):
    """What a loss of MoCo's kind sees of one step; all vectors are of unit norm, and only q carries a gradient.

    Shapes: q, k (b, d) the queries and their keys; queue (m, d) earlier keys, oldest first; index (b,) the items of the
    batch; owners (m,) the items whose keys stand in the queue, -1 for the random directions at the start; number: how
    many steps came before, for what begins late.
    """
    q: torch.Tensor
    k: torch.Tensor
    queue: torch.Tensor
    index: torch.Tensor
    owners: torch.Tensor
    number: int


def momentum_contrast(model: nn.Module, x: torch.Tensor, loss: Callable[[Step], torch.Tensor], *, seed: int, steps: int, batch: int,
                      lr: float, d: int, queue: int, view: View, momentum: float = 0.99, symmetric: bool = False,
                      after_step: Callable[[int, float], None] | None = None) -> list[float]:
    """Train `model`, images to embeddings, by MoCo; returns the loss of each step.

    MoCo's own loss is `info_nce(s.q, s.k, negatives=s.queue, in_batch=False, tau=tau)` of a step s. With `symmetric` each
    view is the query once, the two losses are averaged. The queue starts with random directions; it takes the keys of the
    second view after each step. Everything random follows from `seed`.
    Shapes: x (n, c, h, w) images; `model` maps views to (batch, d).
    Raises: InputError for a queue, d, steps or batch below 1, a batch above n, a momentum outside [0, 1], d not the model's.
    Source: 1911.05722 Algorithm 1; 2104.02057 Algorithm 1 (symmetric).
    Note: one device sees the whole batch, so batch norm can tell which key belongs to which query; the paper shuffles the
    keys over several devices.
    """
    teacher, keys = EMATeacher(model, momentum=momentum).to(x.device), Queue(queue, d, labels=True, seed=seed).to(x.device)
    g, latest = generator(seed, x.device, stream=1), {"number": 0}

    def objective(index):
        index = index.to(x.device)
        views = two_views(x[index], g, view)
        made = [F.normalize(teacher(v), dim=1) for v in (views if symmetric else views[1:])]
        latest.update(k=made[-1], index=index)
        held, owners = keys.keys(), keys.labels()
        terms = [loss(Step(F.normalize(model(v), dim=1), k, held, index, owners, latest["number"]))
                 for v, k in zip(views, reversed(made), strict=False)]
        return sum(terms) / len(terms)

    def follow(step, value):
        teacher.update(model)
        keys.push(latest["k"], latest["index"])
        latest["number"] = step + 1
        if after_step:
            after_step(step, value)

    teacher.train()
    return train(model, objective, batches(len(x), batch, generator(seed)), steps=steps, lr=lr, after_step=follow)
