"""Graph encoders: GCN layers of torch-geometric with an activation between them, and after the last where it is asked for."""
import torch
from torch import nn

from cl_lib.encoders.image import seeded
from cl_lib.errors import InputError


class GCN(nn.Module):
    """Graph convolutions (Kipf and Welling): each layer multiplies by D^-1/2 (A + I) D^-1/2, then by its weights.

    Shapes: x (n, d_in), edges (2, m) both ways without loops, weight (m,) or None for ones -> (n, d_out).
    `sizes` are the widths after each layer, the last one is d_out; `activation` stands between layers, and after the
    last one too with `last=True`, as in GRACE (2006.04131). Gradients reach x and weight.
    Source: 1609.02907 Eq. 2. Raises: InputError for no sizes or a size below 1.
    """

    def __init__(self, d_in: int, sizes: tuple[int, ...], *, activation: type[nn.Module] = nn.ReLU, last: bool = False,
                 seed: int | None = None):
        from torch_geometric.nn import GCNConv

        super().__init__()
        if not sizes or min(d_in, *sizes) < 1:
            raise InputError(f"d_in and sizes must be at least 1, and sizes not empty, not {d_in} and {sizes}")
        with seeded(seed):
            self.convolutions = nn.ModuleList(GCNConv(a, b) for a, b in zip((d_in, *sizes), sizes, strict=False))
            self.activations = nn.ModuleList(activation() for _ in range(len(sizes) - 1 + last))
        self.dim = sizes[-1]

    def forward(self, x: torch.Tensor, edges: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x, edges, weight)
            if i < len(self.activations):
                x = self.activations[i](x)
        return x


def run_layers(layers: nn.Sequential, x: torch.Tensor, adjacency: torch.Tensor | None = None) -> torch.Tensor:
    """An MLP as it is, or with an adjacency as a GCN: each linear layer's product is multiplied by it before the bias.

    Shapes: layers of `heads.mlp`, x (n, d_in) dense or sparse CSR, adjacency (n, n) sparse, such as `views.graph.gcn_matrix`
    -> (n, d_out). Reduces to: `layers(x)` without an adjacency; `GCN` with the same weights and `gcn_matrix(edges, n)`.
    Source: 1609.02907 Eq. 2. Note: gradients reach the weights and a dense x.
    """
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x = x @ layer.weight.T
            x = (x if adjacency is None else adjacency @ x) + layer.bias
        else:
            x = layer(x)
    return x
