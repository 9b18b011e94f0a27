"""Sums over many candidates, in blocks: exact, with memory linear in the batch. A softmax's denominator; a sum of softplus."""
import torch
import torch.nn.functional as F

from cl_lib.fingerprint import pinned

# exp((s - bound) / tau), with |s| <= bound, stays a normal float32 while 2 bound / tau is below this.
SAFE_EXPONENT = 80.0
BLOCK = 1024


@pinned(1)
def log_partition(queries: torch.Tensor, keys: torch.Tensor, tau: float | torch.Tensor, *,
                  skip: torch.Tensor | None = None, block: int = BLOCK) -> torch.Tensor:
    r"""log Z_i = log sum_j exp(q_i . k_j / tau_i), over all keys but those that row i skips, without the matrix.

    Shapes: queries (n, d), keys (m, d), tau a number or (n,), skip (n, r) columns each row leaves out -> (n,).
    Reduces to: `torch.logsumexp(queries @ keys.T / tau, 1)` with the skipped entries at -inf.
    Cost: time O(n m d), memory O((n + m) d + block^2). The backward computes the similarities again. Where `keys` is
    `queries`, tau one number and `skip` symmetric (j skips i when i skips j), the upper triangle of blocks serves
    rows and columns: half the products.
    Note: the symmetric form falls back to a running maximum where exp could underflow (small tau, long rows).
    """
    same = keys is queries
    dtype = torch.promote_types(queries.dtype, torch.float32)
    with torch.autocast(queries.device.type, enabled=False):
        q, t = queries.to(dtype), torch.as_tensor(tau, dtype=dtype, device=queries.device)
        k = q if same else keys.to(dtype)
        if same and t.ndim == 0 and _symmetric(skip):
            shift = ((q.detach() ** 2).sum(1).max() / t.detach()).item()
            if 2 * shift <= SAFE_EXPONENT:
                return _Symmetric.apply(q, t, skip, block, shift)
        return _Rows.apply(q, k, t.expand(len(q)), skip, block)


@pinned(1)
def softplus_sum(queries: torch.Tensor, keys: torch.Tensor, tau: float | torch.Tensor, bias: float | torch.Tensor = 0.0, *,
                 skip: torch.Tensor | None = None, block: int = BLOCK) -> torch.Tensor:
    r"""sum_j log(1 + exp(q_i . k_j / tau_i + bias)) over all keys but those that row i skips, without the matrix.

    Shapes: queries (n, d), keys (m, d), tau a number or (n,), bias a number or a scalar tensor, skip (n, r) -> (n,).
    Reduces to: `softplus(queries @ keys.T / tau + bias).sum(1)` with the skipped entries at 0.
    Cost: time O(n m d), memory O((n + m) d + block^2). The backward computes the similarities again.
    """
    dtype = torch.promote_types(queries.dtype, torch.float32)
    with torch.autocast(queries.device.type, enabled=False):
        tau, bias = (torch.as_tensor(x, dtype=dtype, device=queries.device) for x in (tau, bias))
        return _Softplus.apply(queries.to(dtype), keys.to(dtype), tau.expand(len(queries)), bias, skip, block)


def _symmetric(skip: torch.Tensor | None) -> bool:
    """Whether j skips i whenever i skips j."""
    if skip is None:
        return True
    rows = torch.arange(len(skip), device=skip.device)[:, None]
    return bool((skip[skip] == rows[..., None]).any(-1).all())


def _drop(e: torch.Tensor, skip: torch.Tensor | None, i: int, j: int, value: float) -> None:
    """Put `value` at the skipped entries that fall into the block `e`, whose corner is (i, j)."""
    if skip is not None:
        columns = skip[i:i + e.shape[0]] - j
        row, which = torch.nonzero((columns >= 0) & (columns < e.shape[1]), as_tuple=True)
        e[row, columns[row, which]] = value


