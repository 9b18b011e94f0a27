"""Pictures and words of emoji: captions, a vocabulary, two small towers, retrieval and zero-shot classification."""
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from cl_lib.datasets.emoji import Emoji, Split
from cl_lib.encoders.image import seeded, small_cnn
from cl_lib.encoders.text import TokenEncoder
from cl_lib.errors import InputError
from cl_lib.training import batches

LONGEST = 8  # words of a caption; what comes later is cut


def tokens(text: str) -> list[str]:
    """The lower-case words and numbers of a text."""
    return re.findall(r"[^\W_]+", text.lower())


class Words:
    """A vocabulary: texts -> numbers of words. 0 pads, 1 stands for every word that it does not know."""

    def __init__(self, known: Sequence[str]):
        self.known = tuple(known)
        self._place = {word: i + 2 for i, word in enumerate(self.known)}

    def __len__(self) -> int:
        return len(self.known) + 2

    def __call__(self, texts: Sequence[str], device: str | torch.device = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
        """ids (n, l) int64, padded to the longest text, and lengths (n,). Raises: InputError for a text without a word."""
        rows = [[self._place.get(word, 1) for word in tokens(text)[:LONGEST]] for text in texts]
        if not all(rows):
            raise InputError(f"text {next(i for i, row in enumerate(rows) if not row)} has no word")
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
        return ids, torch.tensor([len(row) for row in rows], device=device)


def vocabulary(data: Emoji, index: torch.Tensor, *, least: int = 1) -> Words:
    """The words of names, keywords and subgroups of these concepts, the frequent first, those in fewer than `least` concepts left out."""
    counts = Counter(word for i in index.tolist() for word in sorted({w for s in sentences(data, i) for w in tokens(s)}))
    return Words([word for word, count in sorted(counts.items(), key=lambda c: (-c[1], c[0])) if count >= least])


def sentences(data: Emoji, i: int, *, kind: bool = True) -> list[str]:
    """All that is said of concept i: its name, each keyword, and with `kind` its subgroup ("animal mammal")."""
    return [data.names[i], *data.keywords[i], *([described(data.subgroups[data.subgroup[i]])] if kind else [])]


def described(subgroup: str) -> str:
    """A subgroup as words: "animal-mammal" -> "animal mammal"."""
    return subgroup.replace("-", " ")


def caption(data: Emoji, index: torch.Tensor, g: torch.Generator, *, name: float = 0.5, kind: float = 0.2, most: int = 4,
            wrong: float = 0.2) -> list[str]:
    """A caption for each concept: its subgroup (chance `kind`), else its name (chance `name`), else 1 to `most` of its keywords.

    A concept without keywords gets its name. Then in a share `wrong` of all captions one word gives way to a word of the name or
    the keywords of a concept drawn from `index`. The subgroup's words stand in some captions, in most they do not.
    Shapes: index (n,) -> n strings. Raises: InputError for chances outside 0..1 or most below 1.
    """
    if not all(0 <= chance <= 1 for chance in (name, kind, wrong)) or most < 1:
        raise InputError(f"name, kind and wrong must be in 0..1 and most at least 1, not {name}, {kind}, {wrong} and {most}")
    u = torch.rand(len(index), 7, generator=g).tolist()
    concepts, out = index.tolist(), []
    for i, (form, longer, count, spoilt, place, other, which) in zip(concepts, u, strict=True):
        keywords = data.keywords[i]
        if form < kind:
            words = tokens(described(data.subgroups[data.subgroup[i]]))
        elif not keywords or longer < name:
            words = tokens(data.names[i])
        else:
            order = torch.randperm(len(keywords), generator=g)[:1 + int(count * most)].tolist()
            words = [w for k in order for w in tokens(keywords[k])]
        words = words[:LONGEST]
        if spoilt < wrong:
            j = concepts[int(other * len(concepts))]
            pool = [w for s in (data.names[j], *data.keywords[j]) for w in tokens(s)]
            words[int(place * len(words))] = pool[int(which * len(pool))]
        out.append(" ".join(words))
    return out


class Towers(nn.Module):
    """CLIP's two towers, small: a CNN and a transformer on words, each with a linear map to unit vectors of `d` dimensions.

    `log_scale` is the learnt logarithm of 1 / tau, 1 / 0.07 at first and at most 100 (2103.00020 section 2.5).
    """

    def __init__(self, words: int, *, width: int = 16, d_text: int = 64, layers: int = 2, d: int = 64, dropout: float = 0.0,
                 seed: int | None = None):
        super().__init__()
        self.cnn = small_cnn(width=width, seed=seed)
        self.transformer = TokenEncoder(words, d_text, longest=LONGEST, layers=layers, dropout=dropout, seed=seed)
        with seeded(seed):
            self.from_image, self.from_text = nn.Linear(self.cnn.dim, d, bias=False), nn.Linear(d_text, d, bias=False)
            nn.init.normal_(self.transformer.tokens.weight, std=1)  # of 0.02 the position of a word would outweigh the word
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    @property
    def tau(self) -> torch.Tensor:
        return (-self.log_scale.clamp(max=torch.tensor(100.0).log().item())).exp()

    def image(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (n, 3, h, w) -> unit vectors (n, d)."""
        return F.normalize(self.from_image(self.cnn(x)), dim=1)

    def text(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Words as `Words` gives them -> unit vectors (n, d)."""
        return F.normalize(self.from_text(self.transformer(ids, lengths)), dim=1)


def paired_batches(part: Split, size: int, g: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of (artist, concept), (size,) each: no concept twice in a batch, each by one of the artists of training.

    Raises: InputError when size is above the number of concepts.
    """
    artists = torch.tensor(part.artists)
    for order in batches(len(part.seen), size, g):
        yield artists[torch.randint(len(artists), (size,), generator=g)], part.seen[order]


@torch.no_grad()
def embed_texts(towers: Towers, words: Words, texts: Sequence[str], device: str | torch.device = "cpu") -> torch.Tensor:
    """Unit vectors of texts, in evaluation mode, on the CPU: (n, d)."""
    towers.eval()
    return torch.cat([towers.text(*words(texts[at:at + 500], device)).cpu() for at in range(0, len(texts), 500)])


@torch.no_grad()
def embed_images(image: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, device: str | torch.device = "cpu") -> torch.Tensor:
    """`image` of pictures in pieces, on the CPU; set the evaluation mode before. Shapes: x (n, 3, h, w) -> (n, d)."""
    return torch.cat([image(p.to(device)).float().cpu() for p in x.split(500)])


def retrieval(towers: Towers, words: Words, data: Emoji, part: Split, device: str | torch.device = "cpu") -> dict[str, float]:
    """Which name belongs to a picture by the held-out artist: "r1" and "r5", the share of `queries` whose name is among the first.

    The candidates are the names of all concepts, unseen ones too.
    """
    towers.eval()
    z = embed_images(towers.image, data.x[part.artist][part.queries], device)
    s = z @ embed_texts(towers, words, data.names, device).T
    rank = (s > s.gather(1, part.queries[:, None])).sum(1)
    return {"r1": (rank < 1).double().mean().item(), "r5": (rank < 5).double().mean().item()}


def zero_shot(towers: Towers, words: Words, data: Emoji, part: Split, device: str | torch.device = "cpu") -> float:
    """Accuracy of the nearest subgroup's words for pictures of concepts that training has not met, by all artists.

    The candidates are the subgroups of the concepts of training. Concepts of a subgroup that training lacks are left out.
    """
    towers.eval()
    classes = data.subgroup[part.seen].unique()
    unseen = part.unseen[torch.isin(data.subgroup[part.unseen], classes)]
    texts = embed_texts(towers, words, [described(data.subgroups[c]) for c in classes], device)
    hits = [classes[(embed_images(towers.image, x[unseen], device) @ texts.T).argmax(1)] == data.subgroup[unseen] for x in data.x]
    return torch.cat(hits).double().mean().item()
