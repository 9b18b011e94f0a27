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