class _Symmetric(torch.autograd.Function):
    """Queries are keys, and short: exp(s / tau - shift) needs no maximum, and each block stands for its mirror."""

    @staticmethod
    def forward(ctx, z, tau, skip, block, shift):
        total = z.new_zeros(len(z))
        for i, j, e in _blocks(z, tau, skip, block, shift):
            total[i:i + len(e)] += e.sum(1)
            if i != j:
                total[j:j + e.shape[1]] += e.sum(0)
        out = total.log_().add_(shift)
        ctx.save_for_backward(z, tau, out, *(() if skip is None else (skip,)))
        ctx.block, ctx.shift = block, shift
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        z, tau, out, *skip = ctx.saved_tensors
        scale = torch.where(torch.isfinite(out), g * torch.exp(ctx.shift - out) / tau, 0)
        dz = torch.zeros_like(z)
        for i, j, e in _blocks(z, tau, skip[0] if skip else None, ctx.block, ctx.shift):
            rows, columns = slice(i, i + len(e)), slice(j, j + e.shape[1])
            e.mul_(scale[rows, None] + scale[None, columns])
            dz[rows].addmm_(e, z[columns])
            if i != j:
                dz[columns].addmm_(e.T, z[rows])
        # sum_i z_i . dz_i counts every pair from both of its ends, hence the half
        dtau = -(z * dz).sum() / (2 * tau) if ctx.needs_input_grad[1] else None
        return dz, dtau, None, None, None


def _blocks(z, tau, skip, block, shift):
    """The upper triangle of exp(s / tau - shift) as (row, column, block); the block's memory is used again."""
    n = len(z)
    memory, scaled = z.new_empty(min(block, n) ** 2), z / tau
    for i in range(0, n, block):
        for j in range(i, n, block):
            a, b = scaled[i:i + block], z[j:j + block]
            e = memory[:len(a) * len(b)].view(len(a), len(b))
            torch.mm(a, b.T, out=e)
            e.sub_(shift).exp_()
            _drop(e, skip, i, j, 0.0)
            yield i, j, e


class _Rows(torch.autograd.Function):
    """Any queries, keys and temperatures: a running maximum keeps every exponent in range."""

    @staticmethod
    def forward(ctx, q, k, tau, skip, block):
        out = q.new_full((len(q),), -torch.inf)
        for i in range(0, len(q), block):
            rows = slice(i, i + block)
            for j in range(0, len(k), block):
                s = _logits(q, k, tau, skip, rows, i, j, block)
                out[rows] = torch.logaddexp(out[rows], torch.logsumexp(s, 1))
        ctx.save_for_backward(q, k, tau, out, *(() if skip is None else (skip,)))
        ctx.block = block
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        q, k, tau, out, *skip = ctx.saved_tensors
        skip, block = skip[0] if skip else None, ctx.block
        finite = torch.isfinite(out)
        scale, shift = torch.where(finite, g / tau, 0), torch.where(finite, out, 0)
        dq, dk = torch.zeros_like(q), torch.zeros_like(k)
        for i in range(0, len(q), block):
            rows = slice(i, i + block)
            for j in range(0, len(k), block):
                p = _logits(q, k, tau, skip, rows, i, j, block).sub_(shift[rows, None]).exp_().mul_(scale[rows, None])
                dq[rows].addmm_(p, k[j:j + block])
                dk[j:j + block].addmm_(p.T, q[rows])
        dtau = -(q * dq).sum(1) / tau if ctx.needs_input_grad[2] else None
        return dq, dk, dtau, None, None


class _Softplus(torch.autograd.Function):
    """Terms that need no common scale: each block adds its own."""

    @staticmethod
    def forward(ctx, q, k, tau, bias, skip, block):
        out = q.new_zeros(len(q))
        for i in range(0, len(q), block):
            rows = slice(i, i + block)
            for j in range(0, len(k), block):
                # F.softplus drops what is below e^-20
                out[rows] -= F.logsigmoid(_logits(q, k, tau, skip, rows, i, j, block).add_(bias).neg_()).sum(1)
        ctx.save_for_backward(q, k, tau, bias, *(() if skip is None else (skip,)))
        ctx.block = block
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        q, k, tau, bias, *skip = ctx.saved_tensors
        skip, block = skip[0] if skip else None, ctx.block
        dq, dk, dbias = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(bias)
        for i in range(0, len(q), block):
            rows = slice(i, i + block)
            for j in range(0, len(k), block):
                p = _logits(q, k, tau, skip, rows, i, j, block).add_(bias).sigmoid_().mul_(g[rows, None])
                dbias += p.sum()
                p.div_(tau[rows, None])
                dq[rows].addmm_(p, k[j:j + block])
                dk[j:j + block].addmm_(p.T, q[rows])
        dtau = -(q * dq).sum(1) / tau if ctx.needs_input_grad[2] else None
        return dq, dk, dtau, dbias, None, None


def _logits(q, k, tau, skip, rows, i, j, block):
    s = (q[rows] / tau[rows, None]) @ k[j:j + block].T
    _drop(s, skip, i, j, -torch.inf)
    return s
