"""The memory of tensors, counted: a number that does not depend on the machine."""
import itertools
from collections.abc import Callable

import torch


def peak_tensor_bytes(run: Callable[[], object]) -> int:
    """The most bytes that tensors made during `run()` held at one time, on the CPU.

    Counts what torch's allocator gives and takes back, in the backward pass and inside of operators too; what stood before
    is not counted. Read from torch's profiler, so `run` is some ten percent slower.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    changes = sorted((e.start_ns(), e.nbytes()) for e in profile.profiler.kineto_results.events() if e.name() == "[memory]")
    return max(itertools.accumulate(nbytes for _, nbytes in changes), default=0)
