"""Measurements that take a known time and give a known value, for tests of what runs them."""
import time

import torch

ARMS = {"dcl@32": {"shift": 1.0, "pause": 0.0}, "info_nce@32": {"shift": 0.0, "pause": 0.0}}


def noisy(seed, device, shift, pause):
    """A number that depends on the seed alone, some time later."""
    time.sleep(pause)
    return {"knn_accuracy": shift + torch.randn((), generator=torch.Generator().manual_seed(seed)).item(), "other": 2.0 * shift}


def failing(seed, device, shift, pause):
    if seed == 1:
        raise FloatingPointError("the loss is nan at step 7")
    return {"knn_accuracy": float("inf") if seed == 2 else shift}


def claim(pause=0.0, seeds=None, tier="cpu"):
    """Measure the claim dcl.small-batch with arms of known outcome."""
    from cl_lib import experiment

    run = experiment.start("objectives", tier=tier, seeds=seeds)
    arms = {arm: {**s, "pause": pause} for arm, s in ARMS.items()}
    return run.claim("dcl.small-batch", arms, noisy, draw=False)


if __name__ == "__main__":
    import sys

    from support import measures

    measures.claim(pause=float(sys.argv[1]))
