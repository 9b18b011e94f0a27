import gzip
import re
import zipfile
from collections import Counter, defaultdict

import pytest
import torch

from cl_lib.datasets import text as data
from cl_lib.datasets.sources import DataError, Mirror, locate
from cl_lib.errors import InputError
from support import files

FILES = {"stsb": [data.STSB], "sick": [*data.SICK.values()], "snli": [*data.SNLI], "words": [*data.WORDS.values()],
         "news": [data.AG_NEWS], "corpus": [data.MOBY_DICK, data.PRIDE, data.STATE_UNION, data.INAUGURAL, data.GENESIS],
         "books": [data.BOOKS]}


def needs(*sets):
    files.needs(*(f for s in sets for f in FILES[s]))


def bare(sentence):
    return re.sub(r"[\W_]+", "", sentence.lower())


def raw(file):
    """Rows of a table, read in another way than the library does."""
    content = locate(file, download=False)[0].read_bytes()
    content = gzip.decompress(content) if content[:1] == b"\x1f" else content
    return [line.rstrip("\r").split("\t") for line in content.decode().split("\n")[1:] if line]


def evaluated():
    return {bare(s) for f in (data.stsb, data.sick) for split in ("validation", "test") for p in [f(split)]
            for s in (*p.a, *p.b)}


@pytest.mark.parametrize("name, part, size, low, high", [
    ("stsb", "train", 5749, 0, 5), ("stsb", "validation", 1500, 0, 5), ("stsb", "test", 1379, 0, 5),
    ("sick", "train", 4500, 1, 5), ("sick", "validation", 500, 1, 5), ("sick", "test", 4927, 1, 5)])
def test_pairs_are_the_rows_of_the_file(name, part, size, low, high):
    needs(name)
    pairs = getattr(data, name)(part)
    assert (pairs.name, pairs.split, len(pairs.a), pairs.scores.dtype) == (name, part, size, torch.float64)
    assert pairs.scores.aminmax() == (low, high)
    if name == "stsb":
        rows = [(r[6], r[7], r[5], r[1]) for r in raw(data.STSB) if r[0] == {"validation": "dev"}.get(part, part)]
        assert pairs.genres == tuple(r[3] for r in rows)
    else:
        rows = [r[1:4] for r in raw(data.SICK[part])]
        assert pairs.genres is None
    expected = [(r[0].strip(), r[1].strip(), float(r[2])) for r in rows]
    assert list(zip(pairs.a, pairs.b, pairs.scores.tolist(), strict=True)) == expected


def test_unlabelled_sentences_are_the_training_sentences_that_no_evaluation_has():
    needs("stsb", "sick")
    held, unlabelled = evaluated(), data.unlabelled_sentences()
    order = {}
    for pairs in (data.stsb("train"), data.sick("train")):
        for sentence in (s for pair in zip(pairs.a, pairs.b, strict=True) for s in pair):
            order.setdefault(bare(sentence), sentence)
    assert unlabelled == tuple(s for key, s in order.items() if key not in held)
    # the overlap is there to be removed: from the training part of SICK most sentences go
    assert sum(key in held for key in order) > 4000 and len(unlabelled) == 10_614


def test_snli_triplets_follow_the_labels_and_hold_no_evaluation_sentence():
    needs("stsb", "sick", "snli")
    held, triplets = evaluated(), data.snli_triplets()
    first = defaultdict(dict)
    for label, premise, hypothesis, *_ in (r for file in data.SNLI for r in raw(file)):
        first[bare(premise)].setdefault(label, bare(hypothesis))
    expected = [(p, h["entailment"], h["contradiction"])
                for p, h in first.items() if {"entailment", "contradiction"} <= h.keys()]
    expected = [t for t in expected if len(set(t)) == 3 and held.isdisjoint(t)]
    found = [tuple(map(bare, t)) for t in zip(triplets.anchor, triplets.positive, triplets.negative, strict=True)]
    assert found == expected and len(found) > 5000 and triplets.split == "train"
    # nothing but blanks and quotation marks differs from the file
    tokens = {re.sub(r"\s|``|''|\"", "", s) for file in data.SNLI for r in raw(file) for s in r[1:3]}
    assert all(re.sub(r"\s|\"", "", s) in tokens for s in (*triplets.anchor, *triplets.positive, *triplets.negative))


