"""A judge of meaning that takes no part in any training: how alike two texts are to a pretrained sentence encoder."""
import json
from collections.abc import Sequence

import torch

from cl_lib.datasets.sources import cached
from cl_lib.encoders.text import MINILM, sentence_encoder
from cl_lib.errors import InputError, unknown

VERSIONS = ("full", "slice")


def independent_similarity(a: Sequence[str], b: Sequence[str], *, version: str = "full") -> torch.Tensor:
    """Cosines (n,) of the texts a with the texts b, one to one, by MiniLM (`sentence_encoder`), cached.

    "slice", for runs that only show that code works, has the share of words that two texts have in common.
    Note: a sentence and its negation are alike to such an encoder, too; it judges topics better than truth.
    Raises: InputError for lists of different lengths, empty ones or an unknown version; DataError when MiniLM is not to be had.
    """
    if version not in VERSIONS:
        raise unknown("version", version, VERSIONS)
    if len(a) != len(b) or not a:
        raise InputError(f"a and b must be of one length, at least 1, not {len(a)} and {len(b)}")
    if version == "slice":
        words = [(set(x.lower().split()), set(y.lower().split())) for x, y in zip(a, b, strict=True)]
        return torch.tensor([len(x & y) / max(1, len(x | y)) for x, y in words])

    def make() -> dict[str, torch.Tensor]:
        each = {text: i for i, text in enumerate(dict.fromkeys([*a, *b]))}
        h = sentence_encoder()(list(each))
        return {"cosines": (h[[each[x] for x in a]] * h[[each[y] for y in b]]).sum(1)}

    return cached("minilm-cosines", make, of=json.dumps({"model": MINILM.sha256, "a": list(a), "b": list(b)}))["cosines"]
