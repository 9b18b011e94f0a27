"""Small language models of this book's own: a causal transformer that trains on a CPU, and its pretrained copies."""
import json
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn

from cl_lib.datasets.sources import File, Mirror, locate
from cl_lib.encoders.causal import Read
from cl_lib.encoders.image import seeded
from cl_lib.errors import InputError, unknown


class Cache:
    """Keys and values of what was read, (n, heads, l, d / heads) a layer; the two methods change it in place."""

    def __init__(self, layers: int):
        self.kept: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * layers

    def __len__(self) -> int:
        return 0 if self.kept[0] is None else self.kept[0][0].shape[2]

    def add(self, layer: int, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if (old := self.kept[layer]) is not None:
            k, v = torch.cat([old[0], k], 2), torch.cat([old[1], v], 2)
        self.kept[layer] = k, v
        return k, v

    def batch_repeat_interleave(self, k: int) -> None:
        self.kept = [tuple(x.repeat_interleave(k, 0) for x in pair) for pair in self.kept]

    def batch_select_indices(self, rows: torch.Tensor) -> None:
        self.kept = [tuple(x[rows] for x in pair) for pair in self.kept]


class GPT(nn.Module):
    """A causal transformer on token ids: learnt positions, pre-norm layers, output tied to the embeddings (GPT-2's shape).

    Shapes: ids (n, l) int64 with l up to `longest` -> logits (n, l, vocabulary), by `forward`. `states(ids)` gives the last
    layer's states after the norm, (n, l, d), which the output layer sees. `read` is the side that the decoders of
    `cl_lib.decoding` use.
    """

    def __init__(self, vocabulary: int, d: int = 128, *, layers: int = 4, heads: int = 4, longest: int = 128, dropout: float = 0.0,
                 seed: int | None = None, start: int = 0, end: int = 1):
        super().__init__()
        if d % heads:
            raise InputError(f"heads must divide d, not {heads} and {d}")
        self.dim, self.longest, self.start, self.end = d, longest, start, end
        with seeded(seed):
            self.tokens, self.positions = nn.Embedding(vocabulary, d), nn.Embedding(longest, d)
            self.layers = nn.ModuleList(_Layer(d, heads, dropout) for _ in range(layers))
            self.norm = nn.LayerNorm(d)
            for p in self.parameters():
                if p.ndim > 1:
                    nn.init.normal_(p, std=0.02)
            for layer in self.layers:
                for out in (layer.out, layer.down):
                    nn.init.normal_(out.weight, std=0.02 / (2 * layers) ** 0.5)
        self.dropout = nn.Dropout(dropout)

    def states(self, ids: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        first = 0 if cache is None else len(cache)
        if first + ids.shape[1] > self.longest:
            raise InputError(f"{first + ids.shape[1]} tokens; the model reads {self.longest} at most")
        h = self.dropout(self.tokens(ids) + self.positions(torch.arange(first, first + ids.shape[1], device=ids.device)))
        for i, layer in enumerate(self.layers):
            h = layer(h, i, cache)
        return self.norm(h)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.logits(self.states(ids))

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        return states @ self.tokens.weight.T

    @torch.no_grad()
    def read(self, ids: torch.Tensor, cache: Cache | None = None) -> Read:
        training = self.training
        self.eval()
        cache = Cache(len(self.layers)) if cache is None else cache
        states = self.states(ids, cache)
        self.train(training)
        return Read(self.logits(states), states, cache)


class _Layer(nn.Module):
    def __init__(self, d: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.p = heads, dropout
        self.before, self.between = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down, self.dropout = nn.Linear(d, 4 * d), nn.Linear(4 * d, d), nn.Dropout(dropout)

    def forward(self, h: torch.Tensor, number: int, cache: Cache | None) -> torch.Tensor:
        q, k, v = self._qkv(h)
        l = h.shape[1]
        if cache is not None:
            k, v = cache.add(number, k, v)
        ahead = None
        if l < k.shape[2] and l > 1:  # several tokens after a cache: each sees the cache and itself
            ahead = torch.ones(l, k.shape[2], dtype=torch.bool, device=h.device).tril(k.shape[2] - l)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=ahead, is_causal=l == k.shape[2] and l > 1,
                                           dropout_p=self.p if self.training else 0.0)
        h = h + self.dropout(self.out(a.transpose(1, 2).flatten(2)))
        return h + self.dropout(self.down(F.gelu(self.up(self.between(h)))))

    def _qkv(self, h):
        n, l, d = h.shape
        return self.qkv(self.before(h)).view(n, l, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)


class Tokenized:
    """A `GPT` with its tokenizer (of the package `tokenizers`): what `cl_lib.encoders.causal.Causal` asks for."""

    def __init__(self, model: GPT, tokenizer):
        self.model, self.tokenizer, self.start, self.end = model.eval(), tokenizer, model.start, model.end

    def read(self, ids: torch.Tensor, cache: Cache | None = None) -> Read:
        return self.model.read(ids, cache)

    def ids(self, text: str) -> list[int]:
        """Tokens of a text, a start token first."""
        return [self.start, *self.tokenizer.encode(text).ids]

    def text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode([int(i) for i in ids])


class MiniBert(nn.Module):
    """A masked language model on token ids: learnt positions, pre-norm layers that see both sides, output tied to the embeddings.

    Shapes: ids (n, l) int64 with l up to `longest`, lengths (n,) or None where nothing is padded -> the last states (n, l, d).
    `states` gives those of every layer: the embeddings first, the last one after the norm. `logits(h)` of states (..., d) of the last
    layer are (..., vocabulary); the loss asks for those of masked places alone. `layers[i].weights` gives the attention of a layer.
    """

    def __init__(self, vocabulary: int, d: int = 128, *, layers: int = 4, heads: int = 4, longest: int = 64, dropout: float = 0.0,
                 seed: int | None = None):
        super().__init__()
        if d % heads:
            raise InputError(f"heads must divide d, not {heads} and {d}")
        self.dim, self.longest = d, longest
        with seeded(seed):
            self.tokens, self.positions = nn.Embedding(vocabulary, d), nn.Embedding(longest, d)
            self.layers = nn.ModuleList(_Both(d, heads, dropout) for _ in range(layers))
            self.norm, self.head = nn.LayerNorm(d), nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.LayerNorm(d))
            self.bias = nn.Parameter(torch.zeros(vocabulary))
            for p in self.parameters():
                if p.ndim > 1:
                    nn.init.normal_(p, std=0.02)
        self.dropout = nn.Dropout(dropout)

    def states(self, ids: torch.Tensor, lengths: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        n, l = ids.shape
        if l > self.longest:
            raise InputError(f"{l} tokens; the model reads {self.longest} at most")
        at = torch.arange(l, device=ids.device)
        seen = None if lengths is None else (at < lengths[:, None])[:, None, None]
        h = self.dropout(self.tokens(ids) + self.positions(at))
        out = [h]
        for layer in self.layers:
            h = layer(h, seen)
            out.append(h)
        return *out[:-1], self.norm(h)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return self.states(ids, lengths)[-1]

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        return F.linear(self.head(states), self.tokens.weight, self.bias)


class _Both(_Layer):
    """A layer of `GPT` whose tokens see those on both sides; `seen` (n, 1, 1, l) is true where a token stands."""

    def forward(self, h: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
        q, k, v = self._qkv(h)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=self.p if self.training else 0.0)
        h = h + self.dropout(self.out(a.transpose(1, 2).flatten(2)))
        return h + self.dropout(self.down(F.gelu(self.up(self.between(h)))))

    def weights(self, h: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
        """Who attends to whom when the layer reads h (n, l, d): (n, heads, l, l), rows sum to 1."""
        q, k, _ = self._qkv(h)
        s = q @ k.transpose(2, 3) / k.shape[3] ** 0.5
        return (s if seen is None else s.masked_fill(~seen, float("-inf"))).softmax(3)


class Masked:
    """A `MiniBert` with its tokenizer (of the package `tokenizers`); `pad`, `cls`, `sep` and `mask` are its special tokens.

    Tokens are hidden by their ids; a [MASK] that is written into a text leaves blanks around it as tokens of their own.
    """
    pad, cls, sep, mask = range(4)

    def __init__(self, model: MiniBert, tokenizer):
        self.model, self.tokenizer = model.eval(), tokenizer
        tokenizer.enable_truncation(model.longest)

    def batch(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """ids (n, l), with [CLS] and [SEP], cut to the longest that the model reads and padded, and lengths (n,)."""
        ids = [torch.tensor(e.ids) for e in self.tokenizer.encode_batch(list(texts))]
        return nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=self.pad), torch.tensor([len(i) for i in ids])

    def text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode([int(i) for i in ids])

    @torch.no_grad()
    def means(self, texts: Sequence[str], size: int = 256) -> torch.Tensor:
        """The mean over each text's tokens in every layer, (layers + 1, n, d); of the embeddings first."""
        parts = []
        for at in range(0, len(texts), size):
            ids, lengths = self.batch(texts[at:at + size])
            there = (torch.arange(ids.shape[1]) < lengths[:, None])[..., None]
            parts.append(torch.stack([(h * there).sum(1) / lengths[:, None] for h in self.model.states(ids, lengths)]))
        return torch.cat(parts, 1)


def mini_bert() -> Masked:
    """The masked language model that comes with the book; each call gives one of its own, which may be trained on.

    `cl_lib.pretraining` made it from public domain text (`cl_lib.datasets.text.reading`) and says what it reaches.
    Raises: DataError when a file is missing or is not the one it should be.
    """
    return Masked(_bundled(MiniBert, "mini_bert"), _tokenizer("mini_bert"))


def mini_gpt(size: str = "base") -> Tokenized:
    """The causal language model that comes with the book, or with size="small" its weaker sibling; as `mini_bert`.

    Both have one tokenizer. They have seen no end token: decoders stop by length.
    Raises: InputError for an unknown size; DataError as `mini_bert`.
    """
    sizes = {"base": "mini_gpt", "small": "mini_gpt_small"}
    if size not in sizes:
        raise unknown("size of mini-gpt", size, sizes)
    return Tokenized(_bundled(GPT, sizes[size]), _tokenizer("mini_gpt"))


def _bundled(kind: type[nn.Module], name: str) -> nn.Module:
    shape, weights = _weights(name)
    model = kind(**shape, seed=0)
    model.load_state_dict({k: v.float() for k, v in weights.items()})
    return model.eval()


@lru_cache
def _weights(name: str) -> tuple[dict[str, int], dict[str, torch.Tensor]]:
    with safe_open(locate(FILES[f"{name}.safetensors"])[0], "pt") as file:
        return json.loads(file.metadata()["shape"]), {k: file.get_tensor(k) for k in file.keys()}


def _tokenizer(name: str):
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(locate(FILES[f"{name}_tokenizer.json"])[0]))


FILES = {name: File(name, sha256, (Mirror("bundled", name), Mirror("folder", name))) for name, sha256 in {
    "mini_bert.safetensors": "55b75a2a1dac1f2ac340f1b4fd196cd9f3bf07dd8566918d17785632c32d62f9",
    "mini_bert_tokenizer.json": "0cb8fa8aab4ea782f892c596a3524db9d9f45aa4c0eda2639a84187bd91f77d3",
    "mini_gpt.safetensors": "1f55de6ece478a21aa37b227e3c98a5a164491ccf93bb59d12c453d928b1516f",
    "mini_gpt_small.safetensors": "d7076d0200f2a397e8ad89a77186c9030a92da03dd252c4c6669703b6be4eb3d",
    "mini_gpt_tokenizer.json": "1c41391a8a9af60e0b702ae260d64244fa48e625d6d40a74af921525e9400065",
}.items()}
