import itertools
import math
from collections import Counter

import pytest
import torch

from cl_lib.errors import InputError
from cl_lib.views import text as views

PAD = 99


def batch(n=400, longest=17, seed=0, special=True):
    """Rows whose ids are 1, 2, ... in order, so that an id tells where it came from; the ends are protected."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (n,), generator=g)
    lengths[:6] = torch.tensor([1, 2, 3, 4, 5, longest])
    at = torch.arange(longest + 2).expand(n, -1)  # wider than the longest sequence
    ids = torch.where(at < lengths[:, None], at + 1, PAD)
    keep = ((at == 0) | (at == lengths[:, None] - 1)) if special else None
    return ids, lengths, keep


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(ids, lengths):
    for row, length in zip(ids.tolist(), lengths.tolist(), strict=True):
        assert all(i == PAD for i in row[length:]) and PAD not in row[:length]
    return [row[:length] for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)]


def within(successes, trials, p):
    """Whether a count is within five standard deviations of its mean."""
    return abs(successes - trials * p) < 5 * math.sqrt(trials * p * (1 - p))


# the operations that are plans, at ordinary settings
OPERATIONS = {
    "token_deletion": (views.deletion_plan, {"p": 0.4}),
    "span_deletion": (views.span_deletion_plan, {"share": 0.3, "spans": 2}),
    "reorder": (views.reorder_plan, {"share": 0.2, "pairs": 2}), "shuffle": (views.shuffle_plan, {}),
    "repetition": (views.repetition_plan, {"rate": 0.4})}


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_view_is_its_plan_in_a_loop(name, special):
    plan, settings = OPERATIONS[name]
    ids, lengths, keep = batch(special=special)
    x = torch.randn(*ids.shape, 3, generator=gen(5))
    out, new = getattr(views, name)(ids, lengths, gen(1), keep=keep, pad=PAD, **settings)
    index, planned = plan(lengths, gen(1), keep=keep, **settings)
    features = views.take(x, index, planned)
    assert planned.equal(new) and new.min() >= 1 and out.shape == (len(ids), new.max())
    for i, row in enumerate(rows(out, new)):
        assert row == [int(ids[i, j]) for j in index[i, :new[i]]]
        assert features[i, :new[i]].equal(torch.stack([x[i, j] for j in index[i, :new[i]]]))
        assert not features[i, new[i]:].any()


@pytest.mark.parametrize("name", OPERATIONS)
def test_seeds_decide_and_nothing_else_changes(name):
    settings, (ids, lengths, keep) = OPERATIONS[name][1], batch()
    state, before = torch.get_rng_state(), (ids.clone(), lengths.clone())
    view = getattr(views, name)
    first, second, third = (view(ids, lengths, gen(s), keep=keep, **settings) for s in (1, 1, 2))
    assert first[0].equal(second[0]) and first[1].equal(second[1]) and not (
        first[0].shape == third[0].shape and first[0].equal(third[0]))
    assert torch.get_rng_state().equal(state) and ids.equal(before[0]) and lengths.equal(before[1])
    # two equal sequences have views of their own
    twins = view(ids[5:6].repeat(50, 1), lengths[5:6].repeat(50), gen(), pad=PAD, **settings)
    assert len(set(map(tuple, rows(*twins)))) > 10


@pytest.mark.parametrize("name", ["token_deletion", "span_deletion", "repetition"])
def test_order_is_kept_and_protected_tokens_are_there_once(name):
    ids, lengths, keep = batch()
    out = rows(*getattr(views, name)(ids, lengths, gen(3), keep=keep, pad=PAD, **OPERATIONS[name][1]))
    for row, length in zip(out, lengths.tolist(), strict=True):
        assert row == sorted(row) and row.count(1) == 1 and row.count(length) == 1


@pytest.mark.parametrize("name", ["reorder", "shuffle"])
def test_the_same_tokens_and_protected_ones_in_their_place(name):
    ids, lengths, keep = batch()
    out, new = getattr(views, name)(ids, lengths, gen(4), keep=keep, pad=PAD, **OPERATIONS[name][1])
    assert new.equal(lengths) and out[keep[:, :out.shape[1]]].equal(ids[keep])
    for row, length in zip(rows(out, new), lengths.tolist(), strict=True):
        assert sorted(row) == list(range(1, length + 1))


def test_token_deletion_rate_and_the_one_that_is_left():
    ids, lengths = torch.arange(30).repeat(300, 1), torch.full((300,), 30)
    _, new = views.token_deletion(ids, lengths, gen(), p=0.3)
    assert within(9000 - int(new.sum()), 9000, 0.3)
    # p near 1: one stays, drawn evenly
    out, new = views.token_deletion(ids[:, :4].repeat(10, 1), torch.full((3000,), 4), gen(), p=0.999999)
    assert new.tolist() == [1] * 3000 and all(within(int((out == i).sum()), 3000, 1 / 4) for i in range(4))
    assert views.token_deletion(ids, lengths, gen(), p=0)[0].equal(ids)


@pytest.mark.parametrize("length, share", [(20, 0.25), (20, 0.05), (25, 0.32), (7, 0.1), (3, 0.9)])
def test_one_deleted_span_is_a_run_of_the_right_length_anywhere(length, share):
    ids = torch.arange(length).repeat(2000, 1)
    width = max(1, int(share * length))
    starts = Counter()
    for row in rows(*views.span_deletion(ids, torch.full((2000,), length), gen(), share=share, pad=PAD)):
        gone = sorted(set(range(length)) - set(row))
        assert gone == list(range(gone[0], gone[0] + width))
        starts[gone[0]] += 1
    places = length - width + 1
    assert len(starts) == places and all(within(c, 2000, 1 / places) for c in starts.values())
    assert views.span_deletion(ids, torch.full((2000,), length), gen(), share=0)[0].equal(ids)


def test_spans_that_cover_everything_leave_one():
    ids = torch.arange(4).repeat(2000, 1)
    _, new = views.span_deletion(ids, torch.full((2000,), 4), gen(), share=0.75, spans=6)
    assert set(new.tolist()) == {1}
    assert views.span_deletion(ids[:, :1], torch.ones(2000).long(), gen(), share=0.5)[0].equal(ids[:, :1])


@pytest.mark.parametrize("length, share, pairs", [(6, 0.4, 1), (7, 0.1, 1), (8, 0.25, 2), (5, 0.9, 1), (3, 0.5, 4)])
def test_reorder_gives_every_swap_of_disjoint_runs_equally_often(length, share, pairs):
    pairs_here = min(pairs, length // 2)
    width = min(max(1, int(share * length)), length // (2 * pairs_here))
    ways = Counter()
    for chosen in itertools.permutations(range(length - width + 1), 2 * pairs_here):
        if all(abs(a - b) >= width for a, b in itertools.combinations(chosen, 2)):
            row = list(range(length))
            for a, b in zip(chosen[::2], chosen[1::2], strict=True):
                row[a:a + width], row[b:b + width] = row[b:b + width], row[a:a + width]
            ways[tuple(row)] += 1
    n, total = 20_000, sum(ways.values())
    out, _ = views.reorder(torch.arange(length).repeat(n, 1), torch.full((n,), length), gen(), share=share, pairs=pairs)
    seen = Counter(map(tuple, out.tolist()))
    assert seen.keys() == ways.keys()
    assert all(within(seen[w], n, ways[w] / total) for w in ways if ways[w] < total)


def test_shuffle_gives_every_order_equally_often():
    n = 12_000
    out, _ = views.shuffle(torch.arange(4).repeat(n, 1), torch.full((n,), 4), gen())
    seen = Counter(map(tuple, out.tolist()))
    assert len(seen) == 24 and all(within(c, n, 1 / 24) for c in seen.values())


@pytest.mark.parametrize("length, rate", [(25, 0.32), (10, 0.5), (6, 0.1), (2, 0.9), (1, 0.5)])
def test_repetition_doubles_as_many_as_the_paper_says(length, rate):
    n, most = 6000, max(2, int(rate * length))
    lengths, doubled = Counter(), Counter()
    ids = torch.arange(length).repeat(n, 1)
    for row in rows(*views.repetition(ids, torch.full((n,), length), gen(), rate=rate, pad=PAD)):
        counts = Counter(row)
        assert set(counts) == set(range(length)) and set(counts.values()) <= {1, 2}
        lengths[len(row) - length] += 1
        doubled.update(i for i in counts if counts[i] == 2)
    expected = Counter(min(k, length) for k in range(most + 1))
    assert lengths.keys() == expected.keys()
    assert all(within(lengths[k], n, c / (most + 1)) for k, c in expected.items())
    mean = sum(k * c for k, c in expected.items()) / (most + 1) / length
    assert all(within(doubled[i], n, mean) for i in range(length))


def test_shares_are_of_tokens_that_are_not_protected():
    ids, lengths = torch.arange(12).repeat(500, 1), torch.full((500,), 12)
    keep = torch.zeros(500, 12, dtype=torch.bool)
    keep[:, [0, 5, 11]] = True  # nine are free, and a run passes over the fifth
    out, new = views.span_deletion(ids, lengths, gen(), share=0.34, keep=keep, pad=PAD)
    assert set(new.tolist()) == {12 - 3} and any({4, 6}.isdisjoint(row) and 5 in row for row in rows(out, new))
    _, new = views.repetition(ids, lengths, gen(), rate=0.34, keep=keep)
    seen = Counter(new.tolist())
    assert seen.keys() == {12, 13, 14, 15} and all(within(c, 500, 1 / 4) for c in seen.values())
    everything = torch.ones_like(keep)
    for name, (_, settings) in OPERATIONS.items():
        assert getattr(views, name)(ids, lengths, gen(), keep=everything, **settings)[0].equal(ids)


def test_substitution_draws_evenly_from_what_there_is():
    table = torch.tensor([[-1, -1, -1], [7, -1, 8], [-1, 9, -1], [4, 5, 6]])
    ids = torch.arange(4).repeat(5000, 3)
    lengths, keep = torch.full((5000,), 10), torch.zeros(5000, 12, dtype=torch.bool)
    keep[:, 1] = True
    out, new = views.substitution(ids, lengths, gen(), p=0.6, table=table, keep=keep)
    assert new.equal(lengths) and out[:, 10:].equal(ids[:, 10:]) and out[:, 1].equal(ids[:, 1])
    assert (out[:, [0, 4, 8]] == 0).all()  # no candidates
    for column, shares in ((5, {1: 0.4, 7: 0.3, 8: 0.3}), (2, {2: 0.4, 9: 0.6}), (3, {3: 0.4, 4: 0.2, 5: 0.2, 6: 0.2})):
        seen = Counter(out[:, column].tolist())
        assert seen.keys() == shares.keys() and all(within(seen[i], 5000, share) for i, share in shares.items())
    assert out.equal(views.substitution(ids, lengths, gen(), p=0.6, table=table, keep=keep)[0])
    assert (out[:, 5] != out[:, 9]).any()  # places of a sequence are drawn apart


def test_substitution_does_not_look_at_padding():
    ids = torch.tensor([[1, 0, -100], [0, 1, 1]])
    out, _ = views.substitution(ids, torch.tensor([2, 3]), gen(), p=0.999999, table=torch.tensor([[1], [0]]))
    assert out.tolist() == [[0, 1, -100], [1, 0, 0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_views_are_independent_scaled_masks(dtype):
    x, state = torch.randn(40, 25, 20, generator=gen(7)).to(dtype), torch.get_rng_state()
    v1, v2 = views.dropout_views(x, gen(1), p=0.3)
    gone1, gone2 = v1 == 0, v2 == 0
    assert v1.dtype == dtype and within(int(gone1.sum()), x.numel(), 0.3) and within(int(gone2.sum()), x.numel(), 0.3)
    assert within(int((gone1 & gone2).sum()), x.numel(), 0.09)
    torch.testing.assert_close(v1, torch.where(gone1, 0, x / 0.7).to(dtype))
    assert v1.equal(views.dropout_views(x, gen(1), p=0.3)[0]) and torch.get_rng_state().equal(state)
    assert all(v.equal(x) for v in views.dropout_views(x, gen(1), p=0.0))


@pytest.mark.parametrize("name, change, message", [
    ("token_deletion", {"p": 1.0}, "p must be in"), ("token_deletion", {"p": -0.1}, "p must be in"),
    ("span_deletion", {"share": 1}, "share must be"), ("span_deletion", {"spans": 0}, "spans must be a positive"),
    ("reorder", {"share": -1}, "share must be"), ("reorder", {"pairs": 1.5}, "pairs must be a positive integer"),
    ("repetition", {"rate": 2.0}, "rate must be"),
    ("shuffle", {"ids": torch.zeros(2, 3)}, "ids must be int64"),
    ("shuffle", {"ids": torch.zeros(3).long()}, "ids must be int64"),
    ("shuffle", {"lengths": torch.tensor([0, 2])}, "lengths must be int64"),
    ("shuffle", {"lengths": torch.ones(2)}, "lengths must be int64"),
    ("shuffle", {"lengths": torch.tensor([4, 2])}, "at most 3"), ("shuffle", {"lengths": torch.tensor([1])}, r"\(2,\)"),
    ("shuffle", {"ids": torch.zeros(0, 3).long(), "lengths": torch.zeros(0).long()}, "n >= 1"),
    ("shuffle", {"keep": torch.zeros(2, 3)}, "keep must be bool"),
    ("shuffle", {"keep": torch.zeros(2, 2, dtype=torch.bool)}, "keep must be bool"),
    ("substitution", {"table": torch.zeros(3)}, "table must be int64"),
    ("substitution", {"table": torch.zeros(2, 1).long()}, r"ids must lie in \[0, 2\)"),
    ("substitution", {"p": 1.5}, "p must be in"),
])
def test_bad_input(name, change, message):
    settings = OPERATIONS[name][1] if name in OPERATIONS else {"p": 0.5, "table": torch.zeros(9, 2).long()}
    good = {"ids": torch.tensor([[1, 2, 3], [4, 5, 0]]), "lengths": torch.tensor([3, 2]), "g": gen()}
    with pytest.raises(InputError, match=message):
        getattr(views, name)(**good | settings | change)


def test_dropout_needs_floats():
    with pytest.raises(InputError, match="x must be floating-point"):
        views.dropout_views(torch.ones(2, 3, 4).long(), gen())
