"""The log of a softmax's denominator on a GPU, in Triton: exact, no matrix of similarities, recomputed in the backward.

Importing this module needs `triton`, which comes with PyTorch on Linux. With TRITON_INTERPRET=1 set before the import,
the same kernels run on a CPU, slowly: that is how they are tested.
"""
import math

import torch
import triton
import triton.language as tl

from cl_lib import checks
from cl_lib.errors import InputError
from cl_lib.losses.streaming import _symmetric

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
# Up to this many bytes a program keeps its rows whole; beyond, it goes over them in parts of DEPTH dimensions.
WHOLE, DEPTH = 512, 64
LOG2_E, LN_2 = math.log2(math.e), math.log(2)


def log_partition(queries: torch.Tensor, keys: torch.Tensor, tau: float | torch.Tensor, *,
                  skip: torch.Tensor | None = None, block: tuple[int, int] | None = None) -> torch.Tensor:
    r"""log Z_i = log sum_j exp(q_i . k_j / tau_i), over all keys but those that row i skips, on a GPU.

    Shapes: queries (n, d), keys (m, d), both bfloat16, float16 or float32; tau a number or (n,), skip (n, r) -> (n,) float32.
    `block` is the number of queries and of keys of a tile, powers of two from 16; None chooses.
    Reduces to: `streaming.log_partition`. Sums are float32; a product of float32 inputs is made of three TF32 ones,
    which keep about its 24 bits.
    Cost: time O(n m d), memory O((n + m) d). 5 products of n m d with the backward; 3 where `keys` is `queries`, tau is one
    number and `skip` symmetric. The backward computes the similarities anew for every 256 dimensions (128 of float32).
    Source: online softmax 1805.02867; recomputing backward 2205.14135. No atomics: the same result every time.
    Raises: InputError for other dtypes, shapes and blocks, and for tensors that are not on a GPU.
    """
    checks.embeddings("queries", queries)
    checks.embeddings("keys", keys)
    checks.temperature(tau, len(queries))
    if queries.dtype not in DTYPES or keys.dtype != queries.dtype:
        raise InputError(f"queries and keys must both be bfloat16, float16 or float32, not {queries.dtype} and {keys.dtype}")
    if keys.shape[1] != queries.shape[1]:
        raise InputError(f"keys have {keys.shape[1]} dimensions, queries {queries.shape[1]}")
    if skip is not None and (skip.is_floating_point() or skip.ndim != 2 or len(skip) != len(queries)):
        raise InputError(f"skip must be integers of shape ({len(queries)}, r), not {skip.dtype} {tuple(skip.shape)}")
    block = _block(queries) if block is None else block
    if any(b < 16 or b & (b - 1) for b in block):
        raise InputError(f"block must be two powers of two from 16, not {block}")
    if not (queries.is_cuda or _interpreted()):
        raise InputError(f"queries must be on a GPU, not on {queries.device.type}; losses.streaming runs anywhere")
    tau = torch.as_tensor(tau, dtype=torch.float32, device=queries.device)
    both = keys is queries and tau.numel() == 1 and _symmetric(skip)
    keys = queries if both else keys
    return _LogPartition.apply(queries, keys, tau.reshape(-1).expand(len(queries)), skip, block, both)


class _LogPartition(torch.autograd.Function):
    """Exponents are of 2 inside, as the hardware has them."""

    @staticmethod
    def forward(ctx, q, k, tau, skip, block, both):
        q, k, inverse = q.contiguous(), k.contiguous(), (LOG2_E / tau).contiguous()
        skip = q.new_empty((len(q), 0), dtype=torch.int32) if skip is None else skip.to(torch.int32).contiguous()
        out = torch.empty(len(q), dtype=torch.float32, device=q.device)
        _forward[(triton.cdiv(len(q), block[0]),)](
            q, k, inverse, skip, out, len(q), len(k), q.shape[1], LN_2=LN_2, SKIPS=skip.shape[1], ROWS=block[0],
            COLUMNS=block[1], **_depth(q), num_warps=_warps(block))
        ctx.save_for_backward(q, k, tau, inverse, skip, out)
        ctx.block, ctx.both = block, both
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        q, k, tau, inverse, skip, out = ctx.saved_tensors
        finite = torch.isfinite(out)
        scale, shift = torch.where(finite, g / tau, 0).contiguous(), torch.where(finite, out * LOG2_E, 0)
        of = inverse, scale, shift, skip, ctx.block
        dq = _gradient(q, k, *of, from_rows=True, from_columns=ctx.both)
        dk = None if ctx.both else _gradient(k, q, *of, from_rows=False, from_columns=True)
        dtau = None
        if ctx.needs_input_grad[2]:
            # a pair's two ends both count its similarity where the gradient holds both of its terms
            dtau = -(q.float() * dq).sum(1) / tau / (2 if ctx.both else 1)
        return dq.to(q.dtype), None if dk is None else dk.to(k.dtype), dtau, None, None, None


