"""A vocabulary from a language model's table: what stands where, unknown pieces, batches, synonyms, the real model where it is."""
import pytest
import torch

from cl_lib.datasets import sources, thesaurus
from cl_lib.encoders.lm_embeddings import DEL, MASK, PAD, SPECIAL, UNKNOWN, vocabulary
from cl_lib.encoders.scorer import independent_similarity
from cl_lib.encoders.text import MINILM, SMOLLM2
from cl_lib.errors import InputError

TRAIN, OTHERS = ("a young man eats", "a man walks", "the young man eats soup"), ("a cat walks", "zebras")


def test_pieces_unknown_ones_and_batches():
    words = vocabulary(TRAIN, OTHERS, d=8, least=2, version="slice")
    assert (PAD, UNKNOWN, MASK, DEL) == (0, 1, 2, 3) and words.pieces[:4] == SPECIAL
    assert set(words.pieces[4:]) == {" a", " young", " man", " eats"}  # twice or more in the training sentences
    assert words.table.shape == (8, 8) and not words.table[PAD].any() and words.table[1:].any(1).all()
    ids, lengths = words.batch(words.find(["a cat walks", "the young man eats soup"]), longest=4)
    named = [[words.pieces[i] for i in row] for row in ids.tolist()]
    assert named == [[" a", "[UNK]", "[UNK]", "[PAD]"], ["[UNK]", " young", " man", " eats"]] and lengths.tolist() == [3, 4]
    assert torch.equal(words.table, vocabulary(TRAIN, OTHERS, d=8, version="slice").table)
    with pytest.raises(InputError, match="nobody"):
        words.find(["nobody"])


def test_synonyms_are_pieces():
    sentences = ("a large house", "a big house", "a big large house", "a little house", "a little cat")
    words = vocabulary(sentences, (), d=4, version="slice")
    table, big, large = words.synonyms(), words.pieces.index(" big"), words.pieces.index(" large")
    assert table.dtype == torch.int64 and (table[:4] == -1).all()
    known = thesaurus.thesaurus(["big", "large"], version="slice")
    assert (large in table[big].tolist()) == ("big" in known and "large" in known["big"].synonyms)


@pytest.mark.skipif(not sources.available(SMOLLM2), reason="SmolLM2 is not at hand")
def test_the_real_table_knows_what_words_mean():
    sentences = ("the man and the woman play the guitar and the piano on Monday and on Tuesday",) * 1
    words = vocabulary(sentences * 1, ("hexagons",), d=16, least=1)
    assert words.table[4:].square().mean().sub(1).abs() < 1e-4 and " guitar" in words.pieces
    unit = torch.nn.functional.normalize(words.table[4:], dim=1)
    at = {piece: i for i, piece in enumerate(words.pieces[4:])}
    assert unit[at[" Monday"]] @ unit[at[" Tuesday"]] > unit[at[" Monday"]] @ unit[at[" piano"]]
    assert (words.batch(words.find(["hexagons"]), longest=5)[0] == UNKNOWN).all()


def test_similarity_stand_in_and_errors():
    assert independent_similarity(["a b", "a b"], ["a b", "c d"], version="slice").tolist() == [1.0, 0.0]
    for call in (lambda: independent_similarity(["a"], [], version="slice"), lambda: independent_similarity(["a"], ["b"], version="x"),
                 lambda: vocabulary((), ()), lambda: vocabulary(("a",), (), d=0), lambda: vocabulary(("a",), (), version="x")):
        with pytest.raises(InputError):
            call()


@pytest.mark.skipif(not sources.available(MINILM), reason="MiniLM is not at hand")
def test_similarity_knows_paraphrases():
    same, other = independent_similarity(["A man plays the guitar."] * 2, ["Someone is playing a guitar.", "Prices rose in March."])
    assert same > 0.6 > 0.3 > other
