"""Emoji as a fixed set of captioned pictures, and what a language model that never saw a picture says of the captions."""
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

from cl_lib.datasets.emoji import Emoji, emoji, split
from cl_lib.datasets.sources import cached
from cl_lib.encoders.text import sentence_encoder
from cl_lib.errors import unknown
from cl_lib.evaluation import ari, kmeans, ridge_probe
from cl_lib.image_text import caption, embed_images, tokens
from cl_lib.training import generator


@dataclass(frozen=True)
class Pairs:
    """Pictures by the artists of training, each with one caption that it keeps, as a web collection has them.

    Shapes: x (n, 3, 32, 32) uint8; captions n strings; concept (n,) int64 numbers into the emoji.
    """
    x: torch.Tensor
    captions: tuple[str, ...]
    concept: torch.Tensor

    def __len__(self) -> int:
        return len(self.captions)


def captioned(data: Emoji, seed: int, part: str = "test", *, kind: float = 0.2, shuffled: bool = False) -> Pairs:
    """The seen concepts by the artists of training (`split(data, seed, part)`), captions drawn once and for all for every artist.

    `kind` is the chance that a caption names the subgroup, as in `caption`. With `shuffled` the captions go to the wrong pictures,
    in an order drawn from the seed. Raises: InputError for an unknown part or a chance outside 0..1.
    """
    artists, seen = (s := split(data, seed, part)).artists, s.seen
    captions = [c for a in artists for c in caption(data, seen, generator(a, stream=12), kind=kind)]
    if shuffled:
        captions = [captions[i] for i in torch.randperm(len(captions), generator=generator(seed, stream=13)).tolist()]
    return Pairs(torch.cat([data.x[a][seen] for a in artists]), tuple(captions), seen.repeat(len(artists)))


def probes(image: Callable[[torch.Tensor], torch.Tensor], data: Emoji, seed: int, part: str = "test", *,
           device: str | torch.device = "cpu") -> dict[str, float]:
    """What image features know of the subgroups, on the pictures by the artist who was left out of training.

    "probe": accuracy of a linear least-squares classifier that has the labels of the pictures of training; "ari": agreement of k-means
    clusters, as many as subgroups, with the subgroups. Both on the concepts `queries` and `unseen` of `split(data, seed, part)`.
    """
    s, pairs = split(data, seed, part), captioned(data, seed, part)
    at = torch.cat([s.queries, s.unseen])
    h, test = (embed_images(image, x, device) for x in (pairs.x, data.x[s.artist][at]))
    y = data.subgroup[at]
    return {"probe": ridge_probe(h, data.subgroup[pairs.concept], test, y), "ari": ari(y, kmeans(test, len(y.unique()), seed=seed, restarts=3)[0])}


def caption_vectors(captions: tuple[str, ...], *, version: str = "full", d: int = 64) -> torch.Tensor:
    """Unit vectors (n, d) of captions: MiniLM-L6 reduced to its first d principal components over all emoji captions.

    The captions are those of `captioned` as it is by default. Cached on disk; about 30 s the first time. `version="slice"` is a
    stand-in that needs no model, for smoke: the mean of a fixed random vector a word.
    Raises: InputError for an unknown version; DataError when the model is not to be had; KeyError for another caption.
    """
    if version not in ("full", "slice"):
        raise unknown("version", version, ("full", "slice"))
    if version == "slice":
        every = {w: torch.randn(d, generator=generator(sum(map(ord, w)))) for c in captions for w in tokens(c)}
        return F.normalize(torch.stack([torch.stack([every[w] for w in tokens(c)]).mean(0) for c in captions]), dim=1)
    place, vectors = _teacher(d)
    return vectors[[place[c] for c in captions]]


@lru_cache
def _teacher(d: int) -> tuple[dict[str, int], torch.Tensor]:
    data = emoji("full")
    texts = sorted({c for seed in range(len(data.artists)) for c in captioned(data, seed).captions})

    def make():
        z = sentence_encoder("minilm")(texts)
        z = z - z.mean(0)
        return {"z": F.normalize(z @ torch.linalg.svd(z, full_matrices=False)[2][:d].T, dim=1)}

    return {c: i for i, c in enumerate(texts)}, cached("caption-teacher", make, of="\n".join([str(d), *texts]))["z"]
