"""What WordNet says of single words: others that mean the same, those that mean the opposite, and which meaning a noun has."""
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from cl_lib.datasets.sources import File, Mirror, locate
from cl_lib.errors import unknown

VERSIONS = ("full", "slice")
PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
# WordNet's rules of detachment for nouns: an ending, and what stands in its place.
ENDINGS = (("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y"))


@dataclass(frozen=True)
class Entry:
    """A word's synonyms and antonyms, single words in lower case, each once, in WordNet's order."""
    synonyms: tuple[str, ...]
    antonyms: tuple[str, ...]


def thesaurus(words: Iterable[str], *, version: str = "full") -> dict[str, Entry]:
    """The words (lower case) that have a synonym or an antonym in WordNet 3.0, and which.

    A word counts in the part of speech in which it was seen most often, with the first sense it has there: no tagger looks
    at the sentence. Regular plurals (dogs) go by their singular, and what is found gets the same s. Names of several words
    and names with capitals are left out, and so are words of one or two letters ("a" stands for angstrom, too). `version="slice"` is a bundled table of the words in the bundled sentences.
    Licence: WordNet's, free. Raises: InputError for an unknown version; DataError when WordNet is not to be had.
    """
    if version not in VERSIONS:
        raise unknown("version", version, VERSIONS)
    look = _slice().get if version == "slice" else _look
    return {word: entry for word in dict.fromkeys(words) if len(word) > 2 and (entry := look(word)) and (entry.synonyms or entry.antonyms)}


def noun_synsets(words: Iterable[str], *, version: str = "full") -> dict[str, str]:
    """The words (lower case) that name a noun synset of WordNet 3.0, and its identity: "n" and its offset, n02084071 for dog.

    A word is brought to its shortest dictionary form (dogs -> dog) and counts where it is the first name of its first noun
    sense, which passes over the rarer names of a thing and words such as "in", whose noun is short for inch. No tagger looks at
    the sentence. `version="slice"` is a bundled table of the words in the bundled emoji captions.
    Source: the rule of 2404.15653's released code. Raises: InputError for an unknown version; DataError when WordNet is not to be had.
    """
    if version not in VERSIONS:
        raise unknown("version", version, VERSIONS)
    if version == "slice":
        table = dict(line.split("\t") for line in _lines(NOUNS))
        return {word: table[word] for word in words if word in table}
    first, irregular = _nouns()
    found = {}
    for word in dict.fromkeys(words):
        regular = (word.removesuffix(a) + b for a, b in ENDINGS if word.endswith(a))
        forms = [form for form in (word, *irregular.get(word, regular)) if form in first]
        lemma = min(forms, key=len, default=None)
        if lemma and _synset("n", int(first[lemma]))[0][0].lower() == lemma:
            found[word] = f"n{first[lemma]}"
    return found


