"""Random views of a whole batch of token sequences at once, each sample with its own parameters.

A batch is `ids` (n, l) int64, padded on the right, with `lengths` (n,) int64 from 1 to l; randomness comes from a
`torch.Generator` on their device. Every operation but substitution is first a plan, made from the lengths alone:
`index` (n, l') says which old position each new one shows, `lengths'` (n,) how many count, and l' is the longest of
them. `take` applies a plan to ids, or to features of tokens (n, l, d), so that what was computed once serves all views.

`keep` (n, l) bool protects positions, such as those of [CLS] and [SEP]: they are not deleted, moved, repeated or
replaced. Shares and rates are of the tokens that are not protected. No view is empty.

Sources: word and span deletion, reordering and substitution CLEAR (2012.15466), where a deleted run leaves one [DEL]
behind (here nothing stays); repetition ESimCSE (2109.04380); dropout SimCSE (2104.08821).
Raises: InputError that names the argument for wrong shapes or types, lengths outside [1, l], shares outside [0, 1).
"""
import torch

from cl_lib import checks
from cl_lib.errors import InputError

Plan = tuple[torch.Tensor, torch.Tensor]


def take(x: torch.Tensor, index: torch.Tensor, lengths: torch.Tensor, *, pad: float = 0) -> torch.Tensor:
    """Apply a plan to x (n, l) or (n, l, ...): out[i, j] = x[i, index[i, j]] for j < lengths[i], then `pad`."""
    rows = torch.arange(len(x), device=x.device)[:, None]
    beyond = torch.arange(index.shape[1], device=x.device) >= lengths[:, None]
    return x[rows, index].masked_fill(beyond.view(*beyond.shape, *[1] * (x.ndim - 2)), pad)


def deletion_plan(lengths: torch.Tensor, g: torch.Generator, *, p: float, keep: torch.Tensor | None = None) -> Plan:
    """Delete each token with probability p; where none would be left, one drawn at random stays."""
    checks.fraction("p", p)
    free, u = _free(lengths, keep, g), _uniform(lengths, g)
    return _without(free & (u < p), lengths, u)


def span_deletion_plan(lengths: torch.Tensor, g: torch.Generator, *, share: float, spans: int = 1,
                       keep: torch.Tensor | None = None) -> Plan:
    """Delete `spans` runs of neighbours, each int(share * tokens) long, at least 1; runs may overlap.

    A run passes over protected tokens. Where nothing would be left, one token drawn at random stays; a share of 0
    deletes nothing.
    """
    checks.fraction("share", share)
    _count("spans", spans)
    free = _free(lengths, keep, g)
    order, m = _in_front(free)
    width = _part(share, m).clamp(min=1 if share else 0)[:, None].minimum(m[:, None])
    start = (torch.rand(len(m), spans, device=g.device, generator=g) * (m[:, None] - width + 1)).floor().long()
    at = torch.arange(free.shape[1], device=g.device)[:, None]
    inside = ((at >= start[:, None]) & (at < (start + width)[:, None])).any(2)
    drop = torch.zeros_like(free).scatter_(1, order, inside) & free
    return _without(drop, lengths, _uniform(lengths, g))


