"""Losses towards a target that is not learnt: another network's output, sharpened, centred or balanced."""

import torch

from cl_lib import checks
from cl_lib.errors import InputError
from cl_lib.losses.contrastive import _prepare


def cosine_regression(p: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    r"""BYOL's and SimSiam's loss: a prediction should point where the target points.

    L = - mean_i cos(p_i, stopgrad z_i).
    Shapes: p, z (n, d) -> scalar in [-1, 1], mean over items.
    Reduces to: BYOL's |p - z|^2 of unit vectors is 2 + 2 L.
    Source: 2011.10566 Eq. 1 and 3; 2006.07733 Eq. 2. Cost: O(n d).
    Note: no gradient reaches z. Both papers add the loss with the views exchanged: SimSiam takes the mean of the two.
    """
    checks.embeddings("p", p)
    checks.embeddings("z", z, like=("p", p))
    p, z = _prepare(True, p, z.detach())
    return -(p * z).sum(1).mean()


def sharpened_cross_entropy(student: torch.Tensor, teacher: torch.Tensor, *, tau_s: float = 0.1, tau_t: float = 0.04,
                            center: torch.Tensor | float = 0.0) -> torch.Tensor:
    r"""DINO's loss: the student's distribution should match the teacher's, which is centred and made sharp.

    L = - mean_i sum_c softmax((stopgrad t_i - center) / tau_t)_c log softmax(s_i / tau_s)_c.
    Shapes: student, teacher (n, d) scores, center (d,) or a number -> scalar, mean over items.
    Source: 2104.14294 Eq. 1 and 2, Algorithm 1. Cost: O(n d).
    Note: one pair of views; DINO takes the mean over all pairs of a teacher's and another student's view. No gradient
    reaches the teacher. It can collapse without a center, the running mean of the teacher's scores:
    `center.lerp_(teacher.mean(0), 0.1)` after each step.
    """
    checks.embeddings("student", student)
    checks.embeddings("teacher", teacher, like=("student", student))
    checks.positive("tau_s", tau_s)
    checks.positive("tau_t", tau_t)
    if isinstance(center, torch.Tensor) and center.shape not in ((), student.shape[1:]):
        raise InputError(f"center must be a number or have shape ({student.shape[1]},), not {tuple(center.shape)}")
    (teacher,) = _prepare(False, teacher.detach())
    return _cross_entropy(student, torch.softmax((teacher - center) / tau_t, 1), tau_s)


@torch.no_grad()
def sinkhorn(scores: torch.Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> torch.Tensor:
    r"""SwAV's codes: soft assignments that use all prototypes about equally.

    q = exp(scores / epsilon), its columns and then its rows scaled to equal sums, `iterations` times; rows sum to 1.
    Shapes: scores (n, c) of n items with c prototypes -> (n, c), without gradient.
    Source: 2006.09882 Eq. 3 and Appendix A. Cost: O(n c) an iteration; in logarithms, so any epsilon is safe.
    Note: with many iterations columns sum to n / c; after a few they do so roughly, which is what SwAV uses.
    """
    checks.embeddings("scores", scores)
    checks.positive("epsilon", epsilon)
    if iterations < 1:
        raise InputError(f"iterations must be at least 1, not {iterations}")
    (scores,) = _prepare(False, scores)
    log_q = scores / epsilon
    for _ in range(iterations):
        log_q = torch.log_softmax(torch.log_softmax(log_q, 0), 1)
    return log_q.exp()


def sinkhorn_cross_entropy(s1: torch.Tensor, s2: torch.Tensor, *, tau: float = 0.1, epsilon: float = 0.05,
                           iterations: int = 3, queue1: torch.Tensor | None = None,
                           queue2: torch.Tensor | None = None) -> torch.Tensor:
    r"""SwAV's swapped prediction: each view predicts the balanced code of the other.

    L = 1/2 [ - mean_i q2_i . log softmax(s1_i / tau) - mean_i q1_i . log softmax(s2_i / tau) ], q = `sinkhorn`(s).
    Shapes: s1, s2 (n, c) scores with c prototypes; queue1, queue2 (m, c) older scores, balanced together with s1, s2
    and then left out -> scalar, mean over items and the two directions.
    Source: 2006.09882 Eq. 1 and 2. Cost: O((n + m) c iterations).
    Note: codes carry no gradient; scores are dot products of unit embeddings with unit prototypes.
    """
    checks.embeddings("s1", s1)
    checks.embeddings("s2", s2, like=("s1", s1))
    checks.positive("tau", tau)
    codes = []
    for s, name, queue in ((s1, "queue1", queue1), (s2, "queue2", queue2)):
        if queue is not None:
            checks.embeddings(name, queue)
            if queue.shape[1] != s.shape[1]:
                raise InputError(f"{name} has {queue.shape[1]} prototypes, s1 and s2 {s.shape[1]}")
        both = s if queue is None else torch.cat([s, queue.to(s.dtype)])
        codes.append(sinkhorn(both, epsilon=epsilon, iterations=iterations)[:len(s)])
    return (_cross_entropy(s1, codes[1], tau) + _cross_entropy(s2, codes[0], tau)) / 2


def _cross_entropy(scores: torch.Tensor, target: torch.Tensor, tau: float) -> torch.Tensor:
    (scores,) = _prepare(False, scores)
    return -(target * torch.log_softmax(scores / tau, 1)).sum(1).mean()