@pytest.mark.parametrize("name, size, low, high, pair", [
    ("wordsim353-sim", 203, 0.23, 10, ("tiger", "cat", 7.35)),
    ("wordsim353-rel", 252, 0.23, 8.81, ("Jerusalem", "Israel", 8.46)),
    ("simlex999", 999, 0, 10, ("old", "new", 0)), ("men", 3000, 0, 50, ("sun", "sunlight", 50)),
    ("rg-65", 65, 0.02, 3.94, ("gem", "jewel", 3.94)), ("mturk-771", 771, 1, 4.96, ("account", "explanation", 2))])
def test_word_similarity(name, size, low, high, pair):
    needs("words")
    words = data.word_similarity(name)
    assert (len(words.a), len(words.b), words.scores.shape, words.name) == (size, size, (size,), name)
    assert words.scores.dtype == torch.float64
    assert [round(float(s), 2) for s in words.scores.aminmax()] == [low, high]
    assert pair in list(zip(words.a, words.b, words.scores.tolist(), strict=True))
    assert all(re.fullmatch(r"[A-Za-z'\-]+", w) and not re.search(r"-[njv]$", w) for w in (*words.a, *words.b))


def test_corpus_parts_share_no_sentence_and_no_chapter_or_address():
    needs("corpus")
    parts = {split: data.corpus(split) for split in data.SPLITS}
    keys = {split: {bare(s) for s in sentences} for split, sentences in parts.items()}
    assert not keys["train"] & (keys["validation"] | keys["test"]) and not keys["validation"] & keys["test"]
    # where each long sentence begins: its first words, found again in the documents of the files
    begins = defaultdict(set)
    for split, sentences in parts.items():
        for words in (re.findall(r"\w+", s.replace("_", "")) for s in sentences):
            if len(words) >= 12:
                begins[" ".join(words[:12])].add(split)
    splits = defaultdict(Counter)
    for file in FILES["corpus"][:-1]:
        text = data._text(file).replace("_", "")
        for i, document in enumerate(re.split(r"^(?:CHAPTER|Chapter) \d+|^# \S+/\d+", text, flags=re.M)):
            words = re.findall(r"\w+", document)
            for j in range(len(words) - 11):
                splits[file.name, i].update(begins.get(" ".join(words[j:j + 12]), ()))
    found = [s for s in splits.values() if s]
    # an address may quote another, or open with the same words
    strangers = [s.total() - max(s.values()) for s in found]
    assert len(found) > 300 and max(strangers) <= 2 and sum(strangers) < 10
    assert all(sum(s.most_common(1)[0][0] == split for s in found) > 20 for split in data.SPLITS)


def test_language_models_read_nothing_that_is_held_out():
    needs("corpus", "stsb", "sick", "books")
    train, keys = data.reading("train"), {data.normalised(s) for s in data.reading("train")}
    held_out = [*data.corpus("validation"), *data.corpus("test"),
                *(s for split in ("validation", "test") for p in (data.stsb(split), data.sick(split)) for s in (*p.a, *p.b))]
    assert not keys & {data.normalised(s) for s in held_out}
    assert data.reading("test") == data.corpus("test") and len(data.corpus("train")) < len(train)
    text = " ".join(train)
    for book in ("had lived nearly twenty-one years in the world", "Alice was beginning to get very tired", "Buster Bear yawned",
                 "The flying ship of Professor Lucifer", "Near the ruins of the castle of Rossmore"):
        assert text.count(book) == 1
    assert "Gutenberg" not in text and "\r" not in text


def test_corpus_sentences_are_plain():
    needs("corpus")
    sentences = [s for split in data.SPLITS for s in data.corpus(split)]
    joined = "\n".join(sentences)
    assert not re.search(r"(?i)gutenberg|[¡§¨¦\x80-\x9f“”’_\t]|  |^# ", joined, flags=re.M)
    assert all(len(s.split()) >= 3 and re.search(r"[.!?][\"')\]]*$", s) for s in sentences)
    assert abs(len(joined.split()) - 840_000) < 5_000
    for start in ("Call me Ishmael.", "It is a truth universally acknowledged,",
                  "In the beginning God created the heavens",
                  "We dare not forget today that we are the heirs of that first revolution."):
        assert sum(s.startswith(start) for s in sentences) == 1, start


def test_where_sentences_end():
    text = ("“My dear Mr. Bennet,” said she, “is St. Ives let?” He asked J. B. Smith!\n\n“_You_ want to tell me?” "
            "cried\nhis wife.\n\nCHAPTER 2\n\nIn 1945 (a Monday) it ended. (Applause.) Thank you all.")
    assert data.sentences(text, wrapped=True) == [
        '"My dear Mr. Bennet," said she, "is St. Ives let?"', "He asked J. B. Smith!",
        '"You want to tell me?" cried his wife.', "In 1945 (a Monday) it ended.", "Thank you all."]
    assert data.sentences("America¡¦s plan is this.\nTHE STATE OF THE UNION.\nThat is â\x80\x94 all.") == [
        "America's plan is this.", "That is — all."]


