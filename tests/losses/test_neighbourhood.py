"""Losses on a graph against their definition as loops, their limits, and scikit-learn's and torch's own forms."""
import pytest
import torch
import torch.nn.functional as F

from cl_lib.errors import InputError
from cl_lib.losses.assignments import assignment_loss, soft_assignment, target_distribution
from cl_lib.losses.neighbourhood import log_positives, neighbour_contrast


def example(n=8, d=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(n, d, generator=g, dtype=torch.float64, requires_grad=True)
    a = torch.rand(n, n, generator=g, dtype=torch.float64) * (torch.rand(n, n, generator=g) < 0.5)
    a.fill_diagonal_(0.2)
    edges = torch.nonzero(a).T
    return z, a, edges, a[tuple(edges)]


def by_loops(z, a, tau):
    n, positives, losses = len(z), [], []
    for i in range(n):
        e = [torch.exp(F.cosine_similarity(z[i], z[j], dim=0) / tau) if i != j else torch.ones((), dtype=z.dtype) for j in range(n)]
        positives.append(torch.log(sum(a[i, j] * e[j] for j in range(n))))
        losses.append(torch.log(sum(e)) - positives[-1])
    return torch.stack(positives), torch.stack(losses).mean()


@pytest.mark.parametrize("tau", [0.05, 0.5, 4.0])
def test_both_equal_their_loops_and_gradients(tau):
    z, a, edges, weight = example()
    positives, loss = by_loops(z, a, tau)
    torch.testing.assert_close(log_positives(z, edges, weight, tau=tau), positives, rtol=0, atol=1e-11)
    for method in ("dense", "stream"):
        ours = neighbour_contrast(z, edges, weight, tau=tau, method=method)
        torch.testing.assert_close(ours, loss, rtol=0, atol=1e-11)
        torch.testing.assert_close(torch.autograd.grad(ours, z)[0], torch.autograd.grad(loss, z, retain_graph=True)[0], rtol=0, atol=1e-10)


def test_order_of_edges_scale_and_gradcheck():
    z, _, edges, weight = example()
    order = torch.randperm(len(weight), generator=torch.Generator().manual_seed(1))
    loss = neighbour_contrast(z, edges, weight, tau=0.5)
    torch.testing.assert_close(neighbour_contrast(z, edges[:, order], weight[order], tau=0.5), loss)
    torch.testing.assert_close(neighbour_contrast(3 * z, edges, weight, tau=0.5), loss)
    # weights c times as large take log c off
    torch.testing.assert_close(neighbour_contrast(z, edges, weight * 5, tau=0.5), loss - torch.log(torch.tensor(5.0, dtype=torch.float64)))
    assert torch.autograd.gradcheck(lambda v: neighbour_contrast(v, edges, weight, tau=0.5), z)
    assert neighbour_contrast(z.float(), edges, weight.float(), tau=0.01).isfinite()


def test_errors_name_what_is_wrong():
    z, _, edges, weight = example()
    with pytest.raises(InputError, match="node 3 has no edge"):
        keep = edges[0] != 3
        log_positives(z, edges[:, keep], weight[keep], tau=1.0)
    with pytest.raises(InputError, match="positive on every edge"):
        log_positives(z, edges, weight - weight, tau=1.0)
    with pytest.raises(InputError, match=r"\(2, m\)"):
        log_positives(z, edges, weight[1:], tau=1.0)
    with pytest.raises(InputError, match="tau"):
        neighbour_contrast(z, edges, weight, tau=0.0)


def test_assignments_targets_and_their_divergence():
    g = torch.Generator().manual_seed(0)
    z, centres = (torch.randn(n, 3, generator=g, dtype=torch.float64, requires_grad=True) for n in (9, 4))
    q = soft_assignment(z, centres)
    kernel = torch.tensor([[1 / (1 + sum((z[i, d] - centres[k, d]).item() ** 2 for d in range(3))) for k in range(4)] for i in range(9)])
    torch.testing.assert_close(q, (kernel / kernel.sum(1, keepdim=True)).double(), rtol=0, atol=1e-6)
    p = target_distribution(q)
    raw = torch.stack([torch.stack([q[i, k] ** 2 / q[:, k].sum() for k in range(4)]) for i in range(9)]).detach()
    torch.testing.assert_close(p, raw / raw.sum(1, keepdim=True))
    assert not p.requires_grad and torch.allclose(p.sum(1), torch.ones(9, dtype=torch.float64))
    torch.testing.assert_close(assignment_loss(q, p), F.kl_div(q.log(), p, reduction="batchmean"))
    assert assignment_loss(q, torch.eye(4, dtype=torch.float64)[q.argmax(1)]).isfinite()  # zeros in the target
    assert assignment_loss(p, p).abs() < 1e-15
    assert torch.autograd.gradcheck(lambda a, b: assignment_loss(soft_assignment(a, b), p), (z, centres))
    with pytest.raises(InputError, match="3 dimensions, centres 2"):
        soft_assignment(z, centres[:, :2])
