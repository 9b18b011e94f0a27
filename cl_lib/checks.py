"""Checks of numeric arguments, shared by losses, views and evaluation: one line that names the argument."""
import math

import torch

from cl_lib.errors import InputError


def embeddings(name: str, z: torch.Tensor, *, like: tuple[str, torch.Tensor] | None = None, at_least: int = 1) -> None:
    """Require a finite floating-point matrix (n, d) with n >= at_least; with `like`, the same shape as that one."""
    if not isinstance(z, torch.Tensor) or not z.is_floating_point():
        raise InputError(f"{name} must be a floating-point tensor, not {getattr(z, 'dtype', type(z).__name__)}")
    if z.ndim != 2 or z.shape[1] == 0:
        raise InputError(f"{name} must have shape (n, d) with d >= 1, not {tuple(z.shape)}")
    if len(z) < at_least:
        raise InputError(f"{name} has {len(z)} rows; at least {at_least} needed")
    if like is not None and z.shape != like[1].shape:
        raise InputError(f"{name} has shape {tuple(z.shape)}, {like[0]} has {tuple(like[1].shape)}; they must agree")
    if not torch.isfinite(z).all():
        raise InputError(f"{name} holds NaN or Inf")


def temperature(tau: float | torch.Tensor, n: int, name: str = "tau") -> None:
    """Require tau > 0: a number, a scalar tensor, or one temperature for each of the n anchors, shape (n,)."""
    if isinstance(tau, torch.Tensor):
        if tau.shape not in ((), (1,), (n,)):
            raise InputError(f"{name} must be a number or have shape ({n},), one for each anchor, not {tuple(tau.shape)}")
        if not (torch.isfinite(tau) & (tau > 0)).all():
            raise InputError(f"{name} must be positive and finite everywhere")
    else:
        positive(name, tau)


def positive(name: str, value: float) -> None:
    """Require a finite number > 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} must be a positive number, not {value!r}")


def number(name: str, value: float | torch.Tensor) -> None:
    """Require one finite number, or a tensor that holds one."""
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise InputError(f"{name} must be one number, not of shape {tuple(value.shape)}")
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{name} must be a finite number, not {value!r}")


def fraction(name: str, value: float, *, below: float = 1.0) -> None:
    """Require a number in [0, below)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < below:
        raise InputError(f"{name} must be in [0, {below}), not {value!r}")


def labels(name: str, y: torch.Tensor, n: int) -> None:
    """Require integer labels of shape (n,)."""
    if not isinstance(y, torch.Tensor) or y.is_floating_point() or y.is_complex() or y.shape != (n,):
        got = f"{y.dtype} {tuple(y.shape)}" if isinstance(y, torch.Tensor) else type(y).__name__
        raise InputError(f"{name} must be an integer tensor of shape ({n},), not {got}")
