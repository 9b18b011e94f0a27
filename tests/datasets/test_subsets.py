"""Long-tailed subsets: their sizes, what they share, and what is refused."""
import pytest
import torch

from cl_lib.datasets.subsets import long_tail
from cl_lib.errors import InputError
from cl_lib.training import generator

Y = torch.arange(1000).remainder(5).mul(3)[torch.randperm(1000, generator=generator(9))]  # labels 0, 3, 6, 9, 12, 200 each


def draw(n=300, ratio=16.0, seed=0, y=Y):
    return long_tail(y, n, ratio=ratio, generator=generator(seed))


def test_sizes_fall_exponentially_and_sum_to_n():
    index, order = draw()
    assert len(index) == 300 and len(index.unique()) == 300
    sizes = torch.tensor([(Y[index] == label).sum() for label in order])
    # 16 ** (-k / 4) is 1, 1/2, 1/4, 1/8, 1/16, which sum to 31 / 16
    assert torch.equal(sizes, (300 * 16 / 31 / 2 ** torch.arange(5.0)).round().long())
    assert sorted(order.tolist()) == [0, 3, 6, 9, 12]


def test_a_ratio_of_one_is_balanced_and_leftovers_go_somewhere():
    index, order = draw(ratio=1.0)
    assert [(Y[index] == label).sum().item() for label in order] == [60] * 5
    for n in (1, 4, 7, 299):
        counts = torch.bincount(Y[draw(n=n, ratio=1.0)[0]], minlength=13)[::3]
        assert counts.sum() == n and counts.max() - counts.min() <= 1


def test_a_steep_tail_may_leave_classes_out():
    index, order = draw(n=100, ratio=1e6)
    sizes = [(Y[index] == label).sum().item() for label in order]
    assert sum(sizes) == 100 and sizes[-1] == 0 and sizes == sorted(sizes, reverse=True)


def test_seeded_and_the_order_of_classes_is_drawn():
    assert torch.equal(draw(seed=3)[0], draw(seed=3)[0])
    assert len({tuple(draw(seed=s)[1].tolist()) for s in range(20)}) > 10
    assert len({draw(seed=s)[1][0].item() for s in range(40)}) == 5


def test_subsets_of_one_seed_share_what_they_can():
    (tail, order), (flat, again) = draw(), draw(ratio=1.0)
    assert torch.equal(order, again)
    for label in order:
        a, b = (set(i[Y[i] == label].tolist()) for i in (tail, flat))
        assert a <= b or b <= a


def test_refuses():
    with pytest.raises(InputError, match="at least 1"):
        draw(n=0)
    with pytest.raises(InputError, match="at least 1"):
        draw(ratio=0.5)
    with pytest.raises(InputError, match="has 200 items, 2.. needed"):
        draw(n=500)
