"""Composed scenes: a few real pictures of clothes and digits, tinted and placed on a canvas, and captions that say what is where."""
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

from cl_lib.datasets.image import SPLITS, fashion_mnist, mnist
from cl_lib.errors import InputError, unknown

SIDE, CELL, ITEM = 48, 24, 14  # pixels of the canvas, of one of its four places, of an item at half its size
PLACES = ("top left", "top right", "bottom left", "bottom right")
COLOURS = {"red": (1, .1, .1), "green": (.1, .85, .2), "blue": (.25, .35, 1), "yellow": (1, .9, .1), "pink": (1, .3, .8), "cyan": (.1, .9, .9)}
CLOTHES = ("tshirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")  # Fashion-MNIST's classes
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VERBS = ("lies", "hangs", "stands", "floats")
CONTENT_FREE = ("new photo for sale", "click here to see more", "image of the day", "free picture to download")
KINDS = ("clean", "replaced", "drawn", "empty")
LONGEST = 16  # words of a caption
WORDS = ("", *sorted({w for group in (PLACES, COLOURS, CLOTHES, DIGITS, VERBS, CONTENT_FREE) for text in group for w in text.split()}))
_NUMBER = {word: i for i, word in enumerate(WORDS)}
# Letters of 3x5 pixels, five rows of three bits, the topmost row first.
_ROWS = dict(a="25755", b="65656", c="34443", d="65556", e="74647", f="74644", g="34553", h="55755", i="72227", j="11152", k="55655",
             l="44447", m="57755", n="65555", o="25552", p="65644", q="25573", r="65655", s="34216", t="72222", u="55557", v="55552",
             w="55775", x="55255", y="55222", z="71247")
LETTERS = {letter: torch.tensor([[int(row) >> 2 & 1, int(row) >> 1 & 1, int(row) & 1] for row in rows]).bool() for letter, rows in _ROWS.items()}
LINE = SIDE // 4  # letters in a line


@dataclass(frozen=True)
class Scenes:
    """Pictures and their captions.

    Shapes: x (n, 3, 48, 48) uint8; objects, colours (n, 4) int64, what stands in each of the four PLACES and in which of the
    COLOURS, -1 where nothing stands; nouns[o] names object o; n captions; kind (n,) int64 says which of KINDS of noise a pair
    has. `kind` is for pictures and checks; a method that reads it sees what it should find out.
    """
    x: torch.Tensor
    objects: torch.Tensor
    colours: torch.Tensor
    nouns: tuple[str, ...]
    captions: tuple[str, ...]
    kind: torch.Tensor
    split: str

    def __len__(self) -> int:
        return len(self.x)


