"""Deep embedded clustering: an autoencoder first, then soft assignments to clusters that sharpen themselves."""
from collections.abc import Callable
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import nn

from cl_lib.encoders.graph import run_layers
from cl_lib.encoders.heads import mlp
from cl_lib.evaluation.clustering import kmeans
from cl_lib.losses.assignments import soft_assignment, target_distribution
from cl_lib.training import batches, generator, train

Objective = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Callable[[], torch.Tensor]], torch.Tensor]


class Clusterer(nn.Module):
    """An encoder x (n, d) -> z (n, sizes[-1]), its mirror as decoder, and k centres of clusters among the z.

    With an `adjacency` (sparse, n x n) the encoder is a GCN on the same weights; the decoder never sees the graph.
    """

    def __init__(self, d: int, sizes: tuple[int, ...], *, k: int, adjacency: torch.Tensor | None = None, seed: int | None = None):
        super().__init__()
        self.encoder = mlp(d, sizes, seed=seed)
        self.decoder = mlp(sizes[-1], (*sizes[-2::-1], d), seed=None if seed is None else seed + 1)
        self.centres = nn.Parameter(torch.zeros(k, sizes[-1]))
        self.adjacency = adjacency

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return run_layers(self.encoder, x, self.adjacency)

    def clone(self) -> "Clusterer":
        """A model that begins as this one is and learns by itself; the adjacency is the same tensor."""
        return deepcopy(self, {id(self.adjacency): self.adjacency})


def reconstruct(model: Clusterer, x: torch.Tensor, *, seed: int, steps: int, batch: int = 64, lr: float = 1e-3) -> None:
    """Train encoder and decoder to give back x, then put the centres where k-means (20 starts) finds them.

    Without a graph a step encodes `batch` rows; with one it encodes all, since each row needs its neighbours, and
    decodes `batch` of them. Shapes: x (n, d) dense. Adam; the rate rises, then falls to 0 (`training.train`).
    """
    whole = x.to_sparse_csr() if model.adjacency is not None else None

    def loss(index):
        z = model(x[index]) if whole is None else model(whole)[index]
        return F.mse_loss(model.decoder(z), x[index])

    train(model, loss, batches(len(x), min(batch, len(x)), generator(seed)), steps=steps, lr=lr, optimizer="adam", weight_decay=0.0)
    with torch.no_grad():
        model.centres.copy_(kmeans(model(x if whole is None else whole), len(model.centres), seed=seed, restarts=20, normalize=False)[1])


def self_train(model: Clusterer, x: torch.Tensor, objective: Objective, *, seed: int, epochs: int, lr: float,
               sample: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    """Full-batch steps on `objective(z, q, p, error)`; returns z (n, d) and q (n, k) after the last one.

    q -> soft assignments to the centres, which are trained too; p -> their target, made anew in each step; error() ->
    the reconstruction error, on `sample` rows drawn for the step. Shapes: x (n, f) dense.
    """
    whole, n = x.to_sparse_csr(), len(x)
    rows = batches(n, min(sample, n), generator(seed, stream=1))

    def loss(index):
        z = model(whole)
        q = soft_assignment(z, model.centres)
        return objective(z, q, target_distribution(q), lambda: F.mse_loss(model.decoder(z[index]), x[index]))

    train(model, loss, rows, steps=epochs, lr=lr, optimizer="adam", weight_decay=0.0)
    with torch.no_grad():
        z = model(whole)
        return z, soft_assignment(z, model.centres)
