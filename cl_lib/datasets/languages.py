"""Captions in three languages, and openings of children's stories: text for language models that are not about evaluation."""
import gzip
import random
from functools import lru_cache

from cl_lib.datasets.sources import File, Mirror, locate
from cl_lib.datasets.text import SPLITS
from cl_lib.errors import InputError, unknown

COMMIT = "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56/data/task1/raw"
SUMS = {("train", "de"): "8506e50eaf610b55a8286d1ce85e4098dc2a0a0fce45b4827a5409d9897a81b4",
        ("train", "en"): "ffdb848427a3fccff4f5c9c848dff8b8b5745e8f464f44341b6c5c5288f265db",
        ("train", "fr"): "c166741e192f44dd31ffa54e4b36fcefa73cf59ef25f7caa0a40d12df228f967",
        ("val", "de"): "9c3697bf5d18908e41df6a94b8a006ab64dbc66f38790865d6694136428a524d",
        ("val", "en"): "459836b7adfe4fd130d0a8c680e2860d6099fbea0fd1bdbbc7442bbc5afce59b",
        ("val", "fr"): "db0df8e33e7fc69c9873c985be40f12293fab84868137837caa3aa2b93a8b764"}
LANGUAGES = ("en", "de", "fr")
WHO = (("girl", "Lily", "She"), ("boy", "Tim", "He"), ("dog", "Max", "He"), ("cat", "Mia", "She"), ("bird", "Sue", "She"), ("boy", "Ben", "He"),
       ("girl", "Anna", "She"), ("rabbit", "Bob", "He"), ("bear", "Tom", "He"), ("girl", "Mary", "She"))
LOVES = ("to play with a ball in the park", "to eat apples from the big tree", "to sing songs in the garden", "to look at the stars at night",
         "to swim in the cold lake", "to draw pictures of the sun", "to run very fast in the woods", "to help mom bake a cake")
THEN = ("One day", "One sunny morning", "One rainy day", "One night")


@lru_cache
def multi30k(split: str, language: str) -> tuple[str, ...]:
    """Captions of Multi30K (Elliott et al. 2016, 1605.00459), one a picture: 29,000 in train, 1,014 in validation; en, de, fr, line by line parallel.

    Licence: not stated; the captions derive from Flickr30k. Raises: InputError for an unknown split or language; DataError when it is not to be had.
    """
    if split not in SPLITS[:2]:
        raise unknown("split of multi30k", split, SPLITS[:2])
    if language not in LANGUAGES:
        raise unknown("language", language, LANGUAGES)
    part = {"validation": "val"}.get(split, split)
    path = f"{part}.{language}.gz"
    file = File(f"multi30k/{path}", SUMS[part, language], (Mirror("folder", f"multi30k/{path}"), Mirror("url", f"{COMMIT}/{path}")))
    return tuple(gzip.decompress(locate(file)[0].read_bytes()).decode("utf8").splitlines())


def story_openings(n: int, seed: int) -> list[str]:
    """n different openings of a children's story, made by a small grammar: someone, what they love, "One day"; n up to 320.

    For models that have read nothing but such stories. Raises: InputError for a larger n.
    """
    every = [(who, what, when) for who in WHO for what in LOVES for when in THEN]
    if n > len(every):
        raise InputError(f"n must be at most {len(every)}, not {n}")
    return [f"Once upon a time, there was a little {kind} named {name}. {pronoun} loved {what}. {when},"
            for (kind, name, pronoun), what, when in random.Random(seed).sample(every, n)]
