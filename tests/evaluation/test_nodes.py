"""Splits of nodes, and linear probes averaged over them."""
import pytest
import torch
import torch.nn.functional as F

from cl_lib.errors import InputError
from cl_lib.evaluation.linear import GRID, linear_probe
from cl_lib.evaluation.nodes import node_accuracy, random_splits


def labels(n=300, classes=4, lost=20, seed=0):
    """Labels of which the first `lost` are missing; class 0 is the rarest."""
    y = torch.arange(n).sqrt().int().long() % classes
    y = y[torch.randperm(n, generator=torch.Generator().manual_seed(seed))]
    y[:lost] = -1
    return y


@pytest.mark.parametrize("choice", [{"per_class": 5}, {"share": 0.2}])
def test_parts_are_disjoint_and_hold_every_labelled_node(choice):
    y = labels()
    splits = random_splits(y, 4, seed=1, validation=0.15, **choice)
    assert len(splits) == 4
    for split in splits:
        together = torch.cat([split[p] for p in ("train", "validation", "test")])
        assert together.sort().values.equal(torch.nonzero(y >= 0)[:, 0])
        assert len(split["validation"]) == round(0.15 * 280)
        if "per_class" in choice:
            assert y[split["train"]].bincount().tolist() == [5] * 4
        else:
            assert len(split["train"]) == 56
    drawn = [tuple(s["train"].sort().values.tolist()) for s in splits]
    assert len(set(drawn)) == 4


def test_the_seed_decides_alone_and_more_splits_begin_with_the_same():
    y, state = labels(), torch.get_rng_state()
    torch.manual_seed(5)
    a, b, c = (random_splits(y, n, seed=s, per_class=3) for n, s in ((2, 1), (3, 1), (2, 2)))
    assert all(a[i][p].equal(b[i][p]) for i in range(2) for p in a[i]) and not a[0]["test"].equal(c[0]["test"])
    torch.set_rng_state(state)


def test_every_node_is_drawn_equally_often():
    y = labels(n=40, lost=0)
    counts = torch.zeros(40)
    for split in random_splits(y, 2000, seed=3, share=0.25):
        counts[split["train"]] += 1
    assert (counts - 500).abs().max() < 5 * (2000 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize(("settings", "message"), [
    ({}, "either per_class or share"), ({"per_class": 3, "share": 0.1}, "either per_class or share"),
    ({"per_class": 1000}, "class 0 has .* nodes, 1000 needed"), ({"share": 1.2}, "share must be in"),
    ({"share": 0.1, "validation": -1}, "validation must be in"), ({"share": 0.9, "validation": 0.5}, "nothing is left for test"),
    ({"share": 0.0}, "nothing is left for train"), ({"share": 0.1, "validation": 0.0}, "nothing is left for validation"),
])
def test_bad_splits_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        random_splits(labels(), 1, seed=0, **settings)


def test_labels_must_be_whole_numbers():
    with pytest.raises(InputError, match="y must be an integer tensor"):
        random_splits(torch.rand(9), 1, seed=0, share=0.5)


def features(noise=0.9, seed=0):
    y = labels()
    g = torch.Generator().manual_seed(seed)
    return F.one_hot(y.clamp(min=0), 4).float() @ torch.randn(4, 16, generator=g) + noise * torch.randn(300, 16, generator=g), y


def test_accuracy_is_the_mean_of_probes_on_unit_norm_rows():
    h, y = features()
    splits = random_splits(y, 3, seed=0, per_class=5)
    for part in ("test", "validation"):
        unit = h / h.norm(dim=1, keepdim=True)
        expected = []
        for s in splits:
            best = max(sorted(GRID), key=lambda c, s=s: linear_probe(unit[s["train"]], y[s["train"]], unit[s["validation"]],
                                                                     y[s["validation"]], C=c))
            expected.append(linear_probe(unit[s["train"]], y[s["train"]], unit[s[part]], y[s[part]], C=best))
        assert node_accuracy(h, y, splits, part=part) == pytest.approx(sum(expected) / 3, abs=1e-12)


def test_length_does_not_count_and_zero_rows_are_allowed():
    h, y = features()
    splits = random_splits(y, 2, seed=0, per_class=5)
    scale = torch.rand(300, 1, generator=torch.Generator().manual_seed(1)) + 0.5
    assert node_accuracy(h * scale, y, splits) == pytest.approx(node_accuracy(h, y, splits), abs=0.005)
    h[50:60] = 0
    assert 0.25 < node_accuracy(h.requires_grad_(), y, splits) < 1


def test_labels_that_mean_nothing_are_not_found():
    h, y = features()
    g = torch.Generator().manual_seed(2)
    known = y >= 0
    y[known] = y[known][torch.randperm(int(known.sum()), generator=g)]
    assert node_accuracy(h, y, random_splits(y, 5, seed=0, per_class=10)) < 0.45


def test_no_splits():
    with pytest.raises(InputError, match="splits is empty"):
        node_accuracy(*features(), [])
