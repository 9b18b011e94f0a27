import pytest
import torch

from cl_lib import decoding
from cl_lib.encoders.causal import STORIES, causal_lm, prompts
from cl_lib.encoders.language_models import mini_gpt
from cl_lib.encoders.text import SMOLLM2
from cl_lib.errors import InputError
from support.files import needs


@pytest.mark.parametrize("name", ["stories15m", "smollm2"])
def test_a_packaged_model_reads_on_from_its_cache(name):
    needs({"stories15m": STORIES, "smollm2": SMOLLM2}[name])
    model = causal_lm(name)
    ids = prompts(model, ["Once upon a time, there was a little girl named Lily.", "One day, a big dog ran to the park to play."], 10)
    whole, first = model.read(ids), model.read(ids[:, :6])
    rest = model.read(ids[:, 6:], first.cache)
    assert torch.allclose(rest.logits, whole.logits[:, 6:], atol=1e-3) and torch.allclose(rest.states, whole.states[:, 6:], atol=1e-3)
    told = model.text(decoding.greedy(model, ids[:1], 8)[0].tolist())
    assert told.startswith("Once upon a time, there was a") and len(told) > 40


def test_prompts_have_one_length():
    model = mini_gpt()
    found = prompts(model, ["It is a truth universally acknowledged.", "Call me Ishmael, he said to them."], 6)
    assert found.shape == (2, 6) and (found[:, 0] == model.start).all()
    with pytest.raises(InputError, match="fewer than 50 tokens: 'Short"):
        prompts(model, ["Short."], 50)


def test_an_unknown_model():
    with pytest.raises(InputError, match="smollm2, stories15m"):
        causal_lm("gpt2")
