"""Small language models of this book's own: a causal transformer that trains on a CPU, and its pretrained copies."""
import json
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
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
    layer's states after the norm, (n, l, d), which the output layer sees; `extra` (n, l, d), such as an image's tokens in
    front, is added to the embeddings. `read` is the side that the decoders of `cl_lib.decoding` use.
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

    def states(self, ids: torch.Tensor, cache: Cache | None = None, *, extra: torch.Tensor | None = None) -> torch.Tensor:
        first = 0 if cache is None else len(cache)
        if first + ids.shape[1] > self.longest:
            raise InputError(f"{first + ids.shape[1]} tokens; the model reads {self.longest} at most")
        h = self.tokens(ids) + self.positions(torch.arange(first, first + ids.shape[1], device=ids.device))
        h = self.dropout(h if extra is None else h + extra)
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
        n, l, d = h.shape
        q, k, v = self.qkv(self.before(h)).view(n, l, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = cache.add(number, k, v)
        ahead = None
        if l < k.shape[2] and l > 1:  # several tokens after a cache: each sees the cache and itself
            ahead = torch.ones(l, k.shape[2], dtype=torch.bool, device=h.device).tril(k.shape[2] - l)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=ahead, is_causal=l == k.shape[2] and l > 1,
                                           dropout_p=self.p if self.training else 0.0)
        h = h + self.dropout(self.out(a.transpose(1, 2).reshape(n, l, d)))
        return h + self.dropout(self.down(F.gelu(self.up(self.between(h)))))


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
