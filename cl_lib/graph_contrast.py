"""GRACE: contrast of the nodes of two views of a graph, the ground on which the graph papers build."""
from collections.abc import Callable

import torch
from torch import nn

from cl_lib import losses
from cl_lib.encoders.graph import GCN, sparse
from cl_lib.encoders.image import seeded
from cl_lib.errors import InputError
from cl_lib.training import generator, train
from cl_lib.views.graph import drop_edges, mask_features

View = tuple[torch.Tensor, torch.Tensor]


class Grace(nn.Module):
    """A GCN with activation after each of its layers, and a projection head fc-ELU-fc as wide as its output.

    Calling it with x (n, f) and edges (2, m) gives what is contrasted, (n, d); `encoder` alone gives what is used.
    Source: 2006.04131 Section 3.1 and the authors' code.
    """

    def __init__(self, d_in: int, sizes: tuple[int, ...] = (128, 64), *, activation: type[nn.Module] = nn.ReLU, seed: int):
        super().__init__()
        self.encoder = GCN(d_in, sizes, activation=activation, last=True, seed=seed)
        d = self.encoder.dim
        with seeded(seed + 1):
            self.head = nn.Sequential(nn.Linear(d, d), nn.ELU(), nn.Linear(d, d))

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x, edges))

    @torch.no_grad()
    def embed(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """The frozen features of the nodes of the whole graph, x (n, f) -> (n, d)."""
        return self.encoder(x, edges)


Objective = Callable[[Grace, View, View, torch.Tensor], torch.Tensor]


def two_views(x: torch.Tensor, edges: torch.Tensor, g: torch.Generator, *, edge_drops: tuple[float, float] = (0.2, 0.4),
              feature_masks: tuple[float, float] = (0.3, 0.4)) -> tuple[View, View]:
    """Two views (x, edges) of a graph: each leaves out edges and hides features at rates of its own."""
    first, second = ((mask_features(x, g, p=hide), drop_edges(edges, g, p=drop))
                     for drop, hide in zip(edge_drops, feature_masks, strict=True))
    return first, second


def contrast(model: Grace, first: View, second: View, nodes: torch.Tensor, *, tau: float = 0.4) -> torch.Tensor:
    """GRACE's loss over some nodes of two views: each finds itself among all of these in both views.

    Shapes: nodes (m,) indices -> scalar. Reduces to: `losses.nt_xent` on the projected nodes, which it is.
    """
    return losses.nt_xent(model(*first)[nodes], model(*second)[nodes], tau=tau)


def grace(x: torch.Tensor, edges: torch.Tensor, *, seed: int, steps: int = 100, lr: float = 0.005, tau: float = 0.4,
          sizes: tuple[int, ...] = (128, 64), nodes: int | None = 500, edge_drops: tuple[float, float] = (0.2, 0.4),
          feature_masks: tuple[float, float] = (0.3, 0.4), activation: type[nn.Module] = nn.ReLU,
          objective: Objective | None = None, optimizer: str = "adam", weight_decay: float = 1e-5,
          after_step: Callable[[int, float], None] | None = None) -> Grace:
    """A GCN trained by GRACE on a graph without labels; the returned model's `embed(x, edges)` are the nodes' features.

    In each step two views of the whole graph are encoded, and `nodes` of its nodes, drawn anew, are contrasted (None: all
    of them, as in the paper). `x` is used as it is; word counts of 0 and 1 do better here than rows that sum to 1.
    `objective(model, first, second, nodes)` takes the place of `contrast(..., tau=tau)`; what
    it draws it should draw from a generator of its own, for then first weights, views and nodes are those of GRACE.
    Shapes: x (n, f) dense or sparse, edges (2, m) both ways -> a model on the device of x.
    Source: 2006.04131 and CRIPAC-DIG/GRACE (rates and tau are theirs for Cora).
    Raises: InputError for fewer than two nodes to contrast, or more than there are; else as `training.train`.
    Cost: about 40 ms a step on Cora and one thread at the sizes given here.
    """
    n = x.shape[0]
    if nodes is not None and not 2 <= nodes <= n:
        raise InputError(f"nodes must be in 2..{n}, the number of nodes, or None, not {nodes}")
    model = Grace(x.shape[1], sizes, activation=activation, seed=seed).to(x.device)
    if x.layout == torch.strided and x.count_nonzero() < x.numel() / 10:
        x = sparse(x)
    views, picks = generator(seed, x.device, stream=1), generator(seed, x.device, stream=2)

    def loss(chosen):
        first, second = two_views(x, edges, views, edge_drops=edge_drops, feature_masks=feature_masks)
        return objective(model, first, second, chosen) if objective else contrast(model, first, second, chosen, tau=tau)

    batches = (torch.randperm(n, generator=picks, device=x.device)[:nodes] for _ in range(steps))
    train(model, loss, batches, steps=steps, lr=lr, optimizer=optimizer, weight_decay=weight_decay, after_step=after_step)
    return model
