"""How the small language models of this book were made: `python -m cl_lib pretrain mini-bert` makes one again.

A recipe fixes text, tokenizer, shape, batches, learning rate and seed; a run leaves weights (float16), the tokenizer and its curve with
held-out measures. It keeps a checkpoint and goes on from there. The learning rate rises, stays, and falls in the last part
of the steps, so runs of different length share their beginning. On one machine and version of torch the result is the same to the bit.
"""
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from cl_lib.datasets.sources import ROOT, checksum
from cl_lib.datasets.text import reading, stsb
from cl_lib.encoders.language_models import GPT, Masked, MiniBert
from cl_lib.errors import InputError, unknown
from cl_lib.evaluation.similarity import sts_spearman
from cl_lib.training import generator

OUT = ROOT / "runs" / "pretrained"
LICENCE = "public domain text (cl_lib.datasets.text.reading); the weights are free as the rest of this repository"
SPECIAL = {"causal": ("<s>", "</s>"), "masked": ("[PAD]", "[CLS]", "[SEP]", "[MASK]")}
PAD, CLS, SEP, MASK = range(4)
WARMUP, FALL = 200, 0.15  # steps; share of the steps
EVERY = 100  # steps between two points of the curve
LOOK = 8192  # tokens of the validation part, about, that each point is measured on


@dataclass(frozen=True)
class Recipe:
    """What makes one model; `kind` is causal or masked, `tokenizer` the name its file carries, `batch` counts blocks of `longest` tokens.

    lr is that of embeddings, norms and biases, matrix_lr that of the layers' matrices.
    """
    kind: str
    tokenizer: str
    vocabulary: int
    d: int
    layers: int
    heads: int
    longest: int
    batch: int
    steps: int
    lr: float
    matrix_lr: float = 5e-3
    share: float = 0.2  # of the tokens that a masked model is asked for
    weight_decay: float = 0.1
    seed: int = 0

    def model(self) -> nn.Module:
        shape = {"layers": self.layers, "heads": self.heads, "longest": self.longest, "seed": self.seed}
        return (GPT if self.kind == "causal" else MiniBert)(self.vocabulary, self.d, **shape)


RECIPES = {
    "mini-bert": Recipe("masked", "mini_bert", 8192, 128, 4, 4, 64, batch=32, steps=5000, lr=2e-3),
    "mini-gpt": Recipe("causal", "mini_gpt", 4096, 128, 4, 4, 256, batch=8, steps=3200, lr=3e-3),
    "mini-gpt-small": Recipe("causal", "mini_gpt", 4096, 64, 1, 2, 256, batch=8, steps=1000, lr=4e-3),
}


def recipe(name: str) -> Recipe:
    """The recipe of a model. Raises: InputError for an unknown name."""
    if name not in RECIPES:
        raise unknown("language model", name, RECIPES)
    return RECIPES[name]