def _gradient(a, b, inverse, scale, shift, skip, block, *, from_rows, from_columns):
    """Gradient of the rows of a, (n, d) float32, with weights that the rows of a give, those of b, or both."""
    n, d = a.shape
    grad = torch.empty(n, d, dtype=torch.float32, device=a.device)
    width = _power(min(d, WHOLE // a.element_size()))
    _backward[(triton.cdiv(n, block[0]), triton.cdiv(d, width))](
        a, b, inverse, scale, shift, skip, grad, n, len(b), d, SKIPS=skip.shape[1], FROM_ROWS=from_rows,
        FROM_COLUMNS=from_columns, ROWS=block[0], COLUMNS=block[1], **_depth(a), WIDTH=width,
        NARROW=a.dtype == torch.bfloat16, PRECISION="tf32x3" if a.dtype == torch.float32 else "tf32", num_warps=_warps(block))
    return grad


def _block(q: torch.Tensor) -> tuple[int, int]:
    """Queries and keys of a tile: as many as the shared memory of the device has room for."""
    small = q.is_cuda and torch.cuda.get_device_properties(q.device).shared_memory_per_block_optin < 160 * 1024
    if q.dtype == torch.float32:
        return (32, 32) if small else (64, 32)
    return (64, 32) if small else (128, 64)


def _warps(block: tuple[int, int]) -> int:
    return 8 if block[0] * block[1] >= 8192 else 4


def _power(d: int) -> int:
    return max(16, triton.next_power_of_2(d))


def _depth(x: torch.Tensor) -> dict:
    whole = x.shape[1] <= WHOLE // x.element_size()
    return {"ALL": whole, "DEPTH": _power(x.shape[1]) if whole else DEPTH,
            # the interpreter knows no products of bfloat16; in float32 they are the same
            "UPCAST": x.dtype == torch.bfloat16 and _interpreted()}


def _interpreted() -> bool:
    return not isinstance(_forward, triton.JITFunction)


@triton.jit
def _rows_of(x, rows, at, n, d):
    """The block x[rows, at], zeros outside of (n, d)."""
    return tl.load(x + rows.to(tl.int64)[:, None] * d + at[None, :], mask=(rows < n)[:, None] & (at < d)[None, :], other=0.0)


@triton.jit
def _dot(a, b, s, UPCAST: tl.constexpr, PRECISION: tl.constexpr):
    """s + a b, summed in float32."""
    if UPCAST:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, s, input_precision=PRECISION)


@triton.jit
def _products(a, b, rows, columns, n, m, d, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
              UPCAST: tl.constexpr):
    """The block a[rows] b[columns]^T in float32, some dimensions at a time."""
    s = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for first in range(0, d, DEPTH):
        at = first + tl.arange(0, DEPTH)
        s = _dot(_rows_of(a, rows, at, n, d), tl.trans(_rows_of(b, columns, at, m, d)), s, UPCAST, "tf32x3")
    return s


@triton.jit
def _forward(q, k, inverse, skip, out, n, m, d, LN_2: tl.constexpr, SKIPS: tl.constexpr, ROWS: tl.constexpr,
             COLUMNS: tl.constexpr, ALL: tl.constexpr, DEPTH: tl.constexpr, UPCAST: tl.constexpr):
    """A program has some queries, and goes over all keys with a running maximum and sum."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = rows < n
    by = tl.load(inverse + rows, mask=inside, other=0.0)
    top = tl.full((ROWS,), -float("inf"), dtype=tl.float32)
    total = tl.zeros((ROWS,), dtype=tl.float32)
    if ALL:
        left = _rows_of(q, rows, tl.arange(0, DEPTH), n, d)
    for first in range(0, m, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        if ALL:
            right = _rows_of(k, columns, tl.arange(0, DEPTH), m, d)
            s = _dot(left, tl.trans(right), tl.zeros((ROWS, COLUMNS), dtype=tl.float32), UPCAST, "tf32x3")
        else:
            s = _products(q, k, rows, columns, n, m, d, ROWS, COLUMNS, DEPTH, UPCAST)
        s = tl.where((columns < m)[None, :], s * by[:, None], -float("inf"))
        for r in tl.static_range(SKIPS):
            s = tl.where(tl.load(skip + rows * SKIPS + r, mask=inside, other=-1)[:, None] == columns[None, :], -float("inf"), s)
        higher = tl.maximum(top, tl.max(s, 1))
        # a row of which all is skipped so far has no maximum to take off
        shift = tl.where(higher == -float("inf"), 0.0, higher)
        total = total * tl.exp2(top - shift) + tl.sum(tl.exp2(s - shift[:, None]), 1)
        top = higher
    tl.store(out + rows, (top + tl.log2(total)) * LN_2, mask=inside)


@triton.jit
def _backward(a, b, inverse, scale, shift, skip, grad, n, m, d, SKIPS: tl.constexpr, FROM_ROWS: tl.constexpr,
              FROM_COLUMNS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ALL: tl.constexpr, DEPTH: tl.constexpr,
              UPCAST: tl.constexpr, WIDTH: tl.constexpr, NARROW: tl.constexpr, PRECISION: tl.constexpr):
    """A program has some rows of a and some dimensions of their gradient sum_j w_ij b_j, and goes over all rows of b.

    w_ij = scale_i exp(s_ij - shift_i) where the rows of a are queries, scale_j exp(s_ij - shift_j) where those of b are.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    at = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = rows < n
    found = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    if ALL:
        left = _rows_of(a, rows, at, n, d)
    if FROM_ROWS:
        by_row = tl.load(inverse + rows, mask=inside, other=0.0)
        scale_row = tl.load(scale + rows, mask=inside, other=0.0)
        shift_row = tl.load(shift + rows, mask=inside, other=0.0)
    for first in range(0, m, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        there = columns < m
        right = _rows_of(b, columns, at, m, d)
        if ALL:
            s = _dot(left, tl.trans(right), tl.zeros((ROWS, COLUMNS), dtype=tl.float32), UPCAST, "tf32x3")
        else:
            s = _products(a, b, rows, columns, n, m, d, ROWS, COLUMNS, DEPTH, UPCAST)
        if FROM_ROWS:
            s *= by_row[:, None]
        else:
            s *= tl.load(inverse + columns, mask=there, other=0.0)[None, :]
        s = tl.where(there[None, :] & inside[:, None], s, -float("inf"))
        for r in tl.static_range(SKIPS):
            if FROM_ROWS:
                dropped = tl.load(skip + rows * SKIPS + r, mask=inside, other=-1)[:, None] == columns[None, :]
            else:
                dropped = tl.load(skip + columns * SKIPS + r, mask=there, other=-1)[None, :] == rows[:, None]
            s = tl.where(dropped, -float("inf"), s)
        w = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
        if FROM_ROWS:
            w += scale_row[:, None] * tl.exp2(s - shift_row[:, None])
        if FROM_COLUMNS:
            w += (tl.load(scale + columns, mask=there, other=0.0)[None, :]
                  * tl.exp2(s - tl.load(shift + columns, mask=there, other=0.0)[None, :]))
        # float16 has no room for weights of 1e-9, which bfloat16 and TF32 hold; TF32 also holds every float16
        if NARROW:
            found = _dot(w.to(tl.bfloat16), right, found, UPCAST, PRECISION)
        else:
            found = _dot(w, right.to(tl.float32), found, UPCAST, PRECISION)
    tl.store(grad + rows.to(tl.int64)[:, None] * d + at[None, :], found, mask=inside[:, None] & (at < d)[None, :])
