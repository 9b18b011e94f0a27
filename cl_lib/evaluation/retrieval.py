"""Ranking metrics: does a query find what is relevant to it, and how high in the list?

The single metrics take similarities s (q, m) and relevance (q, m): bool, or grades >= 0 of which all above 0 count as
relevant. Each is a mean over the queries that have something relevant; the others have no value and are left out.
Equal similarities keep the candidates' order.
"""
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from cl_lib import checks
from cl_lib.errors import InputError

# Similarities ranked at once.
CHUNK = 2 ** 22


def hit_rate(s: torch.Tensor, relevance: torch.Tensor, *, k: int) -> float:
    """The share of queries with something relevant among their first k: "recall@k" of metric learning and image-text."""
    return _mean(_hit, s, relevance, k)


def recall_at_k(s: torch.Tensor, relevance: torch.Tensor, *, k: int) -> float:
    """The share of a query's relevant candidates that stand among its first k: recall of information retrieval."""
    return _mean(_recall, s, relevance, k)


def precision_at_k(s: torch.Tensor, relevance: torch.Tensor, *, k: int) -> float:
    """The share of the first k that is relevant."""
    return _mean(_precision, s, relevance, k)


def mean_average_precision(s: torch.Tensor, relevance: torch.Tensor, *, k: int | None = None) -> float:
    """Mean over a query's relevant candidates of the precision at their ranks; ranks below k add nothing."""
    return _mean(_average_precision, s, relevance, k)


def mean_reciprocal_rank(s: torch.Tensor, relevance: torch.Tensor, *, k: int | None = None) -> float:
    """One over the rank of the first relevant candidate; 0 if that stands below k."""
    return _mean(_reciprocal_rank, s, relevance, k)


def ndcg(s: torch.Tensor, relevance: torch.Tensor, *, k: int | None = None) -> float:
    """Sum of grade / log2(rank + 1) over the first k, as a share of what the best order reaches."""
    return _mean(_ndcg, s, relevance, k)


@torch.no_grad()
def retrieval_metrics(queries: torch.Tensor, gallery: torch.Tensor,
                      relevance: torch.Tensor | tuple[torch.Tensor, torch.Tensor], *, ks: Sequence[int] = (1, 5, 10),
                      skip_self: bool = False) -> dict[str, float]:
    """All ranking metrics of cosine retrieval at once: hit@k, recall@k, precision@k, ndcg@k for each k, map and mrr.

    Shapes: queries (q, d), gallery (m, d), relevance (q, m), or labels (query_y (q,), gallery_y (m,)): equal is relevant.
    `skip_self` leaves candidate i out for query i, where the gallery is the queries. Queries without anything relevant
    are left out of the means. Raises: InputError for shapes that do not agree, k outside 1..m, nothing relevant at all.
    Cost: O(q m (d + log m)) time; similarities in chunks of queries.
    """
    checks.embeddings("queries", queries)
    checks.embeddings("gallery", gallery)
    q, m = len(queries), len(gallery)
    if queries.shape[1] != gallery.shape[1]:
        raise InputError(f"gallery has {gallery.shape[1]} dimensions, queries {queries.shape[1]}; they must agree")
    if skip_self and q != m:
        raise InputError(f"skip_self needs the gallery to be the queries; there are {m} and {q} rows")
    labelled = isinstance(relevance, tuple)
    if labelled:
        checks.labels("query_y", relevance[0], q)
        checks.labels("gallery_y", relevance[1], m)
    elif relevance.shape != (q, m):
        raise InputError(f"relevance must have shape ({q}, {m}) or be two label tensors, not {tuple(relevance.shape)}")
    for k in ks:
        _check_k(k, m - skip_self)
    dtype = torch.promote_types(queries.dtype, torch.float32)
    queries, gallery = F.normalize(queries.to(dtype), dim=1), F.normalize(gallery.to(dtype), dim=1)
    sums, used = {}, 0
    for rows in torch.arange(q, device=queries.device).split(max(1, CHUNK // m)):
        s = queries[rows] @ gallery.T
        gains = relevance[0][rows, None] == relevance[1] if labelled else relevance[rows]
        if skip_self:
            others = torch.arange(m, device=rows.device) != rows[:, None]
            s, gains = s[others].view(len(rows), m - 1), gains[others].view(len(rows), m - 1)
        ranked = _rank(s, gains)
        used += len(ranked)
        per_query = {f"{name}@{k}": metric(ranked, k) for name, metric in _AT_K.items() for k in ks}
        per_query |= {"map": _average_precision(ranked, None), "mrr": _reciprocal_rank(ranked, None)}
        for name, values in per_query.items():
            sums[name] = sums.get(name, 0.0) + values.sum().item()
    if not used:
        raise InputError("relevance: no query has anything relevant")
    return {name: value / used for name, value in sums.items()}


def _mean(metric: Callable, s: torch.Tensor, relevance: torch.Tensor, k: int | None) -> float:
    if s.ndim != 2 or 0 in s.shape or s.shape != relevance.shape:
        raise InputError(f"s and relevance must both have shape (q, m), not {tuple(s.shape)} and {tuple(relevance.shape)}")
    if not torch.isfinite(s).all():
        raise InputError("s holds NaN or Inf")
    if k is not None:
        _check_k(k, s.shape[1])
    ranked = _rank(s, relevance)
    if not len(ranked):
        raise InputError("relevance: no query has anything relevant")
    return metric(ranked, k).mean().item()


def _check_k(k: int, m: int) -> None:
    if not 1 <= k <= m:
        raise InputError(f"k must be between 1 and {m}, the number of candidates, not {k}")


def _rank(s: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """Each query's grades in the order of falling similarity, (q, m) in float64; queries without a grade are dropped."""
    if (relevance < 0).any():
        raise InputError("relevance must not be negative")
    some = (relevance > 0).any(1)
    order = s[some].argsort(dim=1, descending=True, stable=True)
    return relevance[some].gather(1, order).double()


def _hit(gains: torch.Tensor, k: int) -> torch.Tensor:
    return (gains[:, :k] > 0).any(1).double()


def _recall(gains: torch.Tensor, k: int) -> torch.Tensor:
    return (gains[:, :k] > 0).sum(1).double() / (gains > 0).sum(1)


def _precision(gains: torch.Tensor, k: int) -> torch.Tensor:
    return (gains[:, :k] > 0).double().mean(1)


def _average_precision(gains: torch.Tensor, k: int | None) -> torch.Tensor:
    hits = (gains > 0).double()
    rank = torch.arange(1, gains.shape[1] + 1, device=gains.device)
    return (hits.cumsum(1) / rank * hits)[:, :k].sum(1) / hits.sum(1)


def _reciprocal_rank(gains: torch.Tensor, k: int | None) -> torch.Tensor:
    first = (gains > 0).byte().argmax(1)
    return torch.where(first < (k or gains.shape[1]), 1 / (first + 1).double(), 0.0)


def _ndcg(gains: torch.Tensor, k: int | None) -> torch.Tensor:
    discount = 1 / torch.arange(2, gains.shape[1] + 2, dtype=gains.dtype, device=gains.device).log2()
    best = gains.sort(dim=1, descending=True).values
    return (gains * discount)[:, :k].sum(1) / (best * discount)[:, :k].sum(1)


_AT_K = {"hit": _hit, "recall": _recall, "precision": _precision, "ndcg": _ndcg}
