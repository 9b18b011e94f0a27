"""Time and memory of a contrastive denominator and its gradient on a GPU: the Triton kernels beside other forms."""
from cl_lib.errors import InputError, unknown

NAMES = ("kernels", "stream", "compiled", "dense")


def kernels(*, pairs: tuple[int, ...] = (4096, 16384, 65536), d: int = 256, dtype: str = "bfloat16", tau: float = 0.07,
            repeats: int = 10, names: tuple[str, ...] = NAMES) -> list[dict]:
    """A row for each form and number of queries and keys: seconds (median), peak_mb over the inputs, rate_share, loss_error.

    Keys are not the queries, so forward and backward are 5 products of n n d; rate_share is their rate over that of a plain
    matrix product of the same dtype, 8,192 cubed, in the same run. loss_error is the largest difference of 1,000 rows to
    float64. A form that does not fit into the memory has no numbers. Raises: InputError without a CUDA device.
    """
    import torch

    if not torch.cuda.is_available():
        raise InputError("the kernels are measured on a CUDA device, and there is none")
    if wrong := next((name for name in names if name not in NAMES), None):
        raise unknown("implementation", wrong, NAMES)
    kind = getattr(torch, dtype)
    square = torch.randn(8192, 8192, device="cuda", dtype=kind)
    rate = 2 * 8192 ** 3 / _seconds(lambda: square @ square, repeats)
    rows = []
    for n in pairs:
        g = torch.Generator("cuda").manual_seed(0)
        z = torch.nn.functional.normalize(torch.randn(2, n, d, generator=g, device="cuda"), dim=2).to(kind)
        q, k = (x.clone().requires_grad_() for x in z)
        exact = torch.logsumexp(z[0, :1000].double() @ z[1].double().T / tau, 1)
        for name in names:
            row = dict(name=name, pairs=n, d=d, dtype=dtype, device=torch.cuda.get_device_name(), seconds=None, peak_mb=None,
                       rate_share=None, loss_error=None)
            rows.append(row)
            form = _form(name, tau)
            torch.cuda.empty_cache()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            try:
                row["loss_error"] = (form(q, k).detach()[:1000] - exact).abs().max().item()
                row["seconds"] = _seconds(lambda: torch.autograd.grad(form(q, k).sum(), (q, k)), repeats)
            except torch.cuda.OutOfMemoryError:
                continue
            row["peak_mb"] = (torch.cuda.max_memory_allocated() - before) / 2 ** 20
            row["rate_share"] = 5 * 2 * n * n * d / row["seconds"] / rate
    return rows


def _form(name, tau):
    import torch

    from cl_lib.losses import streaming

    def dense(q, k):
        return torch.logsumexp((q @ k.T).float() / tau, 1)

    if name == "kernels":
        from cl_lib.losses import kernels
        return lambda q, k: kernels.log_partition(q, k, tau)
    return {"stream": lambda q, k: streaming.log_partition(q, k, tau, block=8192), "dense": dense,
            "compiled": torch.compile(dense)}[name]


def _seconds(call, repeats: int) -> float:
    import torch

    call()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return sorted(times)[len(times) // 2]
