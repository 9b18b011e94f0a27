"""The recipe of the small language models: what is hidden, what is cut, and that a run is the same however often it was stopped."""
import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from cl_lib import pretraining
from cl_lib.__main__ import main
from cl_lib.errors import InputError
from cl_lib.pretraining import CLS, MASK, SEP, Recipe, generator

MASKED = Recipe("masked", "x", 64, 16, 1, 2, 16, batch=8, steps=12, lr=1e-2)
CAUSAL = replace(MASKED, kind="causal")
TEXTS = ["The old man went to the sea.", "She didn't know what to say to him!", "He was a good man, and she a good woman."] * 30


def data(kind: str, n: int, seed: int = 0) -> torch.Tensor:
    """Causal: a token is followed by one of two, after a start token. Masked: a row is one token, over and over."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(4, 64, (n, 1), generator=g).repeat(1, 16)
    if kind == "masked":
        return x
    for i in range(1, 16):
        x[:, i] = 4 + (2 * x[:, i - 1] + torch.randint(2, (n,), generator=g)) % 60
    return torch.cat([torch.zeros(n, 1, dtype=torch.int64), x], 1)


def test_eight_in_ten_are_masked_one_is_random_one_stays():
    ids = torch.randint(MASK + 1, 1000, (400, 500), generator=generator(1))
    ids[:, 0], ids[:, -1] = CLS, SEP
    read, asked = pretraining.hide(ids, 1000, 0.2, generator(0))
    assert asked[:, 1:-1].double().mean().item() == pytest.approx(0.2, abs=0.005) and not asked[:, [0, -1]].any()
    assert torch.equal(read[~asked], ids[~asked])
    masked, same = read[asked] == MASK, read[asked] == ids[asked]
    assert masked.double().mean().item() == pytest.approx(0.8, abs=0.01) and same.double().mean().item() == pytest.approx(0.1, abs=0.01)
    assert read[asked][~masked].min() > MASK
    again, other = (pretraining.hide(ids, 1000, 0.2, generator(s))[0] for s in (0, 1))
    assert torch.equal(read, again) and not torch.equal(read, other)


def test_causal_blocks_are_the_running_text():
    sentences = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
    assert pretraining.causal_blocks(sentences, 4).tolist() == [[0, 5, 6, 7, 8], [0, 9, 10, 11, 12]]


def test_masked_blocks_begin_with_a_sentence():
    sentences = [[10, 11], [20, 21, 22], list(range(30, 39)), [40], [50, 51, 52], [60]]
    assert pretraining.masked_blocks(sentences, 6).tolist() == [
        [CLS, 10, 11, 20, 21, SEP], [CLS, 20, 21, 22, 30, SEP], [CLS, 30, 31, 32, 33, SEP], [CLS, 40, 50, 51, 52, SEP]]


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_tokenizers_are_made_alike_and_give_texts_back(kind):
    one, two = (pretraining.tokenizer(kind, 300, TEXTS) for _ in range(2))
    assert one.to_str() == two.to_str() and one.get_vocab_size() == 300
    assert [one.id_to_token(i) for i in range(len(pretraining.SPECIAL[kind]))] == list(pretraining.SPECIAL[kind])
    ids = one.encode("The café, she didn't.").ids
    assert one.decode(ids) == ("The café, she didn't." if kind == "causal" else "the café, she didn't.")
    assert (ids[0], ids[-1]) == (CLS, SEP) if kind == "masked" else min(ids) > 1


def test_every_pass_takes_every_block_once():
    batches = pretraining.Batches(torch.arange(10), 3, seed=0)
    passes = [torch.cat([batches[3 * e + i] for i in range(3)]) for e in range(3)]
    assert all(len(p.unique()) == 9 for p in passes) and not torch.equal(passes[0], passes[1])
    assert torch.equal(batches[1], passes[0][3:6])
    with pytest.raises(InputError, match="batch must be in 1..10"):
        pretraining.Batches(torch.arange(10), 11, seed=0)


def test_the_rate_is_level_until_the_last_part():
    assert pretraining.rate(0, 1000) == 1 / pretraining.WARMUP
    assert {pretraining.rate(s, 1000) for s in range(pretraining.WARMUP, 851)} == {1.0}
    assert pretraining.rate(925, 1000) == pytest.approx(0.5) and pretraining.rate(999, 1000) == pytest.approx(1 / 150)
    assert [pretraining.rate(s, 1000) for s in range(800)] == [pretraining.rate(s, 3000) for s in range(800)]


@pytest.mark.parametrize("r", [CAUSAL, MASKED])
def test_it_learns_what_can_be_learnt(r, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "WARMUP", 10)
    r = replace(r, steps=300, batch=32, d=32)
    train, test = data(r.kind, 1024), data(r.kind, 64, seed=1)
    model, curve, _ = pretraining.fit(r, train, test, tmp_path / "x")
    m, b = pretraining.measured(model, test, r), pretraining.baselines(train, test, r)
    assert m["loss"] == pytest.approx(curve[-1]["validation"], abs=1e-4) and m["perplexity"] == pytest.approx(math.exp(m["loss"]))
    assert m["loss"] < 0.5 * b["unigram"]
    if r.kind == "causal":  # of each token two are possible, the first one is free
        floor = (15 * math.log(2) + math.log(60)) / 16
        assert floor - 0.05 < m["loss"] < floor + 0.2 and floor - 0.05 < b["bigram"] < floor + 0.3


def test_baselines_are_what_a_loop_counts():
    train, test = data("causal", 6), data("causal", 3, seed=1)
    v, flat = 64, train[:, 1:].flatten().tolist()
    p = [(flat.count(w) + 1) / (len(flat) + v) for w in range(v)]
    pairs = [tuple(q) for row in train.tolist() for q in zip(row, row[1:], strict=False)]
    one = two = 0.0
    asked = [q for row in test.tolist() for q in zip(row, row[1:], strict=False)]
    for a, b in asked:
        after = [y for x, y in pairs if x == a]
        kinds = len(set(after))
        one -= torch.tensor(p[b]).log().item()
        two -= torch.tensor((after.count(b) + kinds * p[b]) / (len(after) + kinds) if after else p[b]).log().item()
    found = pretraining.baselines(train, test, CAUSAL)
    assert found["unigram"] == pytest.approx(one / len(asked), rel=1e-5) and found["bigram"] == pytest.approx(two / len(asked), rel=1e-5)


@pytest.mark.parametrize("r", [CAUSAL, MASKED])
def test_a_stopped_run_ends_as_one_that_was_not(r, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "EVERY", 4)
    train, test = data(r.kind, 40), data(r.kind, 8, seed=1)
    whole, curve, _ = pretraining.fit(r, train, test, tmp_path / "whole")
    real, seen = pretraining.loss, []

    def stopped(*args):
        seen.append(args)
        if len(seen) == 7:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as m:
        m.setattr(pretraining, "loss", stopped)
        with pytest.raises(KeyboardInterrupt):  # heading for more steps than are made in the end
            pretraining.fit(replace(r, steps=100), train, test, tmp_path / "kept", every=0)
    assert json.loads(pretraining.safe_open(tmp_path / "kept", "pt").metadata()["step"]) == 6
    again, other, _ = pretraining.fit(r, train, test, tmp_path / "kept", every=0)
    assert curve == other and all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    for wrong in (replace(r, lr=0.1), replace(r, steps=7)):
        with pytest.raises(InputError, match="delete it to begin anew"):
            pretraining.fit(wrong, train, test, tmp_path / "kept")


@pytest.mark.parametrize("name", ["mini-bert", "mini-gpt"])
def test_the_command_makes_a_model(name, tmp_path, monkeypatch, capsys):
    small = replace(pretraining.RECIPES[name], vocabulary=300, d=16, layers=1, heads=2, longest=16, batch=2)
    monkeypatch.setitem(pretraining.RECIPES, name, small)
    monkeypatch.setattr(pretraining, "reading", lambda split: tuple(TEXTS))
    monkeypatch.setattr(pretraining, "sentence_scores", lambda model, made: {"0": 1.0})
    assert main(["pretrain", name, "--steps", "3", "--out", str(tmp_path)]) == 0
    stem = name.replace("-", "_")
    about = json.loads((tmp_path / f"{stem}_curve.json").read_text())
    assert about["recipe"]["steps"] == 3 and [c["step"] for c in about["curve"]] == [3]
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{stem}.safetensors", f"{stem}_curve.json", f"{stem}_tokenizer.json"]
    assert about["sha256"][f"{stem}.safetensors"] in capsys.readouterr().out
    assert {v.dtype for v in load_file(tmp_path / f"{stem}.safetensors").values()} == {torch.float16}


@pytest.mark.parametrize(("arguments", "message"), [
    (["mini-brt"], "unknown language model 'mini-brt'; did you mean 'mini-bert'"),
    (["mini-gpt", "--steps", "0"], "steps must be at least 1, not 0"),
    (["mini-gpt", "--out", "/dev/null/x"], "cannot write the model there"),
])
def test_bad_input_is_one_line_before_anything_runs(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(pretraining, "reading", None)
    assert main(["pretrain", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("error: ") and err.count("\n") == 1
