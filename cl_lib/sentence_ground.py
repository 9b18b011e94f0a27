"""The ground of the sentence papers: a frozen language model's tokens, who may be trained on, human scores, the judges."""
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import nn

from cl_lib import evaluation
from cl_lib.datasets.text import Pairs, sick, stsb, unlabelled_sentences
from cl_lib.encoders.text import Tokens, lm_tokens, slice_tokens
from cl_lib.errors import unknown

VERSIONS = ("slice", "full")
LONGEST = 24  # tokens of a sentence that training reads; the judges read all


@dataclass(frozen=True)
class Ground:
    """Tokens of all sentences, those to train on among them, and the pairs that people have scored.

    train (n,) int64 points into `tokens`; pairs[set, split] for the sets stsb and (full version) sick, and the splits
    validation and test.
    """
    tokens: Tokens
    train: torch.Tensor
    pairs: dict[tuple[str, str], Pairs]
    version: str
    layer: int
    d: int

    def read(self, texts: Sequence[str]) -> Tokens:
        """What the same frozen layers say of other texts, edited sentences for instance, in the same projection; cached.

        In the slice version, which has no language model at hand, each word is a fixed random vector: a stand-in of the
        right shape that serves runs at `smoke` alone.
        """
        if self.version == "full":
            return lm_tokens(texts, fit=unlabelled_sentences(), layer=self.layer, d=self.d)
        texts = tuple(dict.fromkeys(texts))
        parts = [torch.stack([_stand_in(word, self.d) for word in text.split() or [""]]) for text in texts]
        return Tokens(texts, torch.cat(parts), torch.tensor([0] + [len(p) for p in parts]).cumsum(0))


@lru_cache(maxsize=4)
def ground(version: str = "full", *, layer: int = 6, d: int = 64) -> Ground:
    """SmolLM2-135M's tokens after `layer` layers in d dimensions: training sentences of STS-B and SICK, pairs of both.

    "slice" has the bundled sentences of STS-B alone, at layer 6 in 32 dimensions whatever is asked for. In the full version
    the first call at a layer reads 20,000 sentences (about four minutes on one core at layer 6); later ones read the cache.
    Raises: InputError for an unknown version; DataError when the data or the model are not to be had.
    """
    if version not in VERSIONS:
        raise unknown("version", version, VERSIONS)
    sets = {"stsb": stsb} | ({"sick": sick} if version == "full" else {})
    pairs = {(name, split): read(split, version=version) if name == "stsb" else read(split)
             for name, read in sets.items() for split in ("validation", "test")}
    sentences = unlabelled_sentences(version=version)
    if version == "slice":
        tokens, layer, d = slice_tokens(), 6, 32
    else:
        tokens = lm_tokens([*sentences, *(s for p in pairs.values() for s in p.a + p.b)], fit=sentences, layer=layer, d=d)
    return Ground(tokens, tokens.find(sentences), pairs, version, layer, d)


class WithHead(nn.Module):
    """SimCSE's head, linear and tanh, stands between encoder and loss in training; at test the encoder speaks for itself.

    Shapes: those of the encoder, (x, mask) -> (n, d). Source: 2104.08821 section 6.3.
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder, self.head = encoder, nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.Tanh())

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        h = self.encoder(x, mask)
        return self.head(h) if self.training else h


@torch.no_grad()
def encode(encoder: nn.Module, tokens: Tokens, index: torch.Tensor) -> torch.Tensor:
    """Sentence vectors (len(index), d) without dropout; the encoder is left in the mode it was in."""
    training = encoder.training
    encoder.eval()
    order = tokens.start.diff()[index].argsort()  # sentences of like length together, so that little is padded
    h = torch.cat([encoder(*tokens.batch(index[part])) for part in order.split(250)])
    encoder.train(training)
    return h[order.argsort()]


def sts(encoder: nn.Module, ground: Ground, split: str) -> dict[str, float]:
    """Spearman's correlation of cosines with human scores, times 100, of each set, and their mean as `sts_spearman`."""
    found = {f"{name}_spearman": evaluation.sts_spearman(*(encode(encoder, ground.tokens, ground.tokens.find(side)) for side in (p.a, p.b)), p.scores)
             for (name, part), p in ground.pairs.items() if part == split}
    return {"sts_spearman": sum(found.values()) / len(found), **found}


def shape(encoder: nn.Module, ground: Ground, split: str) -> dict[str, float]:
    """STS-B's cloud: alignment of the pairs scored 4 and more, uniformity, share of the first direction (not centred)."""
    rated = ground.pairs["stsb", split]
    a, b = (encode(encoder, ground.tokens, ground.tokens.find(side)) for side in (rated.a, rated.b))
    close, both = rated.scores >= 4, torch.cat([a, b])
    return {"alignment": evaluation.alignment(a[close], b[close]), "uniformity": evaluation.uniformity(both),
            "top_direction": evaluation.top_variance_share(F.normalize(both, dim=1), center=False)}


@lru_cache(maxsize=10_000)
def _stand_in(word: str, d: int) -> torch.Tensor:
    return torch.randn(d, generator=torch.Generator().manual_seed(zlib.crc32(word.encode()))).half()
