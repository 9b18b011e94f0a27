"""A vocabulary with the word-piece vectors of a language model: where a small model that is trained from scratch may start."""
import json
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import StringIO

import torch

from cl_lib.datasets.sources import cached, locate
from cl_lib.datasets.thesaurus import thesaurus
from cl_lib.encoders.text import SMOLLM2
from cl_lib.errors import InputError, unknown

PAD, UNKNOWN, MASK, DEL = range(4)
SPECIAL = ("[PAD]", "[UNK]", "[MASK]", "[DEL]")
VERSIONS = ("full", "slice")


@dataclass(frozen=True)
class Vocabulary:
    """Sentences as numbers of pieces, and a vector for each piece.

    Shapes: ids (t,) int64, start (n + 1,) int64, table (v, d) float32 with a mean square of about 1; pieces are the v names,
    where a blank in front begins a word; the first four are [PAD], with the vector 0, and [UNK], [MASK] and [DEL], with random
    ones of the size of the others: next to 0 the vector of a position would be all that a layer norm shows of them.
    texts are the n sentences, each once.
    """
    texts: tuple[str, ...]
    ids: torch.Tensor
    start: torch.Tensor
    pieces: tuple[str, ...]
    table: torch.Tensor
    version: str

    @cached_property
    def _index(self) -> dict[str, int]:
        return {text: i for i, text in enumerate(self.texts)}

    def find(self, texts: Sequence[str]) -> torch.Tensor:
        """Which sentences these are, (len(texts),). Raises: InputError for one that is not among them."""
        if missing := next((t for t in texts if t not in self._index), None):
            raise InputError(f"the vocabulary has read no sentence {missing[:60]!r}")
        return torch.tensor([self._index[t] for t in texts])

    def batch(self, index: torch.Tensor, *, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        """ids (b, l), padded with PAD, and lengths (b,); sentences are cut after `longest` pieces."""
        first, lengths = self.start[index], self.start.diff()[index].clamp(max=longest)
        at = torch.arange(int(lengths.max()))
        inside = at < lengths[:, None]
        return self.ids[(first[:, None] + at).where(inside, first[:, None])].masked_fill(~inside, PAD), lengths

    def synonyms(self) -> torch.Tensor:
        """Candidates (v, k) of each piece that is a whole word, as `views.text.substitution` wants them: -1 where there are fewer.

        They are WordNet's (`thesaurus`), as far as they are single pieces of the vocabulary too.
        """
        number = {piece[1:]: i for i, piece in enumerate(self.pieces) if piece.startswith(" ")}
        known = thesaurus([w for w in number if w.isalpha() and w.islower()], version=self.version)
        found = {number[w]: [number[o] for o in entry.synonyms if o in number] for w, entry in known.items()}
        table = torch.full((len(self.pieces), max(1, *map(len, found.values()))), -1)
        for i, others in found.items():
            table[i, :len(others)] = torch.tensor(others, dtype=torch.int64)
        return table


def vocabulary(train: Sequence[str], others: Sequence[str], *, d: int = 64, least: int = 2, version: str = "full") -> Vocabulary:
    """The pieces that occur at least `least` times in `train`, and all sentences in them; any other piece is [UNK]. Cached.

    The pieces are those of SmolLM2-135M's tokenizer, their vectors its input embeddings (4-bit weights, 576 dimensions),
    projected onto the d directions in which the vectors of the kept pieces, around their mean, have most of their square.
    "slice", for runs that only show that code works, has words for pieces and a random vector for each.
    Raises: InputError for no sentences, an unknown version, d or least out of range; DataError when the model is not to be had.
    """
    if version not in VERSIONS:
        raise unknown("version of the vocabulary", version, VERSIONS)
    if not train or not 1 <= d <= 576 or least < 1:
        raise InputError(f"train must not be empty, d in 1..576 and least at least 1, not {len(train)} sentences, {d} and {least}")
    return _vocabulary(tuple(dict.fromkeys(train)), tuple(dict.fromkeys(others)), d, least, version)


@lru_cache(maxsize=2)
def _vocabulary(train, others, d, least, version) -> Vocabulary:
    texts = tuple(dict.fromkeys(train + others))
    if version == "slice":
        read = [[f" {word.strip('.,').lower()}" for word in text.split()] or [" "] for text in texts]
        names = sorted({piece for text in read for piece in text})
        number = {piece: i for i, piece in enumerate(names)}
        kept = {"ids": torch.tensor([number[piece] for text in read for piece in text]),
                "start": torch.tensor([0] + [len(text) for text in read]).cumsum(0)}
    else:
        kept = cached("smollm2-ids", lambda: _read(texts), of=json.dumps({"model": SMOLLM2.sha256, "texts": texts}))
        names = None
    seen = torch.bincount(kept["ids"][:kept["start"][len(train)]], minlength=int(kept["ids"].max()) + 1)
    own = (seen >= least).nonzero()[:, 0]
    place = torch.full((len(seen),), UNKNOWN)
    place[own] = torch.arange(len(own)) + len(SPECIAL)
    if version == "slice":
        vectors = torch.randn(len(own), d, generator=torch.Generator().manual_seed(0))
        pieces = [names[i] for i in own.tolist()]
    else:
        vectors, pieces = _projected(own, d), _names(own)
    special = torch.randn(len(SPECIAL), d, generator=torch.Generator().manual_seed(1))
    special[PAD] = 0
    return Vocabulary(texts, place[kept["ids"]], kept["start"], (*SPECIAL, *pieces), torch.cat([special, vectors]), version)


def _projected(own: torch.Tensor, d: int) -> torch.Tensor:
    def make() -> dict[str, torch.Tensor]:
        from gguf import GGUFReader
        from gguf.quants import dequantize

        reader = GGUFReader(locate(SMOLLM2)[0])
        tensor = next(t for t in reader.tensors if t.name == "token_embd.weight")
        x = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type))[own].double()
        x = x - x.mean(0)
        x = x @ torch.linalg.eigh(x.T @ x).eigenvectors.flip(1)[:, :d]
        return {"vectors": (x / x.square().mean().sqrt()).float()}

    return cached("smollm2-table", make, of=json.dumps({"model": SMOLLM2.sha256, "own": own.tolist(), "d": d}))["vectors"]


@lru_cache
def _tokenizer():
    from transformers import AutoTokenizer

    path = locate(SMOLLM2)[0]
    with redirect_stderr(StringIO()):  # the reader of this format draws a progress bar that cannot be turned off
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def _read(texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """A blank goes in front, so that the first word is the same piece as elsewhere."""
    read = _tokenizer()([f" {text}" for text in texts]).input_ids
    return {"ids": torch.tensor([i for text in read for i in text]), "start": torch.tensor([0] + [len(text) for text in read]).cumsum(0)}


def _names(own: torch.Tensor) -> list[str]:
    def make() -> dict[str, torch.Tensor]:
        names = "\n".join(_tokenizer().convert_ids_to_tokens(own.tolist()))  # a line end of a piece itself is written otherwise
        return {"utf8": torch.frombuffer(bytearray(names.encode()), dtype=torch.uint8)}

    kept = cached("smollm2-names", make, of=json.dumps({"model": SMOLLM2.sha256, "own": own.tolist()}))
    return bytes(kept["utf8"].tolist()).decode().replace("Ġ", " ").split("\n")
