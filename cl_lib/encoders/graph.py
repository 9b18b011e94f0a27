"""Graph encoders: GCN layers of torch-geometric with an activation between them, and after the last where it is asked for."""
import warnings

import torch
from torch import nn

from cl_lib.encoders.image import seeded
from cl_lib.errors import InputError


class GCN(nn.Module):
    """Graph convolutions (Kipf and Welling): each layer multiplies by D^-1/2 (A + I) D^-1/2, then by its weights.

    Shapes: x (n, d_in), edges (2, m) both ways without loops, weight (m,) or None for ones -> (n, d_out).
    `sizes` are the widths after each layer, the last one is d_out; `activation` stands between layers, and after the
    last one too with `last=True`, as in GRACE (2006.04131). Gradients reach weight, and x where it is dense.
    Source: 1609.02907 Eq. 2. Raises: InputError for no sizes or a size below 1.
    Cost: the product of x with the first weights is most of it; `sparse(x)` makes it some ten times cheaper for bags of words.
    """

    def __init__(self, d_in: int, sizes: tuple[int, ...], *, activation: type[nn.Module] = nn.ReLU, last: bool = False,
                 seed: int | None = None):
        with warnings.catch_warnings():  # torch-geometric's import says that torch.jit grows old
            warnings.simplefilter("ignore", FutureWarning)
            from torch_geometric.nn import GCNConv

        super().__init__()
        if not sizes or min(d_in, *sizes) < 1:
            raise InputError(f"d_in and sizes must be at least 1, and sizes not empty, not {d_in} and {sizes}")
        with seeded(seed):
            self.convolutions = nn.ModuleList(GCNConv(a, b) for a, b in zip((d_in, *sizes), sizes, strict=False))
            self.activations = nn.ModuleList(activation() for _ in range(len(sizes) - 1 + last))
        self.dim = sizes[-1]

    def forward(self, x: torch.Tensor, edges: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        return self._layers(x, lambda convolution, x: convolution(x, edges, weight))

    def dense(self, x: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
        """The same with a matrix (n, n) in the place of D^-1/2 (A + I) D^-1/2, such as `normalised(a)`; gradients reach it."""
        return self._layers(x, lambda convolution, x: spread @ convolution.lin(x) + convolution.bias)

    def _layers(self, x, layer):
        for i, convolution in enumerate(self.convolutions):
            x = layer(convolution, x)
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


def normalised(a: torch.Tensor) -> torch.Tensor:
    """D^-1/2 (A + I) D^-1/2 of a dense adjacency matrix a (n, n) >= 0 without loops, D the row sums of A + I."""
    a = a + torch.eye(len(a), dtype=a.dtype, device=a.device)
    scale = a.sum(1).rsqrt()
    return scale[:, None] * a * scale


def sparse(x: torch.Tensor) -> torch.Tensor:
    """The matrix x (n, f) with its non-zeros alone (CSR): a GCN and `mask_features` take it as they take x."""
    with warnings.catch_warnings():  # torch calls its CSR a beta
        warnings.simplefilter("ignore", UserWarning)
        return x.to_sparse_csr()


def degrees(edges: torch.Tensor, n: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """How many neighbours each of n nodes has, itself counted: edges (2, m) both ways -> (n,)."""
    return torch.bincount(edges[0], minlength=n).to(dtype) + 1


def spread(edges: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The sparse matrix with scale_i scale_j at every edge and self-loop (i, j).

    With scale = degrees ** -1/2 it is D^-1/2 (A + I) D^-1/2, what a GCN multiplies by.
    Shapes: edges (2, m) both ways, scale (n,) -> (n, n) CSR.
    """
    row, column = both = torch.cat([edges, torch.arange(len(scale), device=edges.device).repeat(2, 1)], 1)
    return sparse(torch.sparse_coo_tensor(both, scale[row] * scale[column], (len(scale),) * 2, check_invariants=False))


def symmetric_product(a: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    """a @ m for a constant symmetric matrix, dense or sparse; quicker than a @ m where a gradient is asked for.

    Shapes: a (n, n), m (n, d) -> (n, d). Note: the gradient of m is a @ g, with no transposition; none reaches a.
    """
    return _SymmetricProduct.apply(a, m)


class _SymmetricProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, m):
        ctx.a = a
        return a @ m

    @staticmethod
    def backward(ctx, g):
        return None, ctx.a @ g
