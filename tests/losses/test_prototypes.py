"""ProtoNCE and concentrations against explicit loops."""
import math

import pytest
import torch
import torch.nn.functional as F

from cl_lib.errors import InputError
from cl_lib.losses.prototypes import concentration, proto_nce

G = torch.Generator().manual_seed(0)
Z, C = torch.randn(6, 3, generator=G, dtype=torch.float64), torch.randn(4, 3, generator=G, dtype=torch.float64)
OWN, PHI = torch.tensor([0, 1, 1, 0, 2, 0]), torch.rand(4, generator=G, dtype=torch.float64) + 0.1


def test_proto_nce_is_its_definition():
    loops = sum(torch.log(7 * sum(torch.exp(Z[i] @ C[k] / PHI[k]) for k in range(4)) / 4) - Z[i] @ C[OWN[i]] / PHI[OWN[i]]
                for i in range(6)) / 6
    assert torch.allclose(proto_nce(Z, [OWN], [C], [PHI], candidates=7), loops, rtol=0, atol=1e-12)
    assert torch.allclose(proto_nce(Z, [OWN], [C], [PHI], candidates=4), F.cross_entropy(Z @ C.T / PHI, OWN), rtol=0, atol=1e-12)
    other = (OWN % 2, C[:2], PHI[:2])
    two = proto_nce(Z, [OWN, other[0]], [C, other[1]], [PHI, other[2]])
    assert torch.allclose(two, (proto_nce(Z, [OWN], [C], [PHI]) + proto_nce(Z, *[[o] for o in other])) / 2, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda z, c: proto_nce(z, [OWN], [c], [PHI]), (Z.clone().requires_grad_(), C.clone().requires_grad_()))


def test_concentration_is_its_definition():
    raw = [sum((Z[i] - C[c]).norm() for i in range(6) if OWN[i] == c) / k / math.log(k + 5) for c, k in ((0, 3), (1, 2))]
    raw = torch.stack([*raw, max(raw), max(raw)])  # one item, and none
    raw = raw.clamp(raw.quantile(0.1), raw.quantile(0.9))
    found = concentration(Z, OWN, C, tau=0.3)
    assert torch.allclose(found, 0.3 * raw / raw.mean(), rtol=0, atol=1e-12) and found.mean() == pytest.approx(0.3)


def test_a_lone_item_does_not_set_the_largest():
    z = torch.tensor([[0.0], [1], [2], [3], [1000]], dtype=torch.float64)
    own, c = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([[0.5], [2.5], [0]], dtype=torch.float64)
    assert torch.allclose(concentration(z, own, c, tau=1.0), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("bad", [lambda: proto_nce(Z, [], [], []), lambda: proto_nce(Z, [OWN], [C], [PHI * 0]),
                                 lambda: concentration(Z, torch.arange(6) % 6, torch.randn(6, 3, dtype=torch.float64), tau=0.3),
                                 lambda: concentration(Z, OWN, C, tau=0.0)])
def test_bad_arguments(bad):
    with pytest.raises(InputError):
        bad()
