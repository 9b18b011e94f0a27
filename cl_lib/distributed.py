"""Losses over the embeddings of all processes, with one process's value and gradient.

Four recipes are exact where the gradients of all processes are averaged, as `average_gradients` does and
DistributedDataParallel:

- gather the embeddings with `all_gather_with_grad` and let every process compute the whole loss;
- gather them with `all_gather_own_grad` and do the same: nothing is sent in the backward;
- gather the candidates, compute the terms of the process's own anchors only, and end with `mean_over_processes`;
- let the candidates travel round a ring of processes instead of gathering them: `log_partition` and the losses on it.

The backward of a gather or ring adds up what all processes send to an embedding. In the first recipe these are as many
equal copies as there are processes, and the averaging takes this factor off again; nothing is left to rescale by hand.
A trainer that adds gradients up instead of averaging them must divide the loss by the number of processes.
All functions are collective: every process must call them in the same order, in the backward too, and an error on one
leaves the others waiting. Without a process group, or with one process, they change nothing.
"""
from collections.abc import Iterable

import torch
import torch.distributed as dist
import torch.nn.functional as F

from cl_lib import checks
from cl_lib.errors import unknown
from cl_lib.losses import streaming

SHARDINGS = ("ring", "gather")
ROWS = 1024  # of queries at a time against the keys of one process


def is_distributed() -> bool:
    """Whether this is one of several processes of torch.distributed."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_gather_with_grad(z: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, in the order of their ranks; gradients flow back to the process a row came from.

    Shapes: z (n, ...), n may differ between processes and be 0 -> (sum of n, ...). Labels may be gathered as well.
    Note: the gradient of a row is the sum over all processes; see the head of this file for what that means.
    """
    return _Gather.apply(z, _counts(z)) if is_distributed() else z


def all_gather_own_grad(z: torch.Tensor) -> torch.Tensor:
    """As `all_gather_with_grad`, for losses that every process computes whole: the backward sends nothing.

    Shapes: z (n, ...) -> (sum of n, ...).
    Note: each process must compute the same value from the result. The gradient of its own rows is then known to it, and
    is multiplied by the number of processes, which is what the others would have sent; averaging takes it off again.
    """
    if not is_distributed():
        return z
    counts = _counts(z)
    everyone = _Gather.apply(z.detach(), counts)
    mine = z.view_as(z)
    if mine.requires_grad:
        mine.register_hook(lambda grad: grad * len(counts))
    start = sum(counts[:dist.get_rank()])
    return torch.cat([everyone[:start], mine, everyone[start + len(z):]])


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


def log_partition(queries: torch.Tensor, keys: torch.Tensor, tau: float | torch.Tensor, *,
                  skip: torch.Tensor | None = None, how: str = "ring") -> torch.Tensor:
    """log sum_j exp(q_i . k_j / tau_i) of this process's queries over the keys of all processes, m in all.

    Shapes: queries (n, d), keys (this process's, d), tau a number or (n,), skip (n, r) columns left out, counted over the
    keys of all processes in the order of their ranks -> (n,). Processes may hold unequal numbers, or none.
    `how="ring"`: the keys of one process at a time are here, while the next ones travel; in the backward their gradients
    travel with them and come home complete. "gather": all keys are here at once, in blocks of similarities.
    Reduces to: `streaming.log_partition(queries, all_gather_with_grad(keys), tau, skip=skip)`.
    Source: 2310.01889 (ring), 2410.17243 (for contrastive losses). Cost: time O(n m d) on each of w processes; memory
    O((n + m / w) d + 1024 m / w) by "ring", O((n + m) d) by "gather". Either sends a process O(m d) numbers in the forward;
    the backward of the ring another O(2 m d). Raises: InputError for an unknown `how`.
    """
    if how not in SHARDINGS:
        raise unknown("sharding", how, SHARDINGS)
    if how == "gather" or not is_distributed():
        keys = all_gather_with_grad(keys)
        if queries.dtype in (torch.bfloat16, torch.float16):  # or tau would be rounded to it
            queries = queries.float()
        return streaming.log_partition(queries, keys, tau, skip=skip)
    return _around(queries, keys, tau, 0.0, skip, "softmax")


