"""Word problems of a few steps with written reasoning, made by a grammar: each has one answer, and traps to copy from."""
import random
from dataclasses import dataclass

import torch

from cl_lib.errors import InputError

NAMES = ("tom", "ann", "ben", "eva", "sam", "mia")
THINGS = ("apples", "books", "coins", "pens", "cards", "shells")
LARGEST = 12
GAIN, LOSS = ("buys", "finds", "gets"), ("loses", "sells", "eats")
TOKENS = ("<pad>", "<start>", "<end>", *NAMES, *THINGS, *GAIN, *LOSS, "has", "more", "how", "many", "?", ".", "so", "+", "-", "=", "answer", "then",
          *(str(i) for i in range(LARGEST + 1)))
NUMBER = {token: i for i, token in enumerate(TOKENS)}


@dataclass(frozen=True)
class Problem:
    """A question, its reasoning and answer as token names; `steps` are the (operation, operand) that count."""
    question: tuple[str, ...]
    reasoning: tuple[str, ...]
    answer: int
    steps: tuple[tuple[str, int], ...]


def problem(rng: random.Random, steps: int, *, others: int = 1) -> Problem:
    """Someone has some things, then buys, finds, loses... some more times; sentences about another person stand between.

    All intermediate results lie in 0..12. The reasoning repeats each step that counts as "so 7 + 3 = 10 ." and ends in
    "answer 10 <end>". `others` is how many sentences tell of someone else, which do not count.
    Raises: InputError for fewer than one step.
    """
    if steps < 1:
        raise InputError(f"steps must be at least 1, not {steps}")
    who, other = rng.sample(NAMES, 2)
    what = rng.choice(THINGS)
    total = rng.randint(1, LARGEST - 5)
    sentences, reasoning, done = [[who, "has", str(total), what, "."]], [], []
    for _ in range(steps):
        up = rng.random() < 0.5 if 0 < total < LARGEST else total == 0
        by = rng.randint(1, min(6, LARGEST - total) if up else min(6, total))
        sentences.append(["then", who, rng.choice(GAIN if up else LOSS), str(by), what, "."])
        after = total + by if up else total - by
        reasoning += ["so", str(total), "+" if up else "-", str(by), "=", str(after), "."]
        done.append(("+" if up else "-", by))
        total = after
    for _ in range(others):
        sentences.insert(rng.randint(1, len(sentences)), ["then", other, rng.choice(GAIN + LOSS), str(rng.randint(1, 6)), what, "."])
    question = [token for sentence in sentences for token in sentence] + ["how", "many", what, "has", who, "?"]
    return Problem(tuple(question), (*reasoning, "answer", str(total), "<end>"), total, tuple(done))


def problems(n: int, seed: int, *, steps: tuple[int, ...] = (2, 3), others: tuple[int, ...] = (0, 1, 2)) -> list[Problem]:
    """n problems, their numbers of steps and of other people's sentences drawn from those given; the same for the same seed."""
    rng = random.Random(seed)
    return [problem(rng, rng.choice(steps), others=rng.choice(others)) for _ in range(n)]


def ids(tokens) -> list[int]:
    """Token names -> their numbers. Raises: InputError for an unknown token."""
    if unknown := next((t for t in tokens if t not in NUMBER), None):
        raise InputError(f"unknown token {unknown!r}")
    return [NUMBER[t] for t in tokens]


def padded(rows: list[list[int]]) -> torch.Tensor:
    """Rows of numbers, filled with <pad> (0) to the longest, (n, l) int64."""
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])
