"""How text is drawn from a causal language model: greedy, beam, sampling, contrastive search.

All decoders take a `cl_lib.encoders.causal.Causal` model and prompts (n, l) of one length, and return (n, l + tokens).
"""
import torch
import torch.nn.functional as F

from cl_lib import checks
from cl_lib.encoders.causal import Causal
from cl_lib.errors import InputError


@torch.no_grad()
def greedy(model: Causal, prompts: torch.Tensor, tokens: int) -> torch.Tensor:
    """The likeliest token, each time."""
    return _stepwise(model, prompts, tokens, lambda logits: logits.argmax(1))


@torch.no_grad()
def sample(model: Causal, prompts: torch.Tensor, tokens: int, g: torch.Generator, *, temperature: float = 1.0, top_k: int | None = None,
           top_p: float | None = None) -> torch.Tensor:
    """Draw each token from the softmax, cut to the `top_k` likeliest or to the fewest that hold `top_p` of it (nucleus).

    Source: top-k 1805.04833, nucleus 1904.09751. Raises: InputError for a temperature, top_k or top_p out of range.
    """
    checks.positive("temperature", temperature)
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k must be at least 1, not {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise InputError(f"top_p must be in (0, 1], not {top_p}")

    def draw(logits):
        p, order = (logits / temperature).softmax(1).sort(1, descending=True)
        if top_k is not None:
            p[:, top_k:] = 0
        if top_p is not None:
            p[p.cumsum(1) - p >= top_p] = 0
        return order.gather(1, torch.multinomial(p, 1, generator=g))[:, 0]

    return _stepwise(model, prompts, tokens, draw)


@torch.no_grad()
def beam(model: Causal, prompts: torch.Tensor, tokens: int, *, width: int = 4) -> torch.Tensor:
    """The likeliest sequence that a search with `width` hypotheses finds; all have the same length, so none is favoured for being short."""
    if width < 1:
        raise InputError(f"width must be at least 1, not {width}")
    n, ids, score = len(prompts), prompts, torch.zeros(len(prompts), 1)
    read = model.read(prompts)
    for _ in range(tokens):
        total = score[..., None] + read.logits[:, -1].log_softmax(1).view(n, score.shape[1], -1)
        score, best = total.flatten(1).topk(min(width, total[0].numel()), 1)
        rows = (best // total.shape[2] + total.shape[1] * torch.arange(n)[:, None]).flatten()
        ids = torch.cat([ids[rows], (best % total.shape[2]).view(-1, 1)], 1)
        read.cache.batch_select_indices(rows)
        read = model.read(ids[:, -1:], read.cache)
    return ids.view(n, score.shape[1], -1)[torch.arange(n), score.argmax(1)]


@torch.no_grad()
def contrastive_search(model: Causal, prompts: torch.Tensor, tokens: int, *, k: int = 4, alpha: float = 0.6) -> torch.Tensor:
    r"""Of the k likeliest tokens, the one that is likely and whose state is unlike all states so far.

    x_t = argmax_{v in top-k} (1 - alpha) p(v | x_<t) - alpha max_{j<t} cos(h_v, h_j), p the softmax over the whole vocabulary.
    Reduces to: greedy, for alpha = 0 or k = 1. Source: 2202.06417 Eq. 5. Cost: k + 1 times greedy's forward passes, in batches of n k.
    Raises: InputError for k below 1 or alpha outside [0, 1].
    """
    if k < 1 or not 0 <= alpha <= 1:
        raise InputError(f"k must be at least 1 and alpha in [0, 1], not {k} and {alpha}")
    n, ids = len(prompts), prompts
    read = model.read(prompts)
    p, cache, past = read.logits[:, -1].softmax(1), read.cache, F.normalize(read.states, dim=2)
    for _ in range(tokens):
        likely, candidates = p.topk(k, 1)
        cache.batch_repeat_interleave(k)
        read = model.read(candidates.view(-1, 1), cache)
        states = F.normalize(read.states[:, -1], dim=1).view(n, k, -1)
        alike = (states @ past.transpose(1, 2)).amax(2)
        best = ((1 - alpha) * likely - alpha * alike).argmax(1)
        here = torch.arange(n)
        ids = torch.cat([ids, candidates[here, best, None]], 1)
        past = torch.cat([past, states[here, best, None]], 1)
        cache = read.cache
        cache.batch_select_indices(here * k + best)
        p = read.logits[:, -1].view(n, k, -1)[here, best].softmax(1)
    return ids


def _stepwise(model: Causal, prompts: torch.Tensor, tokens: int, choose) -> torch.Tensor:
    ids, read = prompts, model.read(prompts)
    for _ in range(tokens):
        token = choose(read.logits[:, -1])[:, None]
        ids = torch.cat([ids, token], 1)
        read = model.read(token, read.cache)
    return ids


def draw(p: torch.Tensor, g: torch.Generator, *, top_p: float = 1.0) -> torch.Tensor:
    """One token of each distribution, from the fewest likeliest that hold `top_p` of it: p (n, v), rows sum to 1 -> (n,) int64.

    One uniform number of `g` a row decides, so rows of two runs with the same generator draw alike where their distributions are alike.
    Source: nucleus 1904.09751. Raises: InputError for a top_p out of range.
    """
    if not 0 < top_p <= 1:
        raise InputError(f"top_p must be in (0, 1], not {top_p}")
    p, order = p.sort(1, descending=True)
    total = p.cumsum(1)
    total = p.masked_fill(total - p >= top_p, 0).cumsum(1)
    at = torch.rand(len(p), 1, generator=g, dtype=p.dtype) * total[:, -1:]
    return order.gather(1, (total <= at).sum(1, keepdim=True))[:, 0]
