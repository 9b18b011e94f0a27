"""WordNet's single words: known entries, plurals, what has none, and the bundled table beside the whole."""
import pytest

from cl_lib.datasets import sources
from cl_lib.datasets.thesaurus import DATA, INDEX, Entry, thesaurus
from cl_lib.errors import InputError

full = pytest.mark.skipif(not all(map(sources.available, (*DATA.values(), *INDEX.values()))), reason="WordNet is not at hand")


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
