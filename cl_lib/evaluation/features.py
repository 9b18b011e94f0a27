"""Features of a frozen encoder."""
import torch
from torch import nn


@torch.no_grad()
def encode(model: nn.Module, x: torch.Tensor, device: str | torch.device = "cpu", *, batch: int = 500) -> torch.Tensor:
    """The model's output for every item, in evaluation mode, computed in batches and brought to the CPU.

    Shapes: x (n, ...) on any device -> (n, d) float32.
    """
    model.eval()
    return torch.cat([model(part.to(device)).float().cpu() for part in x.split(batch)])
