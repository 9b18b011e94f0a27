import pytest

from cl_lib.datasets.languages import SUMS, multi30k, story_openings
from cl_lib.datasets.sources import DataError
from cl_lib.errors import InputError


def test_captions_are_parallel():
    try:
        en, de, fr = (multi30k("validation", language) for language in ("en", "de", "fr"))
    except DataError as error:
        pytest.skip(str(error))
    assert len(en) == len(de) == len(fr) == 1014 and len(set(en) & set(de)) < 5
    assert len(multi30k("train", "fr")) == 29_000 and len(SUMS) == 6


def test_openings():
    found = story_openings(40, seed=3)
    assert len(set(found)) == 40 and found == story_openings(40, seed=3) != story_openings(40, seed=4)
    assert all(text.startswith("Once upon a time, there was a little ") and text.endswith(",") for text in found)


def test_bad_input():
    with pytest.raises(InputError, match="validation"):
        multi30k("valid", "en")
    with pytest.raises(InputError, match="did you mean .en"):
        multi30k("train", "es")
    with pytest.raises(InputError, match="320"):
        story_openings(321, seed=0)