def softplus_sum(queries: torch.Tensor, keys: torch.Tensor, tau: float | torch.Tensor, bias: float | torch.Tensor = 0.0, *,
                 skip: torch.Tensor | None = None, how: str = "ring") -> torch.Tensor:
    """sum_j log(1 + exp(q_i . k_j / tau_i + bias)) of this process's queries over the keys of all processes.

    Shapes, ways and cost: as `log_partition`; bias a number or a scalar tensor.
    Reduces to: `streaming.softplus_sum(queries, all_gather_with_grad(keys), tau, bias, skip=skip)`.
    Source: 2303.15343, section 3.3 (there in chunks that are exchanged, with the same pairs).
    """
    if how not in SHARDINGS:
        raise unknown("sharding", how, SHARDINGS)
    if how == "gather" or not is_distributed():
        return streaming.softplus_sum(queries, all_gather_with_grad(keys), tau, bias, skip=skip)
    return _around(queries, keys, tau, bias, skip, "softplus")


def sharded_info_nce(queries: torch.Tensor, keys: torch.Tensor, *, tau: float | torch.Tensor = 0.1, normalize: bool = True,
                     how: str = "ring") -> torch.Tensor:
    """`losses.info_nce` of the batch that all processes hold together; each computes the terms of its own queries.

    Shapes: queries, keys (n, d), n may differ and be 0; tau a number or (n,) -> scalar, the same on every process.
    Cost: as `log_partition`. Note: averaging the gradients of processes gives those of one process; normalises unless
    told not to. Raises: InputError as `losses.info_nce`.
    """
    q, k = _pairs("queries", queries, "keys", keys, tau, len(queries), normalize)
    return mean_over_processes(log_partition(q, k, tau, how=how) - (q * k).sum(1) / tau)


def sharded_nt_xent(z1: torch.Tensor, z2: torch.Tensor, *, tau: float | torch.Tensor = 0.1, normalize: bool = True,
                    how: str = "ring") -> torch.Tensor:
    """`losses.nt_xent` of the batch that all processes hold together; each computes the terms of its own anchors.

    Shapes: z1, z2 (n, d), n may differ and be 0; tau a number or (2n,) -> scalar, the same on every process.
    Cost: as `log_partition`; `losses.nt_xent(gather=True)` has every process compute all terms. Note and raises: as
    `sharded_info_nce`.
    """
    z1, z2 = _pairs("z1", z1, "z2", z2, tau, 2 * len(z1), normalize)
    z = torch.cat([z1, z2])
    own = torch.arange(len(z), device=z.device) + rank_slice(z).start
    return mean_over_processes(log_partition(z, z, tau, skip=own[:, None], how=how) - (z * z.roll(len(z1), 0)).sum(1) / tau)


def sharded_clip(zi: torch.Tensor, zt: torch.Tensor, *, tau: float | torch.Tensor = 0.07, normalize: bool = True,
                 how: str = "ring") -> torch.Tensor:
    """`losses.clip` of the batch that all processes hold together: texts travel past images, then images past texts.

    Shapes: zi, zt (n, d), n may differ and be 0; tau a number or a scalar tensor -> scalar, the same on every process.
    Cost: twice `log_partition`. Note and raises: as `sharded_info_nce`.
    """
    zi, zt = _pairs("zi", zi, "zt", zt, tau, 1, normalize)
    log_z = log_partition(zi, zt, tau, how=how) + log_partition(zt, zi, tau, how=how)
    return mean_over_processes(log_z / 2 - (zi * zt).sum(1) / tau)


def sharded_siglip(zi: torch.Tensor, zt: torch.Tensor, *, tau: float | torch.Tensor = 0.1, bias: float | torch.Tensor = -10.0,
                   normalize: bool = True, how: str = "ring") -> torch.Tensor:
    """`losses.siglip` of the batch that all processes hold together; each judges its images against all texts.

    Shapes: zi, zt (n, d), n may differ and be 0; tau, bias numbers or scalar tensors -> scalar, the same on every process.
    Cost: as `log_partition`. Note and raises: as `sharded_info_nce`.
    """
    zi, zt = _pairs("zi", zi, "zt", zt, tau, 1, normalize)
    checks.number("bias", bias)
    own = torch.arange(len(zi), device=zi.device) + rank_slice(zi).start
    apart = softplus_sum(zi, zt, tau, bias, skip=own[:, None], how=how)
    return mean_over_processes(apart - F.logsigmoid((zi * zt).sum(1) / tau + bias))


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


def _pairs(name: str, a: torch.Tensor, other: str, b: torch.Tensor, tau: float | torch.Tensor, anchors: int, normalize: bool):
    """Two checked sets of embeddings in at least float32, of unit norm when asked."""
    checks.embeddings(name, a, at_least=0)
    checks.embeddings(other, b, like=(name, a), at_least=0)
    checks.temperature(tau, anchors)
    a, b = (z.to(torch.promote_types(z.dtype, torch.float32)) for z in (a, b))
    return (F.normalize(a, dim=1), F.normalize(b, dim=1)) if normalize else (a, b)


