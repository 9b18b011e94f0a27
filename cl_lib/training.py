"""One training loop: optimiser, warm-up and cosine decay, mixed precision, hooks after each step, seeds; large batches."""
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cl_lib import distributed
from cl_lib.errors import InputError, unknown

OPTIMIZERS = ("sgd", "adam", "adamw")
Outputs = torch.Tensor | tuple[torch.Tensor, ...]
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


def in_pieces(encode: Callable[..., Outputs], *inputs: Sequence, size: int, generators: Sequence[torch.Generator] = (),
              modules: Sequence[nn.Module] = ()) -> Outputs:
    """`encode(*inputs)` with the memory of `size` items (gradient caching): no batch is too large for its encoder.

    `encode` runs over pieces of the inputs and keeps its outputs alone. The backward of whatever loss follows first finds
    the gradients of the outputs, then encodes one piece at a time again and carries them on. The second pass repeats the
    first one's random numbers, those of the CPU, of CUDA and of `generators`, so dropout and views drawn inside `encode`
    are the same in both. Two encoders, as for images and texts, are two calls, or one `encode` that returns a tuple.
    Shapes: each input has n items along its first axis (tensors, or lists of texts) -> the outputs, (n, ...) each.
    Reduces to: `encode(*inputs)` where items do not see each other, with the same draws; gradients too (tested to 1e-5).
    Source: 2101.06983. Cost: one more forward pass; memory O(size) activations, O(n) outputs and O(1) buffers a piece.
    Note: batch norm sees a piece, not the batch, in both passes: the result is that of separate batches of `size`. The
    buffers of `encode`, if it is a module, and of `modules` are updated by the first pass alone; a function around a
    network with running statistics should name it there. What `encode` keeps elsewhere it keeps twice.
    Raises: InputError for a size below 1, no inputs, empty ones or such of different lengths.
    """
    lengths = [len(x) for x in inputs]
    if size < 1:
        raise InputError(f"size must be at least 1, not {size}")
    if len(set(lengths)) != 1 or not lengths[0]:
        raise InputError(f"inputs must be of one length, at least 1, not of {lengths}")
    holders = (*modules, encode) if isinstance(encode, nn.Module) else modules

    def run(at: int, first: list):
        with _replayed(first, generators, holders):
            return encode(*(x[at:at + size] for x in inputs))

    pieces = [checkpoint(run, at, [], use_reentrant=False, preserve_rng_state=False) for at in range(0, lengths[0], size)]
    return tuple(map(torch.cat, zip(*pieces, strict=True))) if isinstance(pieces[0], tuple) else torch.cat(pieces)


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless batches of indices into n items, shuffled anew in each pass, the incomplete last batch left out.

    Shapes: each (size,) int64 on the CPU. Raises: InputError when size is not in 1..n.
    """
    if not 1 <= size <= n:
        raise InputError(f"batch size must be in 1..{n}, the number of items, not {size}")
    while True:
        order = torch.randperm(n, generator=generator)
        yield from order[:n - n % size].view(-1, size)


def group_batches(groups: torch.Tensor, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless batches of indices, each from one group alone; the groups take turns until they have no full batch left.

    In each pass every group is shuffled anew and gives floor(its items / size) batches; what is left over, all of a group of
    fewer than `size` items among it, is passed over. One group gives what `batches` gives, with the same draws.
    Shapes: groups (n,) any integers -> each (size,) int64 on the CPU. Source: 2402.11816 (feature-aware negative sampling).
    Raises: InputError for a size below 1, or such that no group fills a batch.
    """
    members = [torch.nonzero(groups.cpu() == c)[:, 0] for c in groups.unique().tolist()]
    largest = max((len(m) for m in members), default=0)
    if not 1 <= size <= largest:
        raise InputError(f"batch size must be in 1..{largest}, the items of the largest group, not {size}")
    while True:
        full = [m[torch.randperm(len(m), generator=generator)][:len(m) - len(m) % size].view(-1, size) for m in members]
        for turn in range(max(map(len, full))):
            yield from (f[turn] for f in full if turn < len(f))


def generator(seed: int, device: str | torch.device = "cpu", *, stream: int = 0) -> torch.Generator:
    """A seeded generator; `stream` gives independent ones for data order, views and so on from the same seed."""
    return torch.Generator(device).manual_seed(seed * 1_000_003 + stream)


def _share(step: int, steps: int, warmup: float) -> float:
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


@contextmanager
def _replayed(first: list, generators: Sequence[torch.Generator], modules: Sequence[nn.Module]):
    """Note in the empty list `first` the random states and buffers that the first run meets; later runs meet copies."""
    drawn = (torch.default_generator, *(torch.cuda.default_generators if torch.cuda.is_initialized() else ()), *generators)
    now = [(g, g.get_state()) for g in drawn]
    buffers = [(m, name, b) for top in modules for m in top.modules() for name, b in m.named_buffers(recurse=False)]
    if not first:
        first += now, [(m, name, b.clone()) for m, name, b in buffers]
        yield
        return
    try:
        for g, state in first[0]:
            g.set_state(state)
        # copies take the buffers' places, for a graph may hold on to those that are there now
        for m, name, b in first[1]:
            setattr(m, name, b.clone())
        yield
    finally:
        for g, state in now:
            g.set_state(state)
        for m, name, b in buffers:
            setattr(m, name, b)
