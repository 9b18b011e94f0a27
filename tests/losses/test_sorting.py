"""The soft sorting network against its definition, its limits, and the package it could be taken from."""
import math

import pytest
import torch

from cl_lib.errors import InputError
from cl_lib.losses.sorting import soft_sort


def rows(n, w, seed=0):
    return torch.randn(n, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_comparators(row, steepness, art):
    """One row, comparator by comparator: values, and shares[i][r] of item i at rank r."""
    w, values = len(row), [float(v) for v in row]
    at_rank = [[float(i == r) for i in range(w)] for r in range(w)]
    for layer in range(w):
        for r in range(layer % 2, w - 1, 2):
            gap = values[r + 1] - values[r]
            stay = 0.5 + math.atan(steepness * gap / (abs(gap) + 1e-10) ** art) / math.pi
            for table in (values, at_rank):
                low, high = table[r], table[r + 1]
                mix = (lambda a, b: [stay * p + (1 - stay) * q for p, q in zip(a, b, strict=True)]) if table is at_rank else (
                    lambda a, b: stay * a + (1 - stay) * b)
                table[r], table[r + 1] = mix(low, high), mix(high, low)
    return values, [[at_rank[r][i] for r in range(w)] for i in range(w)]


@pytest.mark.parametrize("w", [2, 3, 6, 7])
@pytest.mark.parametrize(("steepness", "art"), [(1.0, 0.0), (20.0, 0.0), (1.0, 0.25)])
def test_it_equals_its_comparators(w, steepness, art):
    x = rows(4, w)
    values, shares = soft_sort(x, steepness=steepness, art=art)
    for i in range(len(x)):
        expected, where = by_comparators(x[i], steepness, art)
        torch.testing.assert_close(values[i], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-13)
        torch.testing.assert_close(shares[i], torch.tensor(where, dtype=torch.float64), rtol=0, atol=1e-13)


@pytest.mark.parametrize("w", [2, 5, 11])
def test_the_shares_are_doubly_stochastic_and_give_the_values(w):
    x = rows(8, w)
    values, shares = soft_sort(x, steepness=3.0)
    for axis in (1, 2):
        torch.testing.assert_close(shares.sum(axis), torch.ones(8, w, dtype=torch.float64), rtol=0, atol=1e-13)
    assert shares.min() >= 0
    torch.testing.assert_close(values, torch.einsum("nir,ni->nr", shares, x), rtol=0, atol=1e-13)


def test_a_steep_network_sorts_and_a_flat_one_mixes():
    x = rows(16, 9)
    values, shares = soft_sort(x, steepness=1e15)
    ordered, where = x.sort(1)
    torch.testing.assert_close(values, ordered, rtol=0, atol=1e-9)
    permutation = torch.zeros(16, 9, 9, dtype=torch.float64).scatter_(1, where[:, None], 1.0)
    torch.testing.assert_close(shares, permutation, rtol=0, atol=1e-9)
    flat = soft_sort(x[:, :2], steepness=1e-12)[1]
    torch.testing.assert_close(flat, torch.full_like(flat, 0.5), rtol=0, atol=1e-11)


@pytest.mark.parametrize("art", [0.0, 0.25])
def test_gradients(art):
    x = rows(3, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: soft_sort(x, steepness=2.0, art=art), x)
    tied = torch.zeros(2, 4, requires_grad=True)
    soft_sort(tied, art=art)[0].square().sum().backward()
    assert torch.isfinite(tied.grad).all()


def test_moving_all_values_moves_the_sorted_ones_and_no_share():
    x = rows(4, 6)
    values, shares = soft_sort(x)
    moved, same = soft_sort(x + 3)
    torch.testing.assert_close(moved, values + 3, rtol=0, atol=1e-12)
    torch.testing.assert_close(same, shares, rtol=0, atol=1e-12)


@pytest.mark.parametrize("w", [2, 3, 11, 12])
@pytest.mark.parametrize("steepness", [1.0, 30.0])
def test_it_equals_diffsort_in_value_and_gradient(w, steepness):
    diffsort = pytest.importorskip("diffsort")
    x = rows(7, w).requires_grad_()
    weight = torch.randn(7, w, w, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got = []
    for values, shares in (soft_sort(x, steepness=steepness), diffsort.DiffSortNet("odd_even", w, steepness=steepness)(x)):
        gradient, = torch.autograd.grad((shares * weight).sum() + values.square().sum(), x)
        got.append((values, shares, gradient))
    for ours, theirs in zip(*got, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("x", "options", "message"), [
    (torch.zeros(3), {}, "x must have shape"),
    (torch.zeros(2, 1), {}, "w at least 2"),
    (torch.full((2, 3), torch.nan), {}, "x holds NaN"),
    (torch.zeros(2, 3), {"steepness": 0}, "steepness must be a positive number"),
    (torch.zeros(2, 3), {"art": 1.0}, r"art must be in \[0, 1.0\)"),
])
def test_wrong_input_is_named(x, options, message):
    with pytest.raises(InputError, match=message):
        soft_sort(x, **options)