@lru_cache(maxsize=6)
def scenes(split: str, n: int, *, seed: int = 0, digits: bool = False, most: int = 4, colour: float = 0.8, place: float = 0.6,
           action: float = 0.5, replaced: float = 0.0, drawn: float = 0.0, empty: float = 0.0) -> Scenes:
    """n scenes of 1 to `most` items of Fashion-MNIST (the bundled slice), and with `digits` half of them of MNIST.

    Each item stands at half its size, in one of six colours of varying brightness, somewhere in a place of its own. Captions come
    from `describe`, whose chances are `colour`, `place` and `action`. In a share `replaced` of the pairs the caption is that of
    another scene, in a share `drawn` the caption's words are written on the picture, in a share `empty` the caption says nothing
    about it; a pair has one of these at most.
    The same seed gives the same scenes in every process, whatever the noise: the pictures without text and the true captions stay.
    Raises: InputError for an unknown split, n below 1, most outside 1..4, or shares that are no shares; DataError when MNIST is
    wanted and not to be had.
    """
    if split not in SPLITS:
        raise unknown("split of scenes", split, SPLITS)
    if n < 1 or not 1 <= most <= len(PLACES):
        raise InputError(f"n must be at least 1 and most in 1..{len(PLACES)}, not {n} and {most}")
    if min(replaced, drawn, empty) < 0 or replaced + drawn + empty > 1:
        raise InputError(f"replaced, drawn and empty must be shares that sum to 1 at most, not {replaced}, {drawn} and {empty}")
    g = torch.Generator().manual_seed(3 * seed + SPLITS.index(split))
    sets = [fashion_mnist(split), *([mnist(split)] if digits else [])]
    taken = torch.rand(n, 4, generator=g).argsort(1).argsort(1) < torch.randint(1, most + 1, (n, 1), generator=g)
    which = torch.randint(len(sets), (n, 4), generator=g)
    hue = torch.randint(len(COLOURS), (n, 4), generator=g)
    chance, corner = torch.rand(n, 4, generator=g), torch.randint(1, CELL - ITEM, (n, 4, 2), generator=g)
    tint = torch.tensor(list(COLOURS.values()))[hue] * (0.7 + 0.3 * torch.rand(n, 4, 1, generator=g))
    x, objects = torch.zeros(n, 3, SIDE, SIDE), torch.full((n, 4), -1)
    inside = torch.arange(ITEM)
    for number, source in enumerate(sets):
        for cell in range(4):
            scene = torch.nonzero(taken[:, cell] & (which[:, cell] == number))[:, 0]
            item = (chance[scene, cell] * len(source.x)).long()
            objects[scene, cell] = source.y[item] + number * len(CLOTHES)
            grey = F.avg_pool2d(source.x[item].float() / 255, 2)
            top, left = (corner[scene, cell] + CELL * torch.tensor([cell // 2, cell % 2])).unbind(1)
            rows, columns = (top[:, None] + inside)[:, :, None], (left[:, None] + inside)[:, None]
            x[scene[:, None, None], :, rows, columns] = grey[:, 0, :, :, None] * tint[scene, cell][:, None, None]
    x, colours = x.mul_(255).round_().byte(), hue.where(taken, -1)
    nouns = CLOTHES + DIGITS if digits else CLOTHES
    captions = describe(objects, colours, nouns, g, colour=colour, place=place, action=action)
    kind = torch.bucketize(torch.rand(n, generator=g), torch.tensor([replaced, replaced + drawn, replaced + drawn + empty]), right=True)
    kind = torch.tensor([1, 2, 3, 0])[kind]
    other = ((torch.arange(n) + 1 + torch.randint(max(1, n - 1), (n,), generator=g)) % n).tolist()
    words, line = torch.randint(len(CONTENT_FREE), (n,), generator=g).tolist(), torch.randint(0, SIDE - 11, (n,), generator=g).tolist()
    said = [(captions[i], captions[other[i]], captions[i], CONTENT_FREE[words[i]])[k] for i, k in enumerate(kind.tolist())]
    for i in torch.nonzero(kind == 2)[:, 0].tolist():
        write(x[i], said[i], line[i])
    return Scenes(x, objects, colours, nouns, tuple(said), kind, split)


def describe(objects: torch.Tensor, colours: torch.Tensor, nouns: Sequence[str], g: torch.Generator, *, colour: float = 0.8,
             place: float = 0.6, action: float = 0.5) -> list[str]:
    """A caption for each scene: for each item, in random order, its colour, its noun, a verb, its place, such as "red bag lies top left".

    `colour`, `place` and `action` are the chances that a caption says the colours, the places, and has verbs; one with verbs names
    three items at most, so that no caption is longer than 16 words.
    Shapes: objects, colours (n, 4), -1 where nothing stands -> n strings.
    """
    names, u = tuple(COLOURS), torch.rand(len(objects), 11, generator=g).tolist()
    out = []
    for objects_here, colours_here, draws in zip(objects.tolist(), colours.tolist(), u, strict=True):
        has_colour, has_place, has_verb = (d < chance for d, chance in zip(draws, (colour, place, action), strict=False))
        order = sorted((p for p in range(4) if objects_here[p] >= 0), key=lambda p: draws[3 + p])
        words = []
        for p in order[:3] if has_verb else order:
            words += [names[colours_here[p]]] * has_colour + [nouns[objects_here[p]]]
            words += [VERBS[int(draws[7 + p] * len(VERBS))]] * has_verb + [PLACES[p]] * has_place
        out.append(" ".join(words))
    return out


def caption_ids(captions: Sequence[str], device: str | torch.device = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of words in WORDS: ids (n, l) int64, padded with 0 to the longest caption, and lengths (n,).

    Raises: InputError for a word that is not in WORDS, an empty caption, or one of more than 16 words.
    """
    rows = []
    for text in captions:
        words = text.split()
        if not 1 <= len(words) <= LONGEST or not all(w in _NUMBER for w in words):
            raise InputError(f"a caption has 1 to {LONGEST} words of WORDS, not {text!r}")
        rows.append([_NUMBER[w] for w in words])
    lengths = torch.tensor([len(r) for r in rows], device=device)
    longest = max(map(len, rows))
    return torch.tensor([r + [0] * (longest - len(r)) for r in rows], device=device), lengths


def write(x: torch.Tensor, text: str, top: int) -> str:
    """Write the first words of a text on a picture, in place, in white, as many as two lines of 12 letters hold; returns these words.

    Shapes: x (3, 48, 48) uint8; the lines begin at rows `top` and `top` + 6.
    """
    lines = [[]]
    for word in text.split():
        if len(" ".join([*lines[-1], word])) > LINE:
            if len(lines) == 2:
                break
            lines.append([])
        lines[-1].append(word)
    for i, words in enumerate(lines):
        for at, letter in enumerate(" ".join(words)):
            if letter != " ":
                x[:, top + 6 * i:top + 6 * i + 5, 4 * at:4 * at + 3].masked_fill_(LETTERS[letter].to(x.device), 255)
    return " ".join(" ".join(words) for words in lines)


def read(x: torch.Tensor) -> list[str]:
    """The words written on pictures, found from the pixels alone: "" where there is none.

    A line is a row of cells of 3x5 white pixels that all are letters or blank, with no white above, below and between. It knows
    the letters and where in a line they may stand; that is easier than reading photographs.
    Shapes: x (n, 3, 48, 48) uint8 -> n strings.
    """
    code = 1 << torch.arange(15)
    letter_of = {int((shape.flatten() * code).sum()): letter for letter, shape in LETTERS.items()} | {0: " "}
    white = F.pad((x >= 250).all(1), (0, 0, 1, 1))
    out = [""] * len(x)
    for i in torch.nonzero(white.flatten(1).any(1))[:, 0].tolist():
        lines, top = [], 1
        while top <= SIDE - 4:
            rows = white[i, top:top + 5].view(5, LINE, 4)
            if rows.any() and not rows[..., 3].any() and not white[i, top - 1].any() and not white[i, top + 5].any():
                codes = (rows[..., :3].permute(1, 0, 2).flatten(1) * code).sum(1).tolist()
                if all(c in letter_of for c in codes):
                    lines.append("".join(letter_of[c] for c in codes))
                    top += 5
            top += 1
        out[i] = " ".join(" ".join(lines).split())
    return out
