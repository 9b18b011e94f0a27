import pytest
import torch

from cl_lib.datasets import sources
from cl_lib.decoding import greedy
from cl_lib.encoders import language_models
from cl_lib.encoders.language_models import GPT, MiniBert, mini_bert, mini_gpt
from cl_lib.errors import InputError


@pytest.fixture
def gpt():
    return GPT(11, 8, layers=2, heads=2, longest=12, seed=0).eval()


IDS = torch.randint(11, (3, 9), generator=torch.Generator().manual_seed(0))


def test_it_never_looks_ahead(gpt):
    changed = IDS.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 11
    a, b = gpt(IDS), gpt(changed)
    assert torch.allclose(a[:, :5], b[:, :5], atol=1e-6) and not torch.allclose(a[:, 5:], b[:, 5:], atol=1e-4)


@pytest.mark.parametrize("pieces", [(9,), (4, 5), (4, 1, 3, 1), (1,) * 9])
def test_reading_in_pieces_is_reading_at_once(gpt, pieces):
    cache, logits, states = None, [], []
    for part in IDS.split(pieces, 1):
        read = gpt.read(part, cache)
        cache = read.cache
        logits.append(read.logits)
        states.append(read.states)
    assert torch.allclose(torch.cat(logits, 1), gpt(IDS), atol=1e-5) and torch.allclose(torch.cat(states, 1), gpt.states(IDS), atol=1e-5)
    assert len(cache) == 9


def test_rows_of_a_cache_can_be_repeated_and_chosen(gpt):
    read = gpt.read(IDS[:, :4])
    read.cache.batch_repeat_interleave(2)
    read.cache.batch_select_indices(torch.tensor([5, 0]))
    next_token = IDS[[2, 0], 4:5]
    assert torch.allclose(gpt.read(next_token, read.cache).logits[:, 0], gpt(IDS[[2, 0], :5])[:, -1], atol=1e-5)


def test_seeds_and_modes(gpt):
    again, other = (GPT(11, 8, layers=2, heads=2, longest=12, seed=s) for s in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(gpt.parameters(), again.parameters(), strict=True))
    assert not torch.equal(gpt.tokens.weight, other.tokens.weight)
    noisy = GPT(11, 8, layers=2, heads=2, longest=12, dropout=0.5, seed=0).train()
    assert torch.allclose(noisy.read(IDS).logits, gpt(IDS), atol=1e-6) and noisy.training


def test_bad_input(gpt):
    with pytest.raises(InputError, match="reads 12 at most"):
        gpt(torch.zeros(1, 13, dtype=torch.int64))
    with pytest.raises(InputError, match="heads must divide d"):
        GPT(11, 9, heads=2)


@pytest.fixture
def bert():
    return MiniBert(11, 8, layers=2, heads=2, longest=12, seed=0).eval()


LENGTHS = torch.tensor([9, 4, 1])


def test_a_masked_model_sees_both_sides_but_no_padding(bert):
    changed = IDS.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 11
    assert not torch.allclose(bert(IDS)[:, 0], bert(changed)[:, 0], atol=1e-4)
    for i, l in enumerate(LENGTHS):
        padded = bert.states(IDS, LENGTHS)
        for one, all in zip(bert.states(IDS[i:i + 1, :l]), padded, strict=True):
            assert torch.allclose(one[0], all[i, :l], atol=1e-5)
    assert len(padded) == 3 and torch.equal(padded[-1], bert(IDS, LENGTHS))


def test_attention_weights_are_those_that_the_layer_uses(bert):
    seen = (torch.arange(9) < LENGTHS[:, None])[:, None, None]
    h = bert.states(IDS, LENGTHS)[0]
    layer = bert.layers[0]
    w = layer.weights(h, seen)
    assert torch.allclose(w.sum(3), torch.ones(3, 2, 9)) and (w.transpose(1, 3)[~seen[:, 0, 0]] == 0).all()
    v = layer.qkv(layer.before(h))[..., 16:].view(3, 9, 2, 4).transpose(1, 2)
    after = h + layer.out((w @ v).transpose(1, 2).flatten(2))
    after = after + layer.down(torch.nn.functional.gelu(layer.up(layer.between(after))))
    assert torch.allclose(after, bert.states(IDS, LENGTHS)[1], atol=1e-5)


def test_a_masked_model_refuses_bad_input(bert):
    with pytest.raises(InputError, match="reads 12 at most"):
        bert(torch.zeros(1, 13, dtype=torch.int64))
    with pytest.raises(InputError, match="heads must divide d"):
        MiniBert(11, 9, heads=2)
    with pytest.raises(InputError, match="unknown size of mini-gpt 'smal'; did you mean 'small'"):
        mini_gpt("smal")


def test_the_bundled_masked_model_reads_english():
    bert = mini_bert()
    texts = ["He did not know what to say.", "Yes."]
    ids, lengths = bert.batch(texts)
    assert ids.shape == (2, lengths.max()) and (ids[1, lengths[1]:] == bert.pad).all() and ids[0, 0] == bert.cls
    assert bert.text(ids[0]) == "he did not know what to say."
    means = bert.means(texts)
    h = bert.model(ids[1:], lengths[1:])[0, :lengths[1]]
    assert torch.allclose(means[-1, 1], h.mean(0), atol=1e-5)
    ids[0, 3] = bert.mask
    guess = bert.model.logits(bert.model(ids, lengths)[0, 3]).softmax(0)
    assert guess[bert.tokenizer.encode("not", add_special_tokens=False).ids[0]] > 10 / len(guess)


@pytest.mark.parametrize("size", ["base", "small"])
def test_the_bundled_causal_models_write(size):
    gpt, other = mini_gpt(size), mini_gpt(size)
    ids = torch.tensor([gpt.ids("It was a fine day, and")])
    out = greedy(gpt, ids, 12)
    for t in range(ids.shape[1], out.shape[1]):  # without a cache
        assert gpt.model(out[:, :t])[0, -1].argmax() == out[0, t]
    assert gpt.text(out[0]).startswith("It was a fine day, and")
    with torch.no_grad():
        other.model.tokens.weight.zero_()
    assert gpt.model.tokens.weight.any() and mini_gpt(size).model.tokens.weight.any()


def test_weights_that_were_changed_are_refused(tmp_path, monkeypatch):
    name = "mini_gpt_small.safetensors"
    data = bytearray((sources.BUNDLED / name).read_bytes())
    data[-1] ^= 1
    (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(sources, "BUNDLED", tmp_path)
    monkeypatch.setattr(sources, "_used", {})
    language_models._weights.cache_clear()
    with pytest.raises(sources.DataError, match="is not the file it should be"):
        mini_gpt("small")