@pytest.mark.parametrize("tokens, text", [
    ("He does n't see the dog 's tail , right ?", "He doesn't see the dog's tail, right?"),
    ("a sign that says `` free hugs '' .", 'a sign that says "free hugs".'),
    ("the girls ' shoes ( red ) cost 99 % .", "the girls ' shoes (red) cost 99%."),
    ("they 're at 5 .5 and ca n't . . .", "they're at 5 .5 and can't...")])
def test_detokenised(tokens, text):
    assert data.detokenised(tokens) == text


def test_normalised_ignores_case_blanks_and_marks_but_no_word():
    same = ("A man's  “ﬁne” DOG, 2 STRASSE.", "a MAN ' S fine dog 2 straße")
    assert {data.normalised(s) for s in same} == {"amansfinedog2strasse"}
    assert data.normalised("A dog.") != data.normalised("A dogs.")


def test_an_archive_and_a_packed_file_read_alike(tmp_path, monkeypatch):
    texts = {"inaugural/1789-W.txt": "Fellow citizens\r\n¡¦é", "inaugural/1793-W.txt": "Again\n# no heading"}
    with zipfile.ZipFile(tmp_path / "z", "w") as z:
        for name, text in [*reversed(texts.items()), ("inaugural/README", "no")]:
            z.writestr(name, text.encode("latin-1"))
    body = "\n".join(f"# {name}\n{text}" for name, text in texts.items())
    (tmp_path / "gz").write_bytes(gzip.compress(body.encode()))
    (tmp_path / "plain").write_bytes(b"\xef\xbb\xbf" + body.encode())
    read = []
    for name in ("z", "gz", "plain"):
        monkeypatch.setattr(data, "locate", lambda file, name=name: (tmp_path / name, Mirror("url")))
        read.append({n: t.strip() for n, t in data._collection(data.INAUGURAL).items()})
    assert read[0] == read[1] == read[2] == {n: t.replace("\r", "") for n, t in texts.items()}


def test_mirrors_are_pinned():
    for file in (f for files in FILES.values() for f in files):
        folder, *urls = file.mirrors
        assert folder == Mirror("folder", file.name) and (urls or file.help)
        assert all(re.search(r"/[0-9a-f]{40}/|-1\.0\.1\.tgz$" if m.kind == "url" else r"@\d", m.name) for m in urls), file.name


def test_errors_say_what_is_valid_and_where_to_get_a_file(tmp_path, monkeypatch):
    for read in (data.stsb, data.sick, data.corpus):
        with pytest.raises(InputError, match=f"unknown split of {read.__name__} 'dev'; valid: test, train, validation"):
            read("dev")
    with pytest.raises(InputError, match="unknown word similarity set 'simlex'; did you mean 'simlex999'"):
        data.word_similarity("simlex")
    monkeypatch.setenv("CL_DATA", str(tmp_path))
    with pytest.raises(DataError, match="snli_dev_esnli.* is not to be had: CL_DATA has no .*e-SNLI.*CL_DATA"):
        data._table(data.SNLI[0])


def test_the_bundled_slices_are_short_and_leak_nothing():
    parts = {split: data.stsb(split, version="slice") for split in data.SPLITS}
    assert [len(p.a) for p in parts.values()] == [60, 40, 40]
    assert all(len(s.split()) <= 10 for p in parts.values() for s in p.a + p.b)
    sentences = set(map(data.normalised, data.unlabelled_sentences(version="slice")))
    assert 100 < len(sentences) == len(data.unlabelled_sentences(version="slice"))
    held_out = {data.normalised(s) for split in ("validation", "test") for s in parts[split].a + parts[split].b}
    assert not sentences & held_out
    triplets = data.snli_triplets(version="slice")
    assert len(triplets.anchor) == len(triplets.positive) == len(triplets.negative) == 40
    with pytest.raises(InputError, match="unknown version of stsb 'slcie'; did you mean 'slice'"):
        data.stsb("test", version="slcie")


def test_ag_news_has_four_equal_classes_and_whole_items():
    needs("news")
    texts, labels = data.ag_news()
    assert len(texts) == 7600 and torch.bincount(labels).tolist() == [1900] * 4
    assert texts[0].startswith("Fears for T N pension after talks Unions representing workers") and labels[0] == 2
    assert not any("\\" in t for t in texts)
