"""Emoji: the bundled slice, the split, and the reading of sheets and tables against a small made-up package."""
import json

import numpy as np
import pytest
import torch
from PIL import Image

from cl_lib.datasets import emoji
from cl_lib.datasets.sources import available
from cl_lib.errors import InputError


@pytest.fixture
def data(monkeypatch):
    monkeypatch.delenv("CL_DATA", raising=False)
    emoji.emoji.cache_clear()
    return emoji.emoji("slice")


def test_the_slice_is_bundled(data):
    n = len(data)
    assert data.x.shape == (2, n, 3, 32, 32) and data.x.dtype == torch.uint8 and data.artists == ("twitter", "google")
    assert len(data.subgroups) == 12 and torch.bincount(data.subgroup).max() == 20
    assert len(set(data.names)) == n == len(data.keywords) and all(name.lower() not in keys for name, keys in zip(data.names, data.keywords, strict=True))
    assert "grinning face" == data.names[0] and data.subgroups[data.subgroup[0]] == "face-smiling" and "smile" in data.keywords[0]
    # corners of a round face are the white that stands for transparency; its middle is yellow by both artists
    face = data.x[:, 0]
    assert (face[:, :, 0, 0] == 255).all() and (face[:, 0, 14, 16] > 200).all() and (face[:, 2, 14, 16] < 120).all()


def test_the_artists_draw_the_same_concept_alike(data):
    flat = data.x.flatten(2).float()
    flat = torch.nn.functional.normalize(flat - flat.mean(1, keepdim=True), dim=2)
    s = flat[0] @ flat[1].T
    assert (s.argmax(1) == torch.arange(len(data))).float().mean() > 0.3  # by chance 1 in 233


def test_split(data):
    parts = {p: emoji.split(data, 4, p) for p in emoji.PARTS}
    for p in parts.values():
        assert p.artist == 0 and p.artists == (1,)
        assert torch.isin(p.queries, p.seen).all() and not torch.isin(p.unseen, p.seen).any()
        assert not torch.isin(data.kin[p.unseen], data.kin[p.seen]).any()  # the woman with the man
    test, validation = parts["test"], parts["validation"]
    assert torch.equal(test.seen, validation.seen)
    assert sorted(torch.cat([test.queries, validation.queries, test.unseen, validation.unseen]).tolist()) == list(range(len(data)))
    assert torch.equal(emoji.split(data, 5).seen, test.seen) and emoji.split(data, 5).artist == 1
    with pytest.raises(InputError, match="train"):
        emoji.split(data, 0, "train")


def test_subset_and_groups(data):
    people = emoji.in_groups(data, emoji.PEOPLE)
    assert {data.groups[g] for g in people.group.unique()} == set(emoji.PEOPLE) and 0 < len(people) < len(data)
    i = data.names.index(people.names[-1])
    assert torch.equal(data.x[:, i], people.x[:, -1]) and data.keywords[i] == people.keywords[-1] and data.kin[i] == people.kin[-1]
    with pytest.raises(InputError, match="flags"):
        emoji.in_groups(data, ("flags",))
    with pytest.raises(InputError, match="index"):
        emoji.subset(data, torch.tensor([], dtype=torch.int64))
    with pytest.raises(InputError, match="half"):
        emoji.emoji("half")


def test_kin():
    woman, man, person = "1F469-200D-1F52C", "1F468-200D-1F52C", "1F9D1-200D-1F52C"
    assert len({emoji._kin(c) for c in (woman, man, person)}) == 1 and emoji._kin("1F469") != emoji._kin("1F468")
    assert emoji._kin("1F3C3-200D-2640-FE0F") == "1F3C3" and emoji._kin("1F52C") == "1F52C"


def test_a_package_is_read(tmp_path, monkeypatch):
    sheet = np.zeros((68, 34 * 62, 4), np.uint8)
    sheet[1:33, 35:67] = (10, 20, 30, 255)      # cell x 1, y 0
    sheet[35:67, 1:33] = (100, 0, 0, 128)       # cell x 0, y 1, half transparent
    Image.fromarray(sheet).save(tmp_path / "sheet.png")
    seen = {f"has_img_{a}": True for a in emoji.ARTISTS}
    places = [{"unified": "1-FE0F", "sheet_x": 0, "sheet_y": 1, "category": "Objects", **seen},
              {"unified": "2", "sheet_x": 1, "sheet_y": 0, "category": "Objects", **seen},
              {"unified": "3", "sheet_x": 1, "sheet_y": 0, "category": "Flags", **seen},
              {"unified": "4", "sheet_x": 1, "sheet_y": 0, "category": "Objects", **seen, "has_img_apple": False}]
    words = [{"hexcode": c, "label": f"thing {c}", "tags": [f"Thing {c}", "word", "+"], "order": -int(c), "group": 7, "subgroup": 8} for c in "1234"]
    files = {emoji.PLACES: places, emoji.WORDS: words, emoji.GROUPS: {"groups": {"7": "objects"}, "subgroups": {"8": "tool"}}}
    for file, content in files.items():
        (tmp_path / file.name).write_text(json.dumps(content))
    monkeypatch.setattr(emoji, "locate", lambda file: (tmp_path / (file.name if file in files else "sheet.png"), None))
    kept = emoji._make()
    data = emoji._read(kept["x"], bytes(kept["table"].numpy()).decode(), emoji.ARTISTS)
    assert data.names == ("thing 2", "thing 1") and data.keywords == (("word",), ("word",)) and data.subgroups == ("tool",)
    assert data.x.shape == (4, 2, 3, 32, 32) and data.x[0, 0].unique().tolist() == [10, 20, 30]
    assert data.x[3, 1].amin((1, 2)).tolist() == [177, 127, 127]  # half way to white


@pytest.mark.skipif(not all(available(f) for f in emoji.SHEETS.values()), reason="the packages are not fetched")
def test_the_whole():
    full = emoji.emoji()
    assert full.x.shape == (4, 1583, 3, 32, 32) and len(full.subgroups) == 95 and "flags" not in full.groups
    part = emoji.split(full, 0)
    assert (len(part.artists), part.artist) == (3, 0) and 0.6 < len(part.queries) / len(full) < 0.7
