"""Graph convolutions on a full matrix of edges: for a few thousand nodes, and for graphs that are themselves learnt."""
import torch
import torch.nn.functional as F
from torch import nn

from cl_lib.encoders.image import seeded
from cl_lib.errors import InputError


def adjacency(edges: torch.Tensor, n: int, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Edges (2, m) and their weights (m,), ones by default, as a matrix (n, n): entry (j, i) for the edge from i to j."""
    a = torch.zeros(n, n, device=edges.device, dtype=torch.float32 if weight is None else weight.dtype)
    return a.index_put((edges[1], edges[0]), a.new_ones(edges.shape[1]) if weight is None else weight)


class DenseGCN(nn.Module):
    """Graph convolutions as in `cl_lib.encoders.graph.GCN`, on normalised matrices: each layer is A (H W) + b.

    Shapes: x (n, d_in) or (views, n, d_in), a (n, n) or (views, n, n), each as `graph.normalised` gives it -> (n, d_out) or
    (views, n, d_out). Several views share the weights. Between layers `activation`, then dropout. `sizes` are the widths after
    each layer. Gradients reach x and a. Reduces to: `GCN` with the same weights, edges and no dropout (tested).
    Source: 1609.02907 Eq. 8. Raises: InputError for no sizes, a size below 1 or a dropout outside [0, 1).
    """

    def __init__(self, d_in: int, sizes: tuple[int, ...], *, activation: type[nn.Module] = nn.ReLU, dropout: float = 0.0,
                 seed: int | None = None):
        super().__init__()
        if not sizes or min(d_in, *sizes) < 1:
            raise InputError(f"d_in and sizes must be at least 1, and sizes not empty, not {d_in} and {sizes}")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must be in [0, 1), not {dropout}")
        with seeded(seed):
            self.weights = nn.ParameterList(nn.init.xavier_uniform_(torch.empty(a, b))
                                            for a, b in zip((d_in, *sizes), sizes, strict=False))
            self.biases = nn.ParameterList(torch.zeros(b) for b in sizes)
        self.activations = nn.ModuleList(activation() for _ in sizes[1:])
        self.dropout, self.dim = dropout, sizes[-1]

    def forward(self, x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = a @ (x @ weight) + bias
            if i < len(self.activations):
                x = F.dropout(self.activations[i](x), self.dropout, self.training)
        return x