def tokenizer(kind: str, vocabulary: int, texts: Sequence[str]):
    """Byte pairs made from texts, special tokens first; in lower case, and with [CLS] and [SEP] around a text, for a masked model."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    if kind == "masked":
        made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    made.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL[kind]), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    if kind == "masked":
        made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)])
    return made


def causal_blocks(sentences: list[list[int]], longest: int) -> torch.Tensor:
    """Running text in blocks (n, longest + 1): a start token and the next `longest` tokens; what is left over falls away."""
    stream = torch.tensor([i for ids in sentences for i in ids])
    n = len(stream) // longest
    return F.pad(stream[:n * longest].view(n, longest), (1, 0), value=0)


def masked_blocks(sentences: list[list[int]], longest: int) -> torch.Tensor:
    """Blocks (n, longest) of running text between [CLS] and [SEP], each from the beginning of a sentence.

    The sentence that a block's end cuts begins the next one; of a sentence longer than a block the rest falls away, and so does the end of
    the text that fills no block.
    """
    room, blocks, i = longest - 2, [], 0
    while i < len(sentences):
        block, first = [], i
        while i < len(sentences) and len(block) + len(sentences[i]) <= room:
            block += sentences[i]
            i += 1
        if i < len(sentences):
            block += sentences[i][:room - len(block)]
            i = max(i, first + 1)
        if len(block) == room:
            blocks.append([CLS, *block, SEP])
    return torch.tensor(blocks)


def hide(ids: torch.Tensor, vocabulary: int, share: float, g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """BERT's corruption (1810.04805): the ids that a masked model reads, and where it is asked, both (n, l).

    Each token but the special ones is asked with probability `share`; of those asked eight in ten become [MASK], one in ten a random token.
    """
    asked = (torch.rand(ids.shape, generator=g) < share) & (ids > MASK)
    fate = torch.rand(ids.shape, generator=g)
    chance = torch.randint(MASK + 1, vocabulary, ids.shape, generator=g)
    return torch.where(asked & (fate < 0.8), MASK, torch.where(asked & (fate >= 0.9), chance, ids)), asked


def blocks(r: Recipe, made, split: str) -> torch.Tensor:
    """The blocks of a part of the text, in its order."""
    ids = [e.ids for e in made.encode_batch(list(reading(split)), add_special_tokens=False)]
    return (causal_blocks if r.kind == "causal" else masked_blocks)(ids, r.longest)


def loss(model: nn.Module, blocks: torch.Tensor, r: Recipe, g: torch.Generator) -> torch.Tensor:
    """Mean cross-entropy of the next tokens of blocks (n, l + 1), or of the hidden ones of blocks (n, l), in nats a token."""
    logits, target = predictions(model, blocks, r, g)
    return F.cross_entropy(logits, target)


def predictions(model: nn.Module, blocks: torch.Tensor, r: Recipe, g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (m, vocabulary) of the m tokens that the model is asked for, and these tokens."""
    if r.kind == "causal":
        return model(blocks[:, :-1]).flatten(0, 1), blocks[:, 1:].flatten()
    read, asked = hide(blocks, r.vocabulary, r.share, g)
    return model.logits(model(read)[asked]), blocks[asked]


def rate(step: int, steps: int) -> float:
    """The learning rate as a share of its height: a rise over `WARMUP` steps, a plateau, a straight fall over the last `FALL` of the steps."""
    return min(1.0, (step + 1) / WARMUP, (steps - step) / max(1, round(FALL * steps)))


class Batches:
    """Blocks in an order that depends on the seed and the step alone: each pass over them is shuffled anew."""

    def __init__(self, blocks: torch.Tensor, size: int, seed: int):
        if not 1 <= size <= len(blocks):
            raise InputError(f"batch must be in 1..{len(blocks)}, the number of blocks, not {size}")
        self.blocks, self.size, self.seed, self.a_pass = blocks, size, seed, len(blocks) // size
        self._order = lru_cache(maxsize=1)(lambda number: torch.randperm(len(blocks), generator=generator(seed, stream=number)))

    def __getitem__(self, step: int) -> torch.Tensor:
        number, at = divmod(step, self.a_pass)
        return self.blocks[self._order(number)[at * self.size:(at + 1) * self.size]]


def optimizers(model: nn.Module, r: Recipe) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """AdamW for embeddings, norms and biases, Muon (Jordan et al. 2024) for the matrices of the layers: it needs fewer steps."""
    matrices = [p for p in model.layers.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if not any(p is m for m in matrices)]
    return (torch.optim.AdamW([{"params": [p for p in rest if p.ndim > 1], "weight_decay": r.weight_decay},
                               {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0}], betas=(0.9, 0.98), fused=True),
            torch.optim.Muon(matrices, weight_decay=r.weight_decay, adjust_lr_fn="match_rms_adamw"))


