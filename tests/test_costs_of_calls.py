import torch

from cl_lib.profiling.calls import peak_bytes, seconds


def test_peak_bytes_by_hand():
    x = torch.ones(1000)  # alive before: not counted
    assert peak_bytes(lambda: x + 1) == 4000
    assert peak_bytes(lambda: (x + 1).exp_()) == 4000  # in place
    assert peak_bytes(lambda: (x + 1) + 1) == 8000  # both, while the second is made
    assert peak_bytes(lambda: [x + i for i in range(5)]) == 20000
    assert peak_bytes(lambda: (x + 1).view(10, 100).T) == 4000  # a view takes nothing

    def one_after_the_other():
        for i in range(5):
            y = x + i
            del y

    assert peak_bytes(one_after_the_other) == 4000


def test_peak_bytes_sees_the_backward():
    w = torch.ones(1000, requires_grad=True)

    def step():
        w.grad = None
        w.exp().exp().sum().backward()

    assert 8000 < peak_bytes(step) <= 20000  # both exponentials are kept for the backward, which needs more


def test_seconds_rank_the_calls_and_count_the_repeats():
    called = []
    small, large = torch.ones(10, 10), torch.ones(600, 600)
    took = seconds({"small": lambda: called.append(small @ small), "large": lambda: called.append(large @ large)}, repeats=3)
    assert 0 <= took["small"] < took["large"] and len(called) == 6