def _around(queries, keys, tau, bias, skip, kind):
    dtype = torch.promote_types(queries.dtype, torch.float32)
    with torch.autocast(queries.device.type, enabled=False):
        tau, bias = (torch.as_tensor(x, dtype=dtype, device=queries.device) for x in (tau, bias))
        return _Ring.apply(queries.to(dtype), keys, tau.expand(len(queries)), bias, skip, _counts(keys), kind)


class _Ring(torch.autograd.Function):
    """Sums over the keys of all processes, a process's keys at a time; they travel in the dtype they came in."""

    @staticmethod
    def forward(ctx, q, k, tau, bias, skip, counts, kind):
        out = q.new_full((len(q),), -torch.inf if kind == "softmax" else 0.0)
        for source, visitor in _travel(k, counts):
            for rows, s in _similarities(q, visitor, tau, bias, skip, sum(counts[:source])):
                if kind == "softmax":
                    out[rows] = torch.logaddexp(out[rows], torch.logsumexp(s, 1))
                else:
                    out[rows] -= F.logsigmoid(s.neg_()).sum(1)
        ctx.save_for_backward(q, k, tau, bias, out, *(() if skip is None else (skip,)))
        ctx.counts, ctx.kind = counts, kind
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        q, k, tau, bias, out, *skip = ctx.saved_tensors
        finite = torch.isfinite(out)
        g, shift = torch.where(finite, g, 0), torch.where(finite, out, 0)
        dq, dbias, arriving, waits = torch.zeros_like(q), torch.zeros_like(bias), None, []
        for source, visitor in _travel(k, ctx.counts):
            dk = q.new_zeros(visitor.shape)
            for rows, s in _similarities(q, visitor, tau, bias, skip[0] if skip else None, sum(ctx.counts[:source])):
                p = (s.sub_(shift[rows, None]).exp_() if ctx.kind == "softmax" else s.sigmoid_()).mul_(g[rows, None])
                dbias += p.sum()
                p.div_(tau[rows, None])
                dq[rows].addmm_(p, visitor.to(q.dtype))
                dk.addmm_(p.T, q[rows])
            # what the processes before this one had for these keys came while it computed its own share
            _wait(waits)
            dk = dk if arriving is None else dk.add_(arriving)
            arriving = dk.new_empty(ctx.counts[source - 1], dk.shape[1])
            waits = _pass_on(dk, arriving)
        _wait(waits)
        dtau = -(q * dq).sum(1) / tau if ctx.needs_input_grad[2] else None
        return dq, arriving.to(k.dtype), dtau, dbias, None, None, None


def _travel(mine: torch.Tensor, counts: list[int]):
    """(rank, rows) of every process, own ones first and then those of the ranks below, each fetched while the last is used."""
    held, world = mine.contiguous(), len(counts)
    for step in range(world):
        source = (dist.get_rank() - step) % world
        if step + 1 == world:
            yield source, held
            return
        coming = held.new_empty(counts[source - 1], *held.shape[1:])
        waits = _pass_on(held, coming)
        yield source, held
        _wait(waits)
        held = coming


def _pass_on(going: torch.Tensor, coming: torch.Tensor) -> list:
    """Start to send to the next process of the ring and to receive from the one before; no rows, no message."""
    rank, world = dist.get_rank(), dist.get_world_size()
    moves = [dist.P2POp(dist.isend, going, (rank + 1) % world)] if len(going) else []
    moves += [dist.P2POp(dist.irecv, coming, (rank - 1) % world)] if len(coming) else []
    return dist.batch_isend_irecv(moves) if moves else []


def _wait(works: list) -> None:
    for work in works:
        work.wait()


def _similarities(q, keys, tau, bias, skip, first):
    """(rows, s) in blocks of rows of q k / tau + bias; `first` is the place of these keys among those of all processes."""
    for i in range(0, len(q) if len(keys) else 0, ROWS):
        rows = slice(i, i + ROWS)
        s = ((q[rows] / tau[rows, None]) @ keys.to(q.dtype).T).add_(bias)
        if skip is not None:
            columns = skip[rows] - first
            row, which = torch.nonzero((columns >= 0) & (columns < len(keys)), as_tuple=True)
            s[row, columns[row, which]] = -torch.inf
        yield rows, s