@lru_cache
def _nouns() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Lemma -> offset of its first noun sense; irregular plural -> lemmas."""
    first = {}
    for lemma, _, _, pointers, *rest in map(str.split, _lines(INDEX["n"])):
        first[lemma] = rest[int(pointers) + 2]
    return first, {plural: lemmas for plural, *lemmas in map(str.split, _lines(PLURALS))}


def _lines(file: File) -> list[str]:
    """The lines of a file without the licence at its top, whose lines begin with a space."""
    return [line for line in locate(file)[0].read_text(encoding="utf8").splitlines() if not line.startswith(" ")]


@lru_cache(maxsize=100_000)
def _look(word: str) -> Entry | None:
    index = _index()
    if word in index:
        return _entry(word, *index[word])
    stem = word[:-1]
    if word.endswith("s") and index.get(stem, ("", 0))[0] == "n":
        found = _entry(stem, *index[stem])
        return Entry(*(tuple(f"{other}s" for other in others) for others in (found.synonyms, found.antonyms)))
    return None


def _entry(word: str, part: str, offset: int) -> Entry:
    names, pointers = _synset(part, offset)
    own = next(i for i, name in enumerate(names, 1) if name.lower() == word)
    antonyms = []
    for sign, place, other, ends in pointers:
        if sign == "!" and int(ends[:2], 16) == own:
            antonyms.append(_synset("a" if other == "s" else other, place)[0][int(ends[2:], 16) - 1])
    return Entry(_single(names, word), _single(antonyms, word))


def _single(names: Iterable[str], word: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(n for n in names if n.isalpha() and n.islower() and n != word))


def _synset(part: str, offset: int) -> tuple[list[str], list[tuple[str, int, str, str]]]:
    """The names of a synset, and its pointers: sign, offset, part of speech, source and target (four hexadecimal digits)."""
    data = _data(part)
    fields = data[offset:data.index(b"\n", offset)].decode().split(" | ")[0].split()
    n = int(fields[3], 16)
    names = [fields[4 + 2 * i].partition("(")[0] for i in range(n)]  # adjectives may end in a mark such as (p)
    rest = fields[5 + 2 * n:5 + 2 * n + 4 * int(fields[4 + 2 * n])]
    return names, [(rest[i], int(rest[i + 1]), rest[i + 2], rest[i + 3]) for i in range(0, len(rest), 4)]


@lru_cache
def _data(part: str) -> bytes:
    return locate(DATA[part])[0].read_bytes()


@lru_cache
def _index() -> dict[str, tuple[str, int]]:
    """Lemma -> the part of speech in which it was seen most often, and the offset of its first sense there."""
    best: dict[str, tuple[int, str, int]] = {}
    for part, file in INDEX.items():
        for line in locate(file)[0].read_text(encoding="utf8").splitlines():
            if not line.startswith(" ") and "_" not in line.split(" ", 1)[0]:
                lemma, _, _, pointers, *rest = line.split()
                seen, offset = int(rest[int(pointers) + 1]), int(rest[int(pointers) + 2])
                if lemma not in best or seen > best[lemma][0]:
                    best[lemma] = (seen, part, offset)
    return {lemma: (part, offset) for lemma, (_, part, offset) in best.items()}


@lru_cache
def _slice() -> dict[str, Entry]:
    rows = (line.split("\t") for line in locate(SLICE)[0].read_text(encoding="utf8").splitlines())
    return {word: Entry(*(tuple(others.split()) for others in found)) for word, *found in rows}


def _wordnet(name: str, sha256: str) -> File:
    return File(f"words/wordnet/{name}", sha256, (Mirror("folder", f"words/wordnet/{name}"),
                Mirror("apt", "wordnet-base", f"usr/share/wordnet/{name}")),
                "WordNet 3.0 stands at https://wordnet.princeton.edu; the file is that of Debian's 3.0-37.")


DATA = {part: _wordnet(f"data.{PARTS[part]}", sha256) for part, sha256 in (
    ("n", "fea17d2f9656611334eac790e5d69e47645fa180c4aa481fb4cd9b3520754ca2"),
    ("v", "adcf43e35b581e8036d8b5a52d63d9cd3d3b4870b2720d3c03c799df44777bc2"),
    ("a", "c89120dfc1f046ddff4a631bf9b7e9fa1a36b5e86565a23bf82dbe14f30b88a7"),
    ("r", "444a63bf3955080ab7524f5079cfc07ff9bc682cb98bdb1db73b0fb9829f1139"))}
INDEX = {part: _wordnet(f"index.{PARTS[part]}", sha256) for part, sha256 in (
    ("n", "a490d99d93d017bf4822fe2f0ffa51fd73911ce271dc7535fade21f8814b5a04"),
    ("v", "e2ac24816c3a8289dcb72aaa9cf8db81fdf25ec34d792bfc96ac5b7a20c8b4ae"),
    ("a", "c9865d7b4d1f805bdef82ccdcea5282436e23083e6f6f1b33e716327c4eda810"),
    ("r", "6f5465ed5758fe9c8a2f7ec17b1300f3aa875756c70ff7cba162f7e71bcf88ea"))}
SLICE = File("thesaurus_slice.tsv", "a3587fc570f0351f89cc0286f2d28a017331706631d66a8abb8516bf9638120a", (Mirror("bundled", "thesaurus_slice.tsv"), Mirror("folder", "thesaurus_slice.tsv")))
PLURALS = _wordnet("noun.exc", "2b5d675c380b39ecf595af9fa9d4e7feb1d58c643b0bff08c40ed5bfe41fab7a")
NOUNS = File("wordnet_slice.tsv", "f84cb685ce2aaf7acc26dbaf786e6f519227d057273a628d32f9c1ea146b99c7", (Mirror("bundled", "wordnet_slice.tsv"), Mirror("folder", "wordnet_slice.tsv")))