def reorder_plan(lengths: torch.Tensor, g: torch.Generator, *, share: float, pairs: int = 1,
                 keep: torch.Tensor | None = None) -> Plan:
    """Swap `pairs` pairs of runs that do not overlap, each int(share * tokens) long, at least 1.

    All places of the runs are equally likely. In a short sequence there are fewer pairs, then shorter runs; protected
    tokens stay where they are, and runs pass over them.
    """
    checks.fraction("share", share)
    _count("pairs", pairs)
    free = _free(lengths, keep, g)
    order, m = _in_front(free)
    pairs_here = (m // 2).clamp(max=pairs)
    runs = 2 * pairs_here
    width = _part(share, m).clamp(min=1).minimum(m // runs.clamp(min=1))
    # disjoint runs are distinct points of a line that is shorter by width - 1 for each run; they come in random order
    slots = _distinct(m - runs * (width - 1), min(2 * pairs, free.shape[1]), runs, free.shape[1], g)
    start = slots + slots.argsort(1).argsort(1) * (width - 1)[:, None]
    at = torch.arange(free.shape[1], device=g.device).expand(free.shape)
    moved = at
    for t in range(slots.shape[1] // 2 * 2):
        here, there = start[:, t, None], start[:, t ^ 1, None]
        inside = (at >= here) & (at < here + width[:, None]) & (t < runs)[:, None]
        moved = torch.where(inside, at - here + there, moved)
    return _permuted(moved, order, m, lengths)


def shuffle_plan(lengths: torch.Tensor, g: torch.Generator, *, keep: torch.Tensor | None = None) -> Plan:
    """A random order of all tokens that are not protected, each equally likely; protected ones stay where they are."""
    order, m = _in_front(_free(lengths, keep, g))
    u = _uniform(lengths, g).masked_fill(torch.arange(order.shape[1], device=g.device) >= m[:, None], 2)
    return _permuted(u.argsort(1), order, m, lengths)


def repetition_plan(lengths: torch.Tensor, g: torch.Generator, *, rate: float = 0.32,
                    keep: torch.Tensor | None = None) -> Plan:
    """Show dup_len different tokens twice in a row; dup_len is uniform on 0, 1, ..., max(2, int(rate * tokens)).

    Source: 2109.04380, its dup_len and dup_set; where a sequence has fewer than dup_len tokens, each is shown twice.
    The paper repeats subwords.
    """
    checks.fraction("rate", rate)
    free = _free(lengths, keep, g)
    most = _part(rate, free.sum(1)).clamp(min=2)
    dup_len = (torch.rand(len(most), device=g.device, generator=g) * (most + 1)).floor().long()
    rank = _uniform(lengths, g).masked_fill(~free, 2).argsort(1).argsort(1)
    return _expanded(_real(lengths).long() + (free & (rank < dup_len[:, None])))


def token_deletion(ids: torch.Tensor, lengths: torch.Tensor, g: torch.Generator, *, p: float,
                   keep: torch.Tensor | None = None, pad: int = 0) -> Plan:
    """`deletion_plan` applied to ids; returns ids (n, l') and lengths (n,)."""
    return _apply(deletion_plan, ids, lengths, g, keep, pad, p=p)


def span_deletion(ids: torch.Tensor, lengths: torch.Tensor, g: torch.Generator, *, share: float, spans: int = 1,
                  keep: torch.Tensor | None = None, pad: int = 0) -> Plan:
    """`span_deletion_plan` applied to ids; returns ids (n, l') and lengths (n,)."""
    return _apply(span_deletion_plan, ids, lengths, g, keep, pad, share=share, spans=spans)


def reorder(ids: torch.Tensor, lengths: torch.Tensor, g: torch.Generator, *, share: float, pairs: int = 1,
            keep: torch.Tensor | None = None, pad: int = 0) -> Plan:
    """`reorder_plan` applied to ids; returns ids (n, l') and the lengths, unchanged."""
    return _apply(reorder_plan, ids, lengths, g, keep, pad, share=share, pairs=pairs)


def shuffle(ids: torch.Tensor, lengths: torch.Tensor, g: torch.Generator, *, keep: torch.Tensor | None = None,
            pad: int = 0) -> Plan:
    """`shuffle_plan` applied to ids; returns ids (n, l') and the lengths, unchanged."""
    return _apply(shuffle_plan, ids, lengths, g, keep, pad)


def repetition(ids: torch.Tensor, lengths: torch.Tensor, g: torch.Generator, *, rate: float = 0.32,
               keep: torch.Tensor | None = None, pad: int = 0) -> Plan:
    """`repetition_plan` applied to ids; returns ids (n, l') and lengths (n,)."""
    return _apply(repetition_plan, ids, lengths, g, keep, pad, rate=rate)


def substitution(ids: torch.Tensor, lengths: torch.Tensor, g: torch.Generator, *, p: float, table: torch.Tensor,
                 keep: torch.Tensor | None = None) -> Plan:
    """Replace each token with probability p by one of its candidates, each equally likely; shape and lengths stay.

    table (vocabulary, k) int64 holds the candidates of each id, -1 where there are fewer; a token without any stays.
    Raises also: InputError for a table of another shape or type, or an id outside it.
    """
    checks.fraction("p", p)
    _tokens(ids, lengths)
    if table.ndim != 2 or table.dtype != torch.int64 or not table.shape[1]:
        raise InputError(f"table must be int64 of shape (vocabulary, k), not {table.dtype} {tuple(table.shape)}")
    free = _free(lengths, keep, g, ids.shape[1])
    real = ids[_real(lengths, ids.shape[1])]
    if real.min() < 0 or real.max() >= len(table):
        raise InputError(f"ids must lie in [0, {len(table)}), the rows of table, not in [{real.min()}, {real.max()}]")
    u, v = torch.rand(2, *ids.shape, device=g.device, generator=g)
    candidates = table[ids.masked_fill(~free, 0)]
    some = candidates >= 0
    pick = (some.cumsum(2) > (v * some.sum(2)).floor()[..., None]).int().argmax(2, keepdim=True)
    chosen = free & (u < p) & some.any(2)
    return torch.where(chosen, candidates.gather(2, pick)[..., 0], ids), lengths


def dropout_views(x: torch.Tensor, g: torch.Generator, p: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """Two views v1, v2 of floats x of any shape: every element is 0 with probability p, else divided by 1 - p.

    The masks are independent; the mean over masks is x. SimCSE has dropout in every layer of its encoder, with p = 0.1;
    here it is only on x, such as features of tokens (n, l, d).
    """
    checks.fraction("p", p)
    if not x.is_floating_point():
        raise InputError(f"x must be floating-point, not {x.dtype}")
    return tuple(x * (torch.rand(x.shape, device=g.device, generator=g) >= p) / (1 - p) for _ in range(2))


def _apply(plan, ids, lengths, g, keep, pad, **settings) -> Plan:
    _tokens(ids, lengths)
    index, out = plan(lengths, g, keep=keep, **settings)
    return take(ids, index, out, pad=pad), out


def _tokens(ids, lengths):
    if ids.ndim != 2 or ids.dtype != torch.int64:
        raise InputError(f"ids must be int64 of shape (n, l), not {ids.dtype} {tuple(ids.shape)}")
    _lengths(lengths)
    if len(lengths) != len(ids) or lengths.max() > ids.shape[1]:
        raise InputError(f"lengths must be of shape ({len(ids)},) and at most {ids.shape[1]} for such ids, "
                         f"not ({len(lengths)},) and up to {lengths.max()}")


def _lengths(lengths):
    if lengths.ndim != 1 or lengths.dtype != torch.int64 or not len(lengths) or lengths.min() < 1:
        raise InputError(f"lengths must be int64 of shape (n,), n >= 1, each at least 1, not {lengths.dtype} "
                         f"{tuple(lengths.shape)}{f' from {lengths.min()}' if lengths.numel() else ''}")


def _count(name, value):
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a positive integer, not {value!r}")


def _real(lengths: torch.Tensor, size: int | None = None) -> torch.Tensor:
    """Which positions hold a token (n, l), up to the longest sequence or `size`."""
    return torch.arange(size or int(lengths.max()), device=lengths.device) < lengths[:, None]


def _free(lengths, keep, g, size=None) -> torch.Tensor:
    """Which positions hold a token that may be changed (n, l)."""
    _lengths(lengths)
    real = _real(lengths, size)
    if keep is None:
        return real
    if keep.dtype != torch.bool or keep.ndim != 2 or len(keep) != len(real) or keep.shape[1] < real.shape[1]:
        raise InputError(f"keep must be bool of shape {tuple(real.shape)} or wider, not {keep.dtype} "
                         f"{tuple(keep.shape)}")
    return real & ~keep[:, :real.shape[1]]


def _uniform(lengths, g) -> torch.Tensor:
    return torch.rand(len(lengths), int(lengths.max()), device=g.device, generator=g)


def _part(share: float, m: torch.Tensor) -> torch.Tensor:
    """int(share * m), as Python has it."""
    return (share * m.double()).floor().long()


def _expanded(counts: torch.Tensor) -> Plan:
    """The plan that shows position j counts[:, j] times, in order."""
    ends = counts.cumsum(1)
    at = torch.arange(int(ends[:, -1].max()), device=counts.device).repeat(len(counts), 1)
    return torch.searchsorted(ends, at, right=True).clamp_(max=counts.shape[1] - 1), ends[:, -1]


def _without(drop: torch.Tensor, lengths: torch.Tensor, u: torch.Tensor) -> Plan:
    """The plan without the dropped positions; where that leaves none, the one with the largest u stays."""
    stay = _real(lengths) & ~drop
    last = u.masked_fill(~_real(lengths), -1).argmax(1, keepdim=True)
    stay |= torch.zeros_like(stay).scatter_(1, last, ~stay.any(1, keepdim=True))
    return _expanded(stay.long())


def _in_front(free: torch.Tensor) -> Plan:
    """The free positions in order (n, l), the others after them, and how many are free (n,)."""
    return (~free).int().argsort(dim=1, stable=True), free.sum(1)


def _permuted(moved, order, m, lengths) -> Plan:
    """The plan in which the j-th free position shows the moved[:, j]-th free one, and the others themselves."""
    at = torch.arange(order.shape[1], device=order.device)
    moved = torch.where(at < m[:, None], moved, at)
    return torch.empty_like(order).scatter_(1, order, order.gather(1, moved)), lengths


def _distinct(choices: torch.Tensor, k: int, runs: torch.Tensor, size: int, g: torch.Generator) -> torch.Tensor:
    """k distinct numbers (n, k) below choices (n,) in random order; from the runs-th on they are `size` or more."""
    u = torch.rand(len(choices), size, device=g.device, generator=g)
    numbers = u.masked_fill(torch.arange(size, device=g.device) >= choices[:, None], 2).argsort(1)[:, :k]
    at = torch.arange(k, device=g.device)
    return torch.where(at < runs[:, None], numbers, size + at)
