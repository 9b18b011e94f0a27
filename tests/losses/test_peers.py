"""Where a peer library computes the same thing: the same value and the same gradient."""
import warnings

import pytest
import torch

from cl_lib import losses

TAUS = (0.01, 0.07, 1.0)


def same(ours, theirs, *inputs):
    found = []
    for f in (ours, theirs):
        copies = [z.detach().clone().requires_grad_() for z in inputs]
        value = f(*copies)
        found.append((value, *torch.autograd.grad(value, copies)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def draw(n=11, d=8):
    g = torch.Generator().manual_seed(n)
    return torch.randn(n, d, generator=g, dtype=torch.float64), torch.randn(n, d, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("method", ["dense", "stream"])
@pytest.mark.parametrize("tau", TAUS)
def test_lightly(tau, method):
    peer = pytest.importorskip("lightly.loss")
    z1, z2 = draw()
    same(lambda a, b: losses.nt_xent(a, b, tau=tau, method=method), peer.NTXentLoss(tau), z1, z2)
    same(lambda a, b: losses.dcl(a, b, tau=tau, method=method), peer.DCLLoss(tau), z1, z2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer copies a tensor in a way that torch warns about
        same(lambda a, b: losses.dcl(a, b, tau=tau, sigma=0.5, method=method), peer.DCLWLoss(tau, sigma=0.5), z1, z2)


@pytest.mark.parametrize("tau", (0.07, 1.0))
def test_pytorch_metric_learning(tau):
    peer = pytest.importorskip("pytorch_metric_learning.losses")
    z1, z2 = draw()
    y = torch.arange(22) % 5
    same(lambda a: losses.sup_con(a, y, tau=tau), lambda a: peer.SupConLoss(temperature=tau)(a, y), torch.cat([z1, z2]))
    twins = torch.arange(11).repeat(2)
    same(lambda a, b: losses.nt_xent(a, b, tau=tau),
         lambda a, b: peer.NTXentLoss(temperature=tau)(torch.cat([a, b]), twins), z1, z2)


@pytest.mark.parametrize("method", ["dense", "stream"])
@pytest.mark.parametrize("tau", TAUS)
def test_sentence_transformers(tau, method):
    peer = pytest.importorskip("sentence_transformers.losses")
    z1, z2 = draw()
    z3 = draw(12)[0][:11]
    ranking = peer.MultipleNegativesRankingLoss(torch.nn.Module(), scale=1 / tau)
    same(lambda a, b: losses.info_nce(a, b, tau=tau, method=method),
         lambda a, b: ranking.compute_loss_from_embeddings([a, b], None), z1, z2)
    same(lambda a, b, c: losses.info_nce(a, b, tau=tau, negatives=c, method=method),
         lambda a, b, c: ranking.compute_loss_from_embeddings([a, b, c], None), z1, z2, z3)


@pytest.mark.parametrize("method", ["dense", "stream"])
def test_transformers(method):
    peer = pytest.importorskip("transformers")
    text = dict(vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                max_position_embeddings=4, projection_size=16)
    vision = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = peer.SiglipModel(peer.SiglipConfig(text_config=text, vision_config=vision)).double().eval()
        model.logit_scale.data.fill_(1.2)
        model.logit_bias.data.fill_(-1.5)
        x = {"input_ids": torch.randint(20, (7, 4)), "pixel_values": torch.randn(7, 3, 8, 8, dtype=torch.float64)}
    found = []
    for ours in (True, False):
        out = model(**x, return_loss=not ours)
        value = losses.siglip(out.image_embeds, out.text_embeds, tau=(-model.logit_scale.squeeze()).exp(), bias=model.logit_bias,
                              method=method) if ours else out.loss
        found.append((value, *torch.autograd.grad(value, [p for p in model.parameters() if p.requires_grad], allow_unused=True)))
    assert found[0][1] is not None
    for a, b in zip(*found, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
