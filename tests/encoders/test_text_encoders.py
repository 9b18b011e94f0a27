"""Token features, small transformers and pretrained encoders of text."""
import pytest
import torch
import torch.nn.functional as F

from cl_lib.datasets import text as data
from cl_lib.datasets.sources import available
from cl_lib.encoders import text
from cl_lib.encoders.text import TokenEncoder, Tokens, Transformer
from cl_lib.errors import InputError


def tokens(lengths=(3, 1, 4), d=5):
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(sum(lengths), d, generator=g).half()
    return Tokens(tuple("abcdefgh"[:len(lengths)]), rows, torch.tensor([0, *lengths]).cumsum(0))


def test_batches_of_tokens_are_their_rows_padded():
    kept = tokens()
    x, mask = kept.batch(torch.tensor([2, 1, 2]))
    assert x.shape == (3, 4, 5) and x.dtype == torch.float32
    assert mask.tolist() == [[True] * 4, [True, False, False, False], [True] * 4]
    for row, i in enumerate((2, 1, 2)):
        own = kept.rows[kept.start[i]:kept.start[i + 1]].float()
        assert torch.equal(x[row, :len(own)], own) and not x[row, len(own):].any()
        torch.testing.assert_close(kept.means()[i], own.mean(0))
    cut, mask = kept.batch(torch.tensor([2, 1]), longest=2)
    assert torch.equal(cut, x[:2, :2]) and mask.tolist() == [[True, True], [True, False]]
    assert kept.find(["c", "a"]).tolist() == [2, 0]
    with pytest.raises(InputError, match="hold no sentence 'x'"):
        kept.find(["a", "x"])


@pytest.mark.parametrize("pool", ["mean", "query"])
def test_a_sentence_is_read_alike_in_any_batch(pool):
    kept, net = tokens(d=8), Transformer(8, heads=2, layers=2, pool=pool, seed=1).eval()
    for p in net.parameters():  # away from the start, where the branches are zero
        p.data += 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    together = net(*kept.batch(torch.arange(3)))
    for i in range(3):
        torch.testing.assert_close(together[i], net(*kept.batch(torch.tensor([i])))[0], rtol=1e-4, atol=1e-5)
    x, mask = kept.batch(torch.arange(3))
    torch.testing.assert_close(together, net(x.masked_fill(~mask[..., None], 7.0), mask), rtol=1e-4, atol=1e-5)


def test_an_untrained_transformer_passes_its_normalised_input_on():
    x, mask = tokens(d=8).batch(torch.arange(3))
    for net in (Transformer(8, heads=2, layers=3, seed=0).eval(), Transformer(8, heads=2, dropout=0.0, seed=0)):
        expected = (F.layer_norm(x, (8,)) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        torch.testing.assert_close(net(x, mask), expected)


def test_dropout_is_on_in_training_and_off_in_evaluation():
    net, (x, mask) = Transformer(8, heads=2, dropout=0.2, seed=0), tokens(d=8).batch(torch.arange(3))
    assert not torch.equal(net(x, mask), net(x, mask))
    net.eval()
    assert torch.equal(net(x, mask), net(x, mask))


def test_first_weights_come_from_the_seed_alone():
    state = torch.get_rng_state()
    a, b, c = (Transformer(8, heads=2, layers=2, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [dict(net.named_parameters()) for net in (a, b, c)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    first, second = (weights[0][f"layers.layers.{i}.linear1.weight"] for i in (0, 1))
    assert not torch.equal(first, second) and not torch.equal(first, weights[2]["layers.layers.0.linear1.weight"])


def test_token_ids():
    net = TokenEncoder(20, 8, longest=6, heads=2, seed=0).eval()
    ids, lengths = torch.randint(20, (3, 6), generator=torch.Generator().manual_seed(0)), torch.tensor([6, 2, 4])
    h = net(ids, lengths)
    assert h.shape == (3, 8)
    ids[1, 2:] = 0
    torch.testing.assert_close(net(ids, lengths), h)
    with pytest.raises(InputError, match="7 positions; the encoder knows 6"):
        net(torch.zeros(1, 7, dtype=torch.long), torch.tensor([7]))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Transformer(10, heads=4), "heads must divide d"),
    (lambda: Transformer(8, pool="cls"), "unknown pool 'cls'"),
    (lambda: text.lm_tokens([], fit=["a"]), "must not be empty"),
    (lambda: text.lm_tokens(["a"], fit=["a"], layer=30), "layer must be in 0..29"),
    (lambda: text.sentence_encoder("minlm"), "unknown sentence encoder 'minlm'; did you mean 'minilm'"),
])
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_the_bundled_vectors_are_those_of_the_bundled_sentences():
    kept = text.slice_tokens()
    sentences = data.unlabelled_sentences(version="slice")
    assert len(kept.find(sentences)) == len(sentences) and kept.rows.shape[1] == 32
    triplets = data.snli_triplets(version="slice")
    for side in (triplets.anchor, triplets.positive, triplets.negative):
        assert len(kept.find(side)) == 40


def test_the_bundled_vectors_are_what_the_language_model_says(tmp_path, monkeypatch):
    if not available(text.SMOLLM2):
        pytest.skip("SmolLM2-135M is not at hand: run a paper of the text part once, or set CL_DATA")
    kept = text.slice_tokens()
    # read anew, in another batch: the sentences that the basis is made of, and some others
    sentences = data.unlabelled_sentences(version="slice")
    path = text.locate(text.SMOLLM2)[0]
    monkeypatch.setenv("CL_CACHE", str(tmp_path))
    monkeypatch.setattr(text, "locate", lambda file: (path, None))
    some = kept.texts[-7:]
    fresh = text.lm_tokens(some, fit=sentences, layer=6, d=32)
    for sentence in some:
        a, b = (t.batch(t.find([sentence]))[0] for t in (kept, fresh))
        cosine = F.cosine_similarity(a[0], b[0], dim=1)
        assert a.shape == b.shape and cosine.min() > 0.999


def test_pretrained_sentences(monkeypatch):
    if not available(text.MINILM):
        pytest.skip("MiniLM is not at hand: call sentence_encoder() once, or set CL_DATA")
    encode = text.sentence_encoder()
    sentences = ["A man is playing a guitar.", "Someone plays the guitar.", "The stock market fell sharply on Monday, traders said."]
    z = encode(sentences)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(encode(sentences[2:])[0], z[2], rtol=1e-4, atol=1e-5)
    assert z[0] @ z[1] > 0.7 > 0.2 > z[0] @ z[2]

