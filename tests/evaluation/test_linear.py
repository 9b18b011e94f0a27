import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from cl_lib.errors import InputError
from cl_lib.evaluation import fit_linear, linear_probe, ridge_probe


def data(n, seed, d=6, classes=3, noise=1.5):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (n,), generator=g)
    h = torch.nn.functional.one_hot(y, d) + noise * torch.randn(n, d, generator=g, dtype=torch.float64)
    return h * torch.logspace(-3, 3, d, dtype=torch.float64), y * 10 - 7


def test_is_the_minimum_of_the_regularised_loss():
    (h, y), (test_h, test_y), C = data(200, 0), data(100, 1), 0.1
    x = (h - h.mean(0)) / h.std(0, correction=0)
    labels, target = y.unique(return_inverse=True)

    def objective(w):
        w = torch.tensor(w, requires_grad=True)
        weight, bias = w[:18].view(3, 6), w[18:]
        loss = C * torch.nn.functional.cross_entropy(x @ weight.T + bias, target, reduction="sum") + weight.square().sum() / 2
        loss.backward()
        return loss.item(), w.grad.numpy()

    best = torch.tensor(minimize(objective, np.zeros(21), jac=True, tol=1e-12).x)
    probe = fit_linear(h, y, C=C)
    assert np.abs(probe[-1].coef_ - best[:18].view(3, 6).numpy()).max() < 1e-3
    logits = (test_h - h.mean(0)) / h.std(0, correction=0) @ best[:18].view(3, 6).T + best[18:]
    expected = (labels[logits.argmax(1)] == test_y).double().mean().item()
    assert linear_probe(h, y, test_h, test_y, C=C) == pytest.approx(expected, abs=1e-12)


def test_validation_chooses_c_and_the_test_part_does_not():
    # few items, many useless dimensions: strong regularisation is better
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (600,), generator=g)
    h = torch.randn(600, 40, generator=g) + y[:, None] * 0.3
    train, validation, test = (h[:60], y[:60]), (h[60:300], y[60:300]), (h[300:], y[300:])
    grid = (10.0, 1e-3, 0.1)
    scores = {c: linear_probe(*train, *validation, C=c) for c in grid}
    assert len(set(scores.values())) == 3
    best = max(scores, key=scores.get)
    assert best != 10.0
    assert fit_linear(*train, validation=validation, grid=grid)[-1].C == best
    assert linear_probe(*train, *test, validation=validation, grid=grid) == linear_probe(*train, *test, C=best)


def test_equal_validation_scores_take_the_smaller_c():
    h, y = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
    assert fit_linear(h, y, validation=(h, y), grid=(10.0, 0.1, 1.0))[-1].C == 0.1


def test_half_precision_features_and_labels_unknown_to_training():
    (h, y), (test_h, test_y) = data(200, 0, noise=0.5), data(100, 1, noise=0.5)
    known = linear_probe(h.half(), y, test_h.half(), test_y)
    assert known > 0.5
    test_y[:50] = 99
    assert linear_probe(h.half(), y, test_h.half(), test_y) <= 0.5


@pytest.mark.parametrize("change, message", [
    ({"C": 0}, "C must be"), ({"train_y": torch.zeros(20).long()}, "one class"), ({"test_h": torch.zeros(20, 5)}, "test_h has 5"),
    ({"validation": (torch.zeros(20, 5), torch.zeros(20).long())}, "validation_h has 5"), ({"test_y": torch.zeros(3).long()}, "test_y"),
    ({"validation": data(20, 2), "grid": ()}, "grid is empty"),
])
def test_bad_input(change, message):
    (h, y), (test_h, test_y) = data(20, 0), data(20, 1)
    with pytest.raises(InputError, match=message):
        linear_probe(**{"train_h": h, "train_y": y, "test_h": test_h, "test_y": test_y} | change)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_ridge_probe_is_least_squares_on_signs(classes):
    (h, y), (test_h, test_y), alpha = data(200, 0, classes=classes), data(100, 1, classes=classes), 5.0
    mean, std = h.mean(0), h.std(0, correction=0)
    x, labels = (h - mean) / std, y.unique()
    signs = 2.0 * (y[:, None] == labels).double() - 1
    weight = torch.linalg.solve(x.T @ x + alpha * torch.eye(6), x.T @ (signs - signs.mean(0)))
    scores = (test_h - mean) / std @ weight + signs.mean(0)
    expected = (labels[scores.argmax(1)] == test_y).double().mean().item()
    assert expected > 1 / classes and ridge_probe(h, y, test_h, test_y, alpha=alpha) == pytest.approx(expected, abs=1e-12)


def test_the_ridge_probe_shrinks_and_does_not_depend_on_units():
    (h, y), (test_h, test_y) = data(42, 0, d=40, classes=3, noise=0.7), data(400, 1, d=40, classes=3, noise=0.7)
    accuracies = {a: ridge_probe(h, y, test_h, test_y, alpha=a) for a in (1e-6, 30.0)}
    assert accuracies[30.0] > accuracies[1e-6]
    assert ridge_probe(h * 7 + 3, y, test_h * 7 + 3, test_y, alpha=30.0) == accuracies[30.0]


@pytest.mark.parametrize("change, message", [
    ({"alpha": 0}, "alpha must be"), ({"train_y": torch.zeros(20).long()}, "one class"), ({"test_h": torch.zeros(20, 5)}, "test_h has 5"),
    ({"test_y": torch.zeros(3).long()}, "test_y"),
])
def test_the_ridge_probe_names_bad_input(change, message):
    (h, y), (test_h, test_y) = data(20, 0), data(20, 1)
    with pytest.raises(InputError, match=message):
        ridge_probe(**{"train_h": h, "train_y": y, "test_h": test_h, "test_y": test_y} | change)