def fit(r: Recipe, train: torch.Tensor, held_out: torch.Tensor, checkpoint: Path, *, every: float = 60.0,
        say: Callable[[str], None] = lambda line: None) -> tuple[nn.Module, list[dict], float]:
    """Train a model by its recipe, or go on from the checkpoint; returns it with its curve and the processor's seconds.

    A checkpoint is written every `every` seconds and holds weights, Adam's two moments and the curve so far. It serves a run of another length
    too, as long as the learning rate has not begun to fall in either.
    Raises: InputError for a checkpoint that this recipe cannot go on from; FloatingPointError when the loss is not finite.
    """
    model, data = r.model(), Batches(train, r.batch, r.seed)
    made = optimizers(model, r)
    first, curve, recent, seconds = _resume(r, model, made, checkpoint) if checkpoint.exists() else (0, [], [], 0.0)
    begun, kept = time.process_time() - seconds, time.monotonic()
    model.train()
    for step in range(first, r.steps):
        for optim, height in zip(made, (r.lr, r.matrix_lr), strict=True):
            for group in optim.param_groups:
                group["lr"] = height * rate(step, r.steps)
        value = loss(model, data[step], r, generator(r.seed, stream=1_000_000 + step))
        model.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in made:
            optim.step()
        recent.append(value.item())
        if not math.isfinite(recent[-1]):
            raise FloatingPointError(f"the loss is {recent[-1]} at step {step} of {r.steps} (lr {r.lr})")
        if (step + 1) % EVERY == 0 or step + 1 == r.steps:
            curve.append({"step": step + 1, "train": round(sum(recent) / len(recent), 4), "validation": round(measured(model, held_out, r)["loss"], 4)})
            recent = []
            say(f"step {step + 1} of {r.steps}: {curve[-1]['train']:.3f}, validation {curve[-1]['validation']:.3f} "
                f"({time.process_time() - begun:.0f} s)")
        if time.monotonic() - kept > every and step + 1 < r.steps:
            _keep(r, model, made, checkpoint, step + 1, curve, recent, time.process_time() - begun)
            kept = time.monotonic()
    return model.eval(), curve, time.process_time() - begun


def baselines(train: torch.Tensor, test: torch.Tensor, r: Recipe) -> dict[str, float]:
    """What counting the training part gives on blocks of the test part, in nats a token.

    unigram: how often each token stands (one added to all). bigram (causal): after the token before it, smoothed with the unigram after Witten and
    Bell 1991, c(a b) + t(a) p(b) over c(a) + t(a), t(a) the number of kinds of tokens seen after a. common (masked): the share of hidden
    tokens that are the commonest token.
    """
    if r.kind == "masked":
        counts = torch.bincount(train[train > MASK], minlength=r.vocabulary).double()
        _, asked = hide(test, r.vocabulary, r.share, generator(r.seed, stream=-1))
        target = test[asked]
        return {"unigram": -((counts + 1) / (counts + 1).sum())[target].log().mean().item(),
                "common": (target == counts.argmax()).double().mean().item()}
    v = r.vocabulary
    p = torch.bincount(train[:, 1:].flatten(), minlength=v).double() + 1
    p /= p.sum()
    pairs = torch.bincount((train[:, :-1] * v + train[:, 1:]).flatten(), minlength=v * v).view(v, v)
    before, after = test[:, :-1].flatten(), test[:, 1:].flatten()
    kinds, seen = (pairs > 0).sum(1).double()[before], pairs.sum(1).double()[before]
    both = torch.where(seen > 0, (pairs[before, after] + kinds * p[after]) / (seen + kinds).clamp(min=1), p[after])
    return {"unigram": -p[after].log().mean().item(), "bigram": -both.log().mean().item()}


@torch.no_grad()
def measured(model: nn.Module, blocks: torch.Tensor, r: Recipe) -> dict[str, float]:
    """Loss (nats a token), perplexity and accuracy on blocks; what is hidden from a masked model is the same in each call."""
    training, g = model.training, generator(r.seed, stream=-1)
    model.eval()
    total, right, count = 0.0, 0, 0
    for part in blocks.split(r.batch):
        logits, target = predictions(model, part, r, g)
        total += F.cross_entropy(logits, target, reduction="sum").item()
        right += (logits.argmax(1) == target).sum().item()
        count += len(target)
    model.train(training)
    return {"loss": total / count, "perplexity": math.exp(total / count), "accuracy": right / count}


