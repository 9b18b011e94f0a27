"""Node classification on frozen embeddings: splits of the nodes, and a linear probe averaged over several of them."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from cl_lib import checks
from cl_lib.errors import InputError
from cl_lib.evaluation.linear import GRID, linear_probe

Split = dict[str, torch.Tensor]


def random_splits(y: torch.Tensor, n: int, *, seed: int, per_class: int | None = None, share: float | None = None,
                  validation: float = 0.1) -> list[Split]:
    """n random splits of the labelled nodes into train, validation and test.

    Either `per_class` training nodes of each class, or a `share` of the labelled nodes, whatever their class; then a
    share `validation` of the labelled nodes; test is the rest. Nodes with label -1 are in no part.
    Shapes: y (m,) int64 -> indices into y. The splits depend on the seed alone, not on torch's random state.
    Raises: InputError unless one of per_class and share is given, where a class has fewer nodes than per_class, and
    where no node is left for one of the parts.
    """
    if (per_class is None) == (share is None):
        raise InputError("give either per_class or share")
    checks.labels("y", y, len(y))
    checks.fraction("validation", validation)
    if share is not None:
        checks.fraction("share", share)
    nodes, g = torch.nonzero(y >= 0)[:, 0], torch.Generator().manual_seed(seed)
    held_out, splits = round(validation * len(nodes)), []
    for _ in range(n):
        order = nodes[torch.randperm(len(nodes), generator=g)]
        if share is not None:
            train = order[:round(share * len(nodes))]
        else:
            train = torch.cat([_first(order[y[order] == c], per_class, int(c)) for c in y[nodes].unique()])
        rest = order[~torch.isin(order, train)]
        splits.append({"train": train, "validation": rest[:held_out], "test": rest[held_out:]})
        if empty := [part for part, chosen in splits[-1].items() if not len(chosen)]:
            raise InputError(f"{len(nodes)} labelled nodes are too few: nothing is left for {' and '.join(empty)}")
    return splits


def node_accuracy(h: torch.Tensor, y: torch.Tensor, splits: Sequence[Split], *, part: str = "test",
                  grid: Sequence[float] = GRID) -> float:
    """Mean accuracy over the splits of a logistic regression on unit-norm embeddings, its C chosen on validation nodes.

    Shapes: h (n, d), y (n,) -> fraction in [0, 1], on the nodes of `part`. Raises: as `linear_probe`; InputError for no splits.
    Source: 2006.04131 Appendix (logistic regression on normalised embeddings).
    """
    if not splits:
        raise InputError("splits is empty")
    h = F.normalize(h.detach(), dim=1)
    return sum(linear_probe(h[s["train"]], y[s["train"]], h[s[part]], y[s[part]], grid=grid,
                            validation=(h[s["validation"]], y[s["validation"]])) for s in splits) / len(splits)


def _first(nodes: torch.Tensor, n: int, label: int) -> torch.Tensor:
    if len(nodes) < n:
        raise InputError(f"class {label} has {len(nodes)} nodes, {n} needed")
    return nodes[:n]
