"""What one call costs: seconds of the processor, and bytes that its tensors hold at once."""
import gc
import time
import weakref
from collections.abc import Callable, Mapping

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def seconds(calls: Mapping[str, Callable[[], object]], *, repeats: int = 5) -> dict[str, float]:
    """The least processor time of each call over some repeats, all calls taken in turn.

    Time of this process (all its threads), not of the wall: what else the machine does hardly enters, and the least of
    several repeats leaves out what does. In turn, so that a slow spell strikes all calls alike.
    """
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        gc.collect()
        for name, call in calls.items():
            begin = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - begin)
    return best


def peak_bytes(call: Callable[[], object]) -> int:
    """The most bytes of tensors that were alive at once during a call, beyond those alive before it: the same each time.

    Counts what the call's operations give out, forward and backward, and not what an operation holds while it runs.
    """
    call()  # what is made once and kept is none of the call's
    gc.collect()
    with _Alive() as record:
        call()
    return record.peak


class _Alive(TorchDispatchMode):
    """Follows the memory of each tensor that an operation gives out, from when it is made until nothing refers to it."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)
                  and t.layout is torch.strided}
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, torch.Tensor) and t.layout is torch.strided:
                self._meet(t.untyped_storage(), before)
        return out

    def _meet(self, storage, before):
        key, size = id(storage), storage.nbytes()
        if key in before or key in self.known:
            return
        self.known.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._part, key, size)

    def _part(self, key, size):
        self.known.discard(key)
        self.alive -= size
