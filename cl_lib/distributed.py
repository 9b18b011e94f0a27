"""Losses over the embeddings of all processes, with one process's value and gradient.

Two recipes are exact where the gradients of all processes are averaged, as `average_gradients` does and
DistributedDataParallel:

- gather the embeddings with `all_gather_with_grad` and let every process compute the whole loss;
- gather the candidates, compute the terms of the process's own anchors only, and end with `mean_over_processes`.

The backward of the gather adds up what all processes send to an embedding. In the first recipe these are as many equal
copies as there are processes, and the averaging takes this factor off again; nothing is left to rescale by hand. A
trainer that adds gradients up instead of averaging them must divide the loss by the number of processes.
All functions are collective: every process must call them in the same order, in the backward too. Without a process
group, or with one process, they change nothing.
"""
from collections.abc import Iterable

import torch
import torch.distributed as dist


def is_distributed() -> bool:
    """Whether this is one of several processes of torch.distributed."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_gather_with_grad(z: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, in the order of their ranks; gradients flow back to the process a row came from.

    Shapes: z (n, ...), n may differ between processes and be 0 -> (sum of n, ...). Labels may be gathered as well.
    Note: the gradient of a row is the sum over all processes; see the head of this file for what that means.
    """
    return _Gather.apply(z, _counts(z)) if is_distributed() else z


def rank_slice(z: torch.Tensor) -> slice:
    """Where the rows of this process stand in `all_gather_with_grad(z)`."""
    if not is_distributed():
        return slice(0, len(z))
    start = sum(_counts(z)[:dist.get_rank()])
    return slice(start, start + len(z))


def mean_over_processes(terms: torch.Tensor) -> torch.Tensor:
    """The mean of the loss terms of all processes, each term counted once even where processes hold unequal numbers.

    Shapes: terms (n,) -> scalar, the same on every process; averaging its gradients over processes gives that of the mean.
    """
    if not is_distributed():
        return terms.mean()
    counts = _counts(terms)
    mine = terms.sum() / sum(counts)
    total = mine.detach().clone()
    dist.all_reduce(total)
    share = mine * len(counts)
    return share + (total - share).detach()


@torch.no_grad()
def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes, as DistributedDataParallel does.

    A process without a gradient for a parameter counts as zero; a parameter that none has used keeps none. All processes
    must hold the same parameters in the same order, and start from the same values.
    """
    parameters = list(parameters)
    if not is_distributed() or not parameters:
        return
    used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.uint8, device=parameters[0].device)
    dist.all_reduce(used, op=dist.ReduceOp.MAX)
    shared = [p for p, u in zip(parameters, used.tolist()) if u]
    for dtype in dict.fromkeys(p.dtype for p in shared):
        group = [p for p in shared if p.dtype == dtype]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in group])
        dist.all_reduce(flat)
        for p, mean in zip(group, (flat / dist.get_world_size()).split([p.numel() for p in group])):
            p.grad = mean.view_as(p).clone()


def _counts(z: torch.Tensor) -> list[int]:
    """The number of rows on each process."""
    counts = torch.empty(dist.get_world_size(), dtype=torch.long, device=z.device)
    dist.all_gather_into_tensor(counts, torch.tensor([len(z)], device=z.device))
    return counts.tolist()


class _Gather(torch.autograd.Function):
    """Collectives want equal shapes: rows are padded to the largest count, and trimmed after."""

    @staticmethod
    def forward(ctx, z, counts):
        ctx.counts = counts
        world, most = len(counts), max(counts)
        padded = z.new_zeros(most, *z.shape[1:])
        padded[:len(z)] = z
        everyone = z.new_empty(world * most, *z.shape[1:])
        dist.all_gather_into_tensor(everyone, padded)
        return torch.cat([part[:n] for part, n in zip(everyone.split(most) if most else [everyone], counts)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        start = sum(ctx.counts[:dist.get_rank()])
        return grad[start:start + ctx.counts[dist.get_rank()]], None
