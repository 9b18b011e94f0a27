"""Scenes of clothes that like to come in pairs, with captions and yes/no questions whose words alone give much away."""
from dataclasses import dataclass

import torch

from cl_lib.datasets.scenes import CLOTHES, SIDE, scenes
from cl_lib.errors import InputError

PAIRS = (("tshirt", "trouser"), ("dress", "sandal"), ("pullover", "boot"), ("coat", "bag"), ("shirt", "sneaker"))
COMPANION = torch.tensor([CLOTHES.index(dict((*PAIRS, *(p[::-1] for p in PAIRS)))[c]) for c in CLOTHES])
YES_SHARE = 0.75  # of the questions of training
DENIED = torch.tensor([1., 3., 5., 7., 9., 9., 7., 5., 3., 1.])  # how readily a class that is not there is asked for in training
WORDS = ("<pad>", "<start>", "<end>", "<unk>", "a", "photo", "of", ",", ".", "is", "there", "?", "yes", "no", *CLOTHES)
NUMBER = {word: i for i, word in enumerate(WORDS)}
PAD, START, END, UNK, YES, NO = (NUMBER[w] for w in ("<pad>", "<start>", "<end>", "<unk>", "yes", "no"))
NOUNS = torch.tensor([NUMBER[c] for c in CLOTHES])
PROMPT = [START, *(NUMBER[w] for w in "a photo of a".split())]  # how each caption begins


@dataclass(frozen=True)
class Album:
    """Scenes of two or three items of different classes.

    Shapes: x (n, 3, 48, 48) uint8; objects (n, 4) int64, the class that stands in each of the four places of
    `cl_lib.datasets.scenes`, -1 where nothing stands; there (n, 10) bool, which classes a scene has.
    """
    x: torch.Tensor
    objects: torch.Tensor
    there: torch.Tensor

    def __len__(self) -> int:
        return len(self.x)


def album(split: str, n: int, *, seed: int = 0, together: float = 0.8, items: int = 4_000) -> Album:
    """n scenes of two or three tinted items of Fashion-MNIST: an item, with chance `together` its class's companion of PAIRS, and in
    half of the scenes one more; what is not drawn as a companion is drawn evenly from the classes that are not there yet.

    A scene is laid together from scenes of one item each, `items` of which are made; an item may stand in several scenes.
    The same seed gives the same scenes in every process.
    Raises: InputError for n below 1, together outside 0..1, or so few items that some class is missing from some place.
    """
    if n < 1 or not 0 <= together <= 1:
        raise InputError(f"n must be at least 1 and together in 0..1, not {n} and {together}")
    single = scenes(split, items, seed=seed, most=1)
    at = (single.objects >= 0).long().argmax(1)
    group = single.objects.amax(1) * 4 + at
    members = [torch.nonzero(group == i)[:, 0] for i in range(4 * len(CLOTHES))]
    if not all(map(len, members)):
        raise InputError(f"with {items} items some class is missing from some place; take more")
    g = torch.Generator().manual_seed(7 * seed + 5)
    first = torch.randint(len(CLOTHES), (n,), generator=g)
    second = _other(first[:, None], g).where(torch.rand(n, generator=g) >= together, COMPANION[first])
    third = _other(torch.stack([first, second], 1), g).where(torch.rand(n, generator=g) < 0.5, torch.tensor(-1))
    place, chance = torch.rand(n, 4, generator=g).argsort(1), torch.rand(n, 3, generator=g)
    x, objects = torch.zeros(n, 3, SIDE, SIDE, dtype=torch.uint8), torch.full((n, 4), -1)
    for k, c in enumerate((first, second, third)):
        for i, members_here in enumerate(members):
            rows = torch.nonzero((c == i // 4) & (place[:, k] == i % 4))[:, 0]
            x[rows] += single.x[members_here[(chance[rows, k] * len(members_here)).long()]]
            objects[rows, i % 4] = i // 4
    there = torch.zeros(n, len(CLOTHES) + 1, dtype=torch.bool).scatter_(1, objects % (len(CLOTHES) + 1), True)[:, :-1]
    return Album(x, objects, there)


def _other(taken: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """A class drawn evenly from those that are not taken; taken (n, k) -> (n,)."""
    return torch.rand(len(taken), len(CLOTHES), generator=g).scatter_(1, taken, -1).argmax(1)


def captions(objects: torch.Tensor) -> torch.Tensor:
    """Words of "a photo of a coat , a bag .", the items in the order of the places, with start and end, padded: (n, 4) -> (n, l)."""
    rows = []
    for here in objects.tolist():
        nouns = [NUMBER[CLOTHES[o]] for o in here if o >= 0]
        said = [t for noun in nouns for t in (NUMBER["a"], noun, NUMBER[","])][1:-1]
        rows.append([*PROMPT, *said, NUMBER["."], END])
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])


def asked(classes: torch.Tensor) -> torch.Tensor:
    """Words of "<start> is there a coat ?" for each class: (n,) -> (n, 6)."""
    frame = torch.tensor([START, *(NUMBER[w] for w in "is there a".split()), 0, NUMBER["?"]]).repeat(len(classes), 1)
    frame[:, 4] = NOUNS[classes.to("cpu")]
    return frame


def skewed_questions(there: torch.Tensor, g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A question for each scene as training has them: three of four are answered by yes, and some classes are denied more often than others.

    A question with the answer yes is about a class that is there, evenly; one with the answer no about one that is not, in
    proportion to DENIED. Shapes: there (n, 10) bool -> classes asked for (n,), whether the answer is yes (n,) bool.
    """
    yes = torch.rand(len(there), generator=g) < YES_SHARE
    weight = torch.where(yes[:, None], there.float(), (~there).float() * DENIED)
    return torch.multinomial(weight, 1, generator=g)[:, 0], yes


def adversarial_questions(there: torch.Tensor, g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A question for each scene as POPE's adversarial test has them: every other answer is yes, and the no's ask for what likes to be there.

    In rows 0, 2, 4... a class of the scene is asked for, evenly; in the others a companion, itself not there, of a class that is,
    or, where all companions are there, any class that is not. Shapes as `skewed_questions`. Source: 2305.10355 (POPE).
    """
    lured = torch.zeros_like(there)
    lured[:, COMPANION] = there
    lured &= ~there
    lured = torch.where(lured.any(1, keepdim=True), lured, ~there)
    yes = torch.arange(len(there)) % 2 == 0
    return torch.multinomial(torch.where(yes[:, None], there, lured).float(), 1, generator=g)[:, 0], yes
