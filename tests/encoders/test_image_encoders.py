"""Encoders: what they hold, what they give, and where their first weights come from."""
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cl_lib.encoders.image import resnet, small_cnn
from cl_lib.errors import InputError

BUILD = {"small_cnn": small_cnn, "resnet18": resnet}


def images(n=4, c=3, side=32):
    return torch.randint(256, (n, c, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("encoder", "side", "dim"), [
    (small_cnn(seed=0), 32, 192), (small_cnn(1, width=5, depth=3, seed=0), 28, 20),
    (small_cnn(width=3, depth=1, seed=0), 7, 3),
    (resnet(seed=0), 32, 512), (resnet("resnet50", seed=0), 16, 2048), (resnet(stem="imagenet", seed=0), 64, 512),
])
def test_shapes_and_bytes(encoder, side, dim):
    x = images(c=next(encoder.parameters()).shape[1], side=side)
    encoder.eval()
    h = encoder(x)
    assert h.shape == (4, dim) and encoder.dim == dim and h.dtype == torch.float32
    torch.testing.assert_close(encoder(x.float() / 255), h, rtol=0, atol=0)


@pytest.mark.parametrize("name", BUILD)
def test_initial_weights_come_from_the_seed_alone(name, monkeypatch):
    def state(seed):
        return torch.cat([v.flatten().float() for v in BUILD[name](seed=seed).state_dict().values()])

    def devices(seed):
        raise AssertionError("the random state of other devices is touched")

    before = torch.get_rng_state()
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "manual_seed_all", devices)
        first = state(3)
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(7)
    assert state(3).equal(first) and not state(4).equal(first)
    torch.manual_seed(7)
    unseeded = state(None)
    assert not state(None).equal(unseeded)
    torch.manual_seed(7)
    assert state(None).equal(unseeded)
    torch.set_rng_state(before)


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_the_published_stem_is_torchvisions_model_without_its_classifier(name):
    ours = resnet(name, stem="imagenet", seed=5).eval()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs = getattr(torchvision.models, name)()
    theirs.fc = nn.Identity()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    x = images(side=64).float() / 255
    torch.testing.assert_close(ours(x), theirs.eval()((x - 0.5) / 0.25), rtol=1e-4, atol=1e-4)


def test_the_cifar_stem_keeps_the_resolution():
    encoder = resnet(seed=0)
    conv = encoder.body.conv1
    assert (conv.kernel_size, conv.stride, conv.padding, conv.bias) == ((3, 3), (1, 1), (1, 1), None)
    assert isinstance(encoder.body.maxpool, nn.Identity)
    published = sum(p.numel() for p in torchvision.models.resnet18().parameters()) - 512 * 1000 - 1000
    assert sum(p.numel() for p in encoder.parameters()) == published - 64 * 3 * (49 - 9)
    sizes = []
    encoder.body.layer1.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[2:]))
    encoder(images())
    assert sizes == [(32, 32)]
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.06)  # He, by fan-out, as the others'


def test_small_cnn_is_convolutions_of_stride_two_and_a_mean():
    encoder = small_cnn(3, width=4, depth=3, seed=1)
    x = images().float() / 255
    h = (x - 0.5) / 0.25
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [4, 8, 16]
    for c in convolutions:
        h = F.conv2d(h, c.weight, stride=2, padding=1)
        mean, var = h.mean((0, 2, 3), keepdim=True), h.var((0, 2, 3), unbiased=False, keepdim=True)
        h = F.relu((h - mean) / (var + 1e-5).sqrt())
    torch.testing.assert_close(encoder(x), h.mean((2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: resnet("resnet-18"), "unknown ResNet 'resnet-18'; did you mean 'resnet18'"),
    (lambda: resnet("vgg"), "valid: resnet101, resnet18, resnet34, resnet50"),
    (lambda: resnet(stem="cifar10"), "unknown stem 'cifar10'; did you mean 'cifar'"),
    (lambda: small_cnn(width=0), "width and depth must be at least 1, not 0 and 4"),
    (lambda: small_cnn(depth=0), "width and depth must be at least 1, not 24 and 0"),
])
def test_bad_arguments_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
