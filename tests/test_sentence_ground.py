import pytest
import torch

from cl_lib.encoders.text import Transformer
from cl_lib.errors import InputError
from cl_lib.sentence_ground import WithHead, encode, ground, shape, sts


@pytest.fixture(scope="module")
def small():
    return ground("slice")


def test_no_training_sentence_is_rated(small):
    rated = {s for p in small.pairs.values() for s in p.a + p.b}
    assert len(small.train) and not rated & {small.tokens.texts[i] for i in small.train.tolist()}
    assert (small.version, small.layer, small.d) == ("slice", 6, 32) and small.tokens.rows.shape[1] == 32


def test_other_texts_have_the_same_shape_and_are_the_same_each_time(small):
    texts = ["a man plays a guitar guitar", "a man plays a guitar", "a man plays a guitar"]
    read = small.read(texts)
    assert len(read) == 2 and read.rows.shape == (11, 32) and read.rows.dtype == torch.float16
    assert torch.equal(read.rows, small.read(texts).rows)
    x, mask = read.batch(read.find(texts))
    assert torch.equal(x[1], x[2]) and torch.equal(x[0, :5], x[1, :5]) and mask.sum(1).tolist() == [6, 5, 5]


def test_vectors_do_not_depend_on_company_and_the_mode_stays(small):
    encoder = Transformer(32, seed=0).train()
    all_of_them = encode(encoder, small.tokens, small.train)
    assert encoder.training and all_of_them.shape == (len(small.train), 32)
    assert torch.allclose(all_of_them[3], encode(encoder, small.tokens, small.train[3:4])[0], atol=1e-6)


def test_judges(small):
    encoder = Transformer(32, seed=0)
    found = sts(encoder, small, "test")
    assert set(found) == {"sts_spearman", "stsb_spearman"} and found["sts_spearman"] == found["stsb_spearman"]
    assert 0 < shape(encoder, small, "test")["top_direction"] <= 1


def test_the_head_is_off_at_test():
    torch.manual_seed(0)
    model = WithHead(Transformer(8, heads=2, dropout=0.0, seed=0))
    x, mask = torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool)
    trained = model.train()(x, mask)
    assert torch.equal(model.eval()(x, mask), model.encoder(x, mask)) and not torch.allclose(trained, model(x, mask))
    assert trained.abs().max() <= 1


def test_unknown_version_is_refused():
    with pytest.raises(InputError, match="slice"):
        ground("slise")