def pretrain(name: str, *, steps: int | None = None, out: Path | None = None, say: Callable[[str], None] = print) -> Path:
    """Make a model by its recipe, or with another number of steps; returns the file of its weights.

    Beside the weights (float16) lie the tokenizer and the curve, a JSON file with the recipe, the loss along the way, and what the
    weights reach on the test part. A run that was stopped goes on from its checkpoint, which goes when the run is done.
    Raises: InputError for an unknown name, fewer than one step, a folder that cannot be written, or a checkpoint that does not fit.
    """
    r, out = recipe(name), OUT if out is None else Path(out)
    if steps is not None and steps < 1:
        raise InputError(f"steps must be at least 1, not {steps}")
    r = r if steps is None else replace(r, steps=steps)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / f".{os.getpid()}").touch()
        (out / f".{os.getpid()}").unlink()
    except OSError as error:
        raise InputError(f"{out}: cannot write the model there: {error.strerror or error}") from None
    made = tokenizer(r.kind, r.vocabulary, reading("train"))
    train, validation, test = (blocks(r, made, split) for split in ("train", "validation", "test"))
    say(f"{name}: {sum(p.numel() for p in r.model().parameters()):,} weights, {len(train):,} blocks of {r.longest} tokens, {r.steps:,} steps of {r.batch}")
    checkpoint = out / f"{name}.checkpoint.safetensors"
    model, curve, seconds = fit(r, train, validation[::max(1, validation.numel() // LOOK)], checkpoint, say=say)

    stem = name.replace("-", "_")
    weights, vocabulary = out / f"{stem}.safetensors", out / f"{r.tokenizer}_tokenizer.json"
    shape = {"vocabulary": r.vocabulary, "d": r.d, "layers": r.layers, "heads": r.heads, "longest": r.longest}
    save_file({k: v.detach().half() for k, v in model.named_parameters()}, weights, {"shape": json.dumps(shape), "licence": LICENCE})
    made.save(str(vocabulary), pretty=False)
    model.load_state_dict({k: v.float() for k, v in load_file(weights).items()})
    text = reading("train")
    about = {"model": name, "recipe": asdict(r), "licence": LICENCE, "torch": torch.__version__, "cpu_seconds": round(seconds),
             "parameters": sum(p.numel() for p in model.parameters()),
             "text": {"sentences": len(text), "words": sum(len(s.split()) for s in text), "tokens": len(train) * r.longest},
             "sha256": {path.name: checksum(path) for path in (weights, vocabulary)},
             "test": rounded(measured(model, test, r) | baselines(train, test, r)), "curve": curve}
    if r.kind == "masked":
        about |= {"stsb": rounded(sentence_scores(model, made)), "stsb_untrained": rounded(sentence_scores(r.model(), made))}
    (out / f"{stem}_curve.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf8")
    checkpoint.unlink(missing_ok=True)
    return weights


def sentence_scores(model: MiniBert, made) -> dict[str, float]:
    """Spearman's correlation, times 100, on the test part of STS-B of the mean over a sentence's tokens, after each layer (0: embeddings)."""
    pairs, masked = stsb("test"), Masked(model, made)
    a, b = masked.means(pairs.a), masked.means(pairs.b)
    return {str(i): sts_spearman(x, y, pairs.scores) for i, (x, y) in enumerate(zip(a, b, strict=True))}


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {k: round(v, 4) for k, v in values.items()}


def _keep(r, model, made, path, step, curve, recent, seconds):
    state = {f"model.{k}": v.detach() for k, v in model.named_parameters()}
    for name, p in model.named_parameters():
        state |= {f"{what}.{name}": v for optim in made if p in optim.state for what, v in optim.state[p].items()}
    about = {"recipe": json.dumps(asdict(r)), "step": str(step), "curve": json.dumps([curve, recent]), "seconds": str(seconds)}
    temporary = path.with_suffix(f".{os.getpid()}.part")
    save_file(state, temporary, about)
    os.replace(temporary, path)


def _resume(r, model, made, path) -> tuple[int, list[dict], list[float], float]:
    with safe_open(path, "pt") as file:
        about = file.metadata()
    step, was = int(about["step"]), json.loads(about["recipe"])
    level = all(step <= steps - round(FALL * steps) for steps in (was["steps"], r.steps))
    if {**was, "steps": r.steps} != asdict(r) or not (was["steps"] == r.steps or level):
        raise InputError(f"{path} is at step {step} of {was['steps']} of a recipe that this one does not continue; delete it to begin anew")
    names = dict(model.named_parameters())
    for key, value in load_file(path).items():
        what, name = key.split(".", 1)
        if what == "model":
            names[name].data.copy_(value)
        else:
            optim = next(o for o in made if any(names[name] is p for group in o.param_groups for p in group["params"]))
            optim.state[names[name]][what] = value
    return step, *json.loads(about["curve"]), float(about["seconds"])
