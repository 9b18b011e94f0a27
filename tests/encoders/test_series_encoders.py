"""The encoder of time series: shapes, seeds, that time's shift by its stride moves nothing, errors."""
import pytest
import torch

from cl_lib.encoders.series import Residual, resnet1d
from cl_lib.errors import InputError


@pytest.mark.parametrize(("options", "channels", "length", "dim"), [
    ({}, 1, 96, 64), (dict(width=5, blocks=2, in_channels=3), 3, 47, 10), (dict(width=3, blocks=1, kernel=1), 1, 2, 3)])
def test_shapes(options, channels, length, dim):
    encoder = resnet1d(**options, seed=0).eval()
    h = encoder(torch.randn(4, channels, length))
    assert h.shape == (4, dim) and encoder.dim == dim and h.isfinite().all()


def test_initial_weights_come_from_the_seed_alone():
    def state(seed):
        return torch.cat([v.flatten().float() for v in resnet1d(seed=seed).state_dict().values()])

    before = torch.get_rng_state()
    assert state(3).equal(state(3)) and not state(3).equal(state(4)) and torch.get_rng_state().equal(before)


def test_a_block_adds_its_shortcut_to_two_convolutions():
    block = Residual(2, 3, 5).eval().double()
    x = torch.randn(2, 2, 1, 11, dtype=torch.float64)
    inner = torch.relu(block.norm1(block.first(x)))
    assert torch.equal(block(x), torch.relu(block.norm2(block.second(inner)) + block.skip(x)))
    assert block(x).shape == (2, 3, 1, 6)


def test_a_shift_by_the_whole_stride_moves_the_features_little():
    """The mean over time makes a pulse's place matter only through the borders: none here, for it stands far from them."""
    encoder = resnet1d(width=4, blocks=2, seed=0).eval()
    pulse = torch.zeros(2, 1, 400)
    pulse[0, 0, 200:220] = torch.randn(20)
    pulse[1] = pulse[0].roll(8, 1)
    a, b = encoder(pulse)
    assert torch.allclose(a, b, atol=1e-6) and not torch.allclose(a, encoder(torch.zeros(1, 1, 400))[0], atol=1e-3)


def test_errors():
    for options in (dict(width=0), dict(blocks=0), dict(kernel=4)):
        with pytest.raises(InputError, match="width and blocks"):
            resnet1d(**options)
