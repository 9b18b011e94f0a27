"""Bytes of tensors: counted by hand, and the same each time."""
import torch

from cl_lib import losses
from cl_lib.profiling.tensors import peak_tensor_bytes


def test_counts_what_is_held_at_one_time():
    def run():
        a = torch.zeros(1000, dtype=torch.float64)
        b = a + 1  # both are held here
        del a
        return b * 2

    assert 16_000 <= peak_tensor_bytes(run) < 16_200
    assert peak_tensor_bytes(lambda: None) < 100


def test_a_dense_loss_grows_with_the_square_and_repeats_itself():
    def bytes_of(n):
        z1, z2 = (torch.randn(n, 16, generator=torch.Generator().manual_seed(n)).requires_grad_() for _ in range(2))
        return peak_tensor_bytes(lambda: losses.nt_xent(z1, z2, tau=0.5, method="dense").backward())

    small, large = bytes_of(100), bytes_of(400)
    assert 13 < large / small < 17 and small == bytes_of(100)
    assert large > 3 * 4 * 800 ** 2  # similarities, softmax and gradient of 800 views, in float32
