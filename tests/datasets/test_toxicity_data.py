"""Judged texts: parts that share nothing, counts as published, a harmless stand-in; no text is shown."""
import re

import pytest

from cl_lib.datasets import toxicity
from cl_lib.datasets.text import normalised
from cl_lib.errors import InputError
from support.files import needs


def test_parts_of_the_tweets_share_no_text():
    needs(toxicity.TWEETS)
    parts = [toxicity.tweets(p) for p in toxicity.PARTS]
    keys = [normalised(t) for p in parts for t in p.texts]
    assert [len(p) for p in parts] == [15_000, 7_000, 1_035] and len(set(keys)) == len(keys) == 23_035
    for p in parts:
        share, clean = p.toxic.double().mean(), [len(t.split()) >= 4 and t.isascii() and not re.search(r"@\w|https?://\S", t) for t in p.texts]
        assert len(p.toxic) == len(p) and 0.82 < share < 0.85 and all(clean)
        assert p.texts[0] not in repr(p)


def test_prompts_and_forum():
    needs(toxicity.PROMPTS, toxicity.FORUM)
    found = toxicity.prompts_and_forum()
    assert len(found) == 10_461 and found.toxic.sum() == 993 and found.toxic[:993].all()
    assert not {normalised(t) for t in found.texts} & {normalised(t) for t in toxicity.tweets("model").texts if len(t) > 40}


def test_the_stand_in_is_at_hand_and_has_both_kinds():
    texts = [t for p in toxicity.PARTS for t in toxicity.tweets(p, version="slice").texts]
    assert len(set(texts)) == len(texts) > 80
    for part in toxicity.PARTS:
        found = toxicity.tweets(part, version="slice")
        assert 0 < found.toxic.sum() < len(found)
    assert toxicity.prompts_and_forum(version="slice").toxic.any()


def test_cleaned():
    assert toxicity.cleaned('RT @someone: a &amp;amp; b "c" #d http://t.co/x e&#128514; f\n g') == "a & b c d e f g"


def test_unknown_names():
    with pytest.raises(InputError, match="model"):
        toxicity.tweets("models")
    with pytest.raises(InputError, match="slice"):
        toxicity.tweets("model", version="slices")
    with pytest.raises(InputError, match="slice"):
        toxicity.prompts_and_forum(version="slices")
