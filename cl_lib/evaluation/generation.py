"""What generated text is like: repetition, diversity, how surprising another model finds it, how alike token states are."""
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from cl_lib.encoders.causal import Causal
from cl_lib.errors import InputError


def rep_n(ids: Sequence[int], n: int) -> float:
    """100 (1 - different n-grams / all n-grams) of one sequence; 0 where it has none. Source: 1908.04319, as in 2202.06417."""
    grams = [tuple(ids[i:i + n]) for i in range(len(ids) - n + 1)]
    return 100 * (1 - len(set(grams)) / len(grams)) if grams else 0.0


def diversity(ids: Sequence[int]) -> float:
    """The product over n = 2, 3, 4 of 1 - rep-n / 100: 1 without any repetition, near 0 in a loop. Source: 2202.06417."""
    return math.prod(1 - rep_n(ids, n) / 100 for n in (2, 3, 4))


def isotropy(states: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """1 - the mean cosine of two different tokens of one text, over all such pairs of all texts: 0 when all states are alike.

    Shapes: states (n, l, d), mask (n, l) true where a token stands. Source: 2210.14140 section 3 (its micro average).
    Raises: InputError when no text has two tokens.
    """
    z = F.normalize(states.double(), dim=2)
    mask = torch.ones(z.shape[:2], dtype=torch.bool, device=z.device) if mask is None else mask
    z = z * mask[..., None]
    length = mask.sum(1).double()
    pairs = (length * (length - 1)).sum()
    if pairs == 0:
        raise InputError("no text has two tokens")
    return 1 - ((z.sum(1).square().sum(1) - length).sum() / pairs).item()


@torch.no_grad()
def surprise(model: Causal, ids: torch.Tensor, start: int) -> torch.Tensor:
    """Mean negative log-likelihood in nats a token that `model` gives to ids[:, start:] after what stands before, (n,).

    exp of a mean of it is a perplexity; its negative, under another model than the one that wrote, is 2202.06417's coherence.
    Raises: InputError for a start outside [1, l).
    """
    if not 1 <= start < ids.shape[1]:
        raise InputError(f"start must be in [1, {ids.shape[1]}), not {start}")
    logits = model.read(ids).logits[:, start - 1:-1]
    return F.cross_entropy(logits.transpose(1, 2), ids[:, start:], reduction="none").mean(1)
