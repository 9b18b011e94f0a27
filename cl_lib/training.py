"""One training loop: optimiser, warm-up and cosine decay, mixed precision, hooks after each step, seeds."""
import math
from collections.abc import Callable, Iterator

import torch
from torch import nn

from cl_lib import distributed
from cl_lib.errors import InputError, unknown

OPTIMIZERS = ("sgd", "adam", "adamw")
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def train(model: nn.Module, loss: Callable[[torch.Tensor], torch.Tensor], batches: Iterator[torch.Tensor], *, steps: int,
          lr: float, optimizer: str = "adamw", weight_decay: float = 1e-4, momentum: float = 0.9, warmup: float = 0.1,
          precision: str = "float32", after_step: Callable[[int, float], None] | None = None) -> list[float]:
    """Minimise `loss(batch)` over the parameters of `model` for a number of steps; returns the loss of each step.

    The learning rate rises linearly over the first `warmup` share of the steps, then falls along a half cosine to 0.
    `after_step(step, loss)` runs after each update: EMA teachers, queues, logs, pictures. Under torchrun the gradients
    are averaged over the processes. Biases, norms and other parameters of fewer than two axes are not decayed.
    Raises: InputError for bad arguments before the first step; FloatingPointError at the step whose loss is not finite.
    """
    if steps < 1 or lr <= 0 or not 0 <= warmup < 1:
        raise InputError(f"steps must be >= 1, lr > 0 and 0 <= warmup < 1, not {steps}, {lr} and {warmup}")
    if optimizer not in OPTIMIZERS:
        raise unknown("optimizer", optimizer, OPTIMIZERS)
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise InputError("model has no parameter that requires a gradient")
    groups = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
              {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]
    if optimizer == "sgd":
        optim = torch.optim.SGD(groups, lr=lr, momentum=momentum)
    else:
        optim = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer](groups, lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optim, lambda step: _share(step, steps, warmup))
    device = parameters[0].device.type
    scaler = torch.amp.GradScaler(device, enabled=precision == "float16")
    model.train()
    history = []
    for step in range(steps):
        with torch.autocast(device, PRECISIONS[precision], enabled=precision != "float32"):
            value = loss(next(batches))
        history.append(value.item())
        if not math.isfinite(history[-1]):
            raise FloatingPointError(f"the loss is {history[-1]} at step {step} of {steps} (lr {lr})")
        optim.zero_grad(set_to_none=True)
        scaler.scale(value).backward()
        distributed.average_gradients(parameters)
        scaler.step(optim)
        scaler.update()
        schedule.step()
        if after_step:
            after_step(step, history[-1])
    model.eval()
    return history


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless batches of indices into n items, shuffled anew in each pass, the incomplete last batch left out.

    Shapes: each (size,) int64 on the CPU. Raises: InputError when size is not in 1..n.
    """
    if not 1 <= size <= n:
        raise InputError(f"batch size must be in 1..{n}, the number of items, not {size}")
    while True:
        order = torch.randperm(n, generator=generator)
        yield from order[:n - n % size].view(-1, size)


def generator(seed: int, device: str | torch.device = "cpu", *, stream: int = 0) -> torch.Generator:
    """A seeded generator; `stream` gives independent ones for data order, views and so on from the same seed."""
    return torch.Generator(device).manual_seed(seed * 1_000_003 + stream)


def _share(step: int, steps: int, warmup: float) -> float:
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
