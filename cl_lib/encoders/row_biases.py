"""A `GPT` whose biases differ from row to row of a batch, and that reads embeddings: what tuning at inference needs."""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from cl_lib.encoders.language_models import GPT, Cache
from cl_lib.errors import InputError


def biased_parts(model: GPT, top: int) -> list[nn.Module]:
    """The linear maps and norms of the `top` upper layers and the last norm, each of which has a `bias`; none for top 0.

    Raises: InputError for a top outside 0..layers.
    """
    if not 0 <= top <= len(model.layers):
        raise InputError(f"top must be in 0..{len(model.layers)}, the model's layers, not {top}")
    parts = [m for layer in model.layers[len(model.layers) - top:] for m in layer.modules() if isinstance(m, nn.Linear | nn.LayerNorm)]
    return [*parts, model.norm] if top else []


@contextmanager
def shifted_biases(parts: Sequence[nn.Module], shifts: Sequence[torch.Tensor]) -> Iterator[None]:
    """Within, row i of a batch (n, l, d) is computed with the biases b + shift[i] of each part; the parameters b are never written to.

    Adding to a part's output is adding to its bias, so the gradient with respect to a shift is that with respect to a bias of the
    row's own, and no copy of a weight is made. Shapes: one shift (n, d) for each part, d the size of its bias.
    Reduces to: the plain model for shifts of 0, bit by bit (tested), and always afterwards. Cost: one addition for each part.
    Raises: InputError unless there is one shift for each part.
    """
    if len(parts) != len(shifts):
        raise InputError(f"{len(parts)} parts need as many shifts, not {len(shifts)}")
    hooks = [part.register_forward_hook(lambda part, _, out, s=s: out + s[:, None]) for part, s in zip(parts, shifts)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def advance(model: GPT, embedded: torch.Tensor, cache: Cache) -> tuple[torch.Tensor, Cache]:
    """Read one token more, given as an embedding, which may be a mixture of several tokens' -> its last state and a longer cache.

    The cache given stays as it was, and gradients pass. Shapes: embedded (n, d) without its position -> state (n, d) after the norm.
    Reduces to: `model.read` for the embedding of one token (tested). Raises: InputError when the model reads no further.
    """
    at = len(cache)
    if at >= model.longest:
        raise InputError(f"{at + 1} tokens; the model reads {model.longest} at most")
    ahead = Cache(len(model.layers))
    ahead.kept = list(cache.kept)
    h = (embedded + model.positions.weight[at])[:, None]
    for i, layer in enumerate(model.layers):
        h = layer(h, i, ahead)
    return model.norm(h)[:, 0], ahead
