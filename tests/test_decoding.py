"""Every decoder against the slow way that reads the whole sequence again for each token."""
import pytest
import torch
import torch.nn.functional as F

from cl_lib import decoding
from cl_lib.encoders.language_models import GPT
from cl_lib.errors import InputError
from cl_lib.evaluation import generation


@pytest.fixture(scope="module")
def gpt():
    model = GPT(13, 8, layers=2, heads=2, longest=24, seed=0).eval()
    with torch.no_grad():
        model.tokens.weight.mul_(25)  # what is read decides what comes next
    return model


PROMPTS = torch.randint(13, (3, 5), generator=torch.Generator().manual_seed(1))


def last(model, ids):
    return model(ids)[:, -1].detach()


def test_greedy(gpt):
    ids = PROMPTS
    for _ in range(7):
        ids = torch.cat([ids, last(gpt, ids).argmax(1, keepdim=True)], 1)
    assert torch.equal(decoding.greedy(gpt, PROMPTS, 7), ids)


@pytest.mark.parametrize(("k", "alpha"), [(4, 0.6), (3, 0.3), (5, 1.0)])
def test_contrastive_search_one_candidate_at_a_time(gpt, k, alpha):
    out = decoding.contrastive_search(gpt, PROMPTS, 6, k=k, alpha=alpha)
    for prompt, found in zip(PROMPTS, out, strict=True):
        ids = prompt.tolist()
        for _ in range(6):
            x = torch.tensor([ids])
            p, h = last(gpt, x)[0].softmax(0), gpt.states(x)[0].detach()
            scores = {}
            for v in p.topk(k).indices.tolist():
                own = gpt.states(torch.tensor([[*ids, v]]))[0, -1].detach()
                scores[v] = (1 - alpha) * p[v] - alpha * max(F.cosine_similarity(own, past, dim=0) for past in h)
            ids.append(max(scores, key=scores.get))
        assert ids == found.tolist()


def test_contrastive_search_without_contrast_is_greedy(gpt):
    greedy = decoding.greedy(gpt, PROMPTS, 6)
    assert torch.equal(decoding.contrastive_search(gpt, PROMPTS, 6, alpha=0.0), greedy)
    assert torch.equal(decoding.contrastive_search(gpt, PROMPTS, 6, k=1), greedy)
    assert not torch.equal(decoding.contrastive_search(gpt, PROMPTS, 6, alpha=1.0), greedy)


def test_a_wide_beam_finds_the_likeliest_of_all(gpt):
    first = PROMPTS[:1]
    every = torch.cartesian_prod(*[torch.arange(13)] * 3)
    whole = torch.cat([first.expand(len(every), -1), every], 1)
    logits = gpt(whole).detach()[:, 4:-1].log_softmax(2)
    total = logits.gather(2, every[..., None])[..., 0].sum(1)
    assert torch.equal(decoding.beam(gpt, first, 3, width=13 * 13), whole[total.argmax()][None])
    assert torch.equal(decoding.beam(gpt, PROMPTS, 6, width=1), decoding.greedy(gpt, PROMPTS, 6))


def test_sampling_keeps_to_its_nucleus_and_follows_the_softmax(gpt):
    p = last(gpt, PROMPTS[:1])[0].softmax(0)
    many, g = PROMPTS[:1].expand(4000, -1), torch.Generator().manual_seed(0)
    free = decoding.sample(gpt, many, 1, g)[:, -1].bincount(minlength=13) / 4000
    assert torch.allclose(free, p, atol=0.03)
    order = p.argsort(descending=True)
    kept = order[:int((p[order].cumsum(0) < 0.6).sum()) + 1]
    assert set(decoding.sample(gpt, many, 1, g, top_p=0.6)[:, -1].tolist()) == set(kept.tolist())
    assert set(decoding.sample(gpt, many, 1, g, top_k=3)[:, -1].tolist()) == set(order[:3].tolist())
    assert torch.equal(decoding.sample(gpt, PROMPTS, 5, g, temperature=1e-4), decoding.greedy(gpt, PROMPTS, 5))


@pytest.mark.parametrize(("call", "message"), [
    (lambda m: decoding.sample(m, PROMPTS, 1, None, top_p=0.0), "top_p"), (lambda m: decoding.sample(m, PROMPTS, 1, None, top_k=0), "top_k"),
    (lambda m: decoding.sample(m, PROMPTS, 1, None, temperature=0.0), "temperature"), (lambda m: decoding.beam(m, PROMPTS, 1, width=0), "width"),
    (lambda m: decoding.contrastive_search(m, PROMPTS, 1, alpha=1.5), "alpha"),
    (lambda m: generation.surprise(m, PROMPTS, 0), "start"), (lambda m: generation.isotropy(torch.ones(2, 1, 3)), "two tokens")])
def test_bad_input(gpt, call, message):
    with pytest.raises(InputError, match=message):
        call(gpt)


def test_repetition_and_diversity():
    assert generation.rep_n([1, 2, 1, 2, 1, 2], 2) == pytest.approx(60) and generation.rep_n([1, 2, 3], 2) == 0
    assert generation.diversity(list(range(20))) == 1 and generation.diversity([1] * 20) < 1e-3


def test_isotropy_is_a_mean_over_pairs_of_tokens():
    h = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor([[6], [2], [1]])
    pairs = [F.cosine_similarity(h[t, i], h[t, j], dim=0) for t in range(3) for i in range(6) for j in range(6)
             if i != j and mask[t, i] and mask[t, j]]
    assert generation.isotropy(h, mask) == pytest.approx(1 - float(sum(pairs) / len(pairs)))
    assert generation.isotropy(torch.ones(1, 5, 3)) == pytest.approx(0) and generation.isotropy(torch.eye(4)[None]) == pytest.approx(1)


def test_surprise(gpt):
    found = generation.surprise(gpt, PROMPTS, 2)
    logits = gpt(PROMPTS).detach().log_softmax(2)
    by_hand = [-sum(logits[i, t - 1, PROMPTS[i, t]] for t in (2, 3, 4)) / 3 for i in range(3)]
    assert torch.allclose(found, torch.stack(by_hand))


def test_draw_follows_the_nucleus():
    p = torch.tensor([[0.1, 0.5, 0.15, 0.25], [0.7, 0.0, 0.1, 0.2]])
    many = p.repeat_interleave(20_000, 0)
    for top_p, kept in ((1.0, p), (0.7, torch.tensor([[0, 2 / 3, 0, 1 / 3], [1.0, 0, 0, 0]])), (0.1, torch.tensor([[0, 1.0, 0, 0], [1.0, 0, 0, 0]]))):
        found = decoding.draw(many, torch.Generator().manual_seed(0), top_p=top_p).view(2, -1)
        share = torch.stack([torch.bincount(row, minlength=4) / 20_000 for row in found])
        assert torch.allclose(share, kept, rtol=0, atol=0.012) and (share[kept == 0] == 0).all()
    with pytest.raises(InputError, match="top_p"):
        decoding.draw(p, torch.Generator(), top_p=0.0)
