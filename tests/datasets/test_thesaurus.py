"""WordNet's single words: known entries, plurals, what has none, and the bundled table beside the whole."""
import pytest

from cl_lib.datasets import sources
from cl_lib.datasets.thesaurus import DATA, INDEX, NOUNS, PLURALS, Entry, noun_synsets, thesaurus
from cl_lib.errors import InputError

full = pytest.mark.skipif(not all(map(sources.available, (*DATA.values(), *INDEX.values(), PLURALS))), reason="WordNet is not at hand")


@full
def test_known_entries():
    found = thesaurus(["big", "man", "boys", "quickly", "a", "xyzzy", "dog"])
    assert found["big"] == Entry(("large",), ("little",)) and found["man"].antonyms == ("woman",)
    assert found["boys"].antonyms == ("girls",) and found["quickly"].antonyms == ("slowly",)
    assert "rapidly" in found["quickly"].synonyms
    assert not {"a", "xyzzy", "dog"} & found.keys()  # too short, unknown, and with names of several words alone


@full
def test_the_bundled_table_says_what_wordnet_says():
    words = ["about", "young", "large", "girls", "sit", "white"]
    assert thesaurus(words, version="slice") == thesaurus(words)


def test_slice_and_errors():
    found = thesaurus(["young", "xyzzy", "young"], version="slice")
    assert list(found) == ["young"] and "old" in found["young"].antonyms
    assert all("young" not in side for side in (found["young"].synonyms, found["young"].antonyms))
    with pytest.raises(InputError, match="version"):
        thesaurus(["young"], version="large")


@full
def test_nouns_are_brought_to_their_dictionary_form():
    found = noun_synsets(["dog", "dogs", "children", "knives", "boxes", "churches", "xyzzy"])
    assert found["dog"] == found["dogs"] == "n02084071"
    assert found["children"] == "n09917593" and found["knives"] == "n03623556" and {"boxes", "churches"} <= set(found)
    assert "xyzzy" not in found


@full
def test_a_word_counts_only_where_the_synset_is_named_after_it():
    # grinning is a second name of smile.n.01, taxi one of cab.n.03; "in" is inch and "a" is angstrom
    assert set(noun_synsets(["smile", "grinning", "taxi", "in", "a", "the"])) == {"smile"}


@full
def test_the_bundled_nouns_agree_with_wordnet():
    lines = sources.locate(NOUNS)[0].read_text(encoding="utf8").splitlines()
    table = dict(line.split("\t") for line in lines if not line.startswith(" "))  # the licence stands at the top
    assert noun_synsets(table) == table


def test_bundled_nouns_and_errors():
    assert list(noun_synsets(["face", "the", "xyzzy"], version="slice")) == ["face"]
    with pytest.raises(InputError, match="slice"):
        noun_synsets(["dog"], version="slices")
