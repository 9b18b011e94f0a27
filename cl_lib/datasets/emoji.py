"""Emoji as several artists draw them, with their names, keywords and kinds: one concept, several pictures, real words."""
import json
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from cl_lib.datasets.sources import File, Mirror, cached, locate
from cl_lib.errors import InputError, unknown
from cl_lib.training import generator

ARTISTS = ("twitter", "google", "facebook", "apple")
PARTS = ("test", "validation")
PEOPLE = ("smileys-emotion", "people-body")  # the groups whose pictures look most alike


@dataclass(frozen=True)
class Emoji:
    """n concepts, each drawn by every artist.

    Shapes: x (artists, n, 3, 32, 32) uint8 on white; names n strings; keywords n tuples, without the name itself and without
    bare signs such as "+", empty for some; subgroup, group, kin (n,) int64. subgroups, groups name the labels ("animal-mammal").
    kin: concepts that differ in gender or age alone ("woman scientist", "man scientist") share a number.
    """
    x: torch.Tensor
    artists: tuple[str, ...]
    names: tuple[str, ...]
    keywords: tuple[tuple[str, ...], ...]
    subgroup: torch.Tensor
    subgroups: tuple[str, ...]
    group: torch.Tensor
    groups: tuple[str, ...]
    kin: torch.Tensor

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Split:
    """Which artists and concepts are for what: `artists` and `seen` are trained on, the pictures of `artist` never.

    Shapes: seen (s,), queries (q,), unseen (u,) int64 indices of concepts. queries are concepts of `seen`: their pictures by
    `artist` are new, their names are not. unseen are concepts that no picture or caption of training shows.
    """
    artists: tuple[int, ...]
    artist: int
    seen: torch.Tensor
    queries: torch.Tensor
    unseen: torch.Tensor


@lru_cache
def emoji(version: str = "full") -> Emoji:
    """The 1,583 emoji that Twitter, Google, Facebook and Apple have all drawn, 32 x 32 pixels, in the order of Unicode.

    No flags and no skin tones (the yellow form alone). Transparency becomes white. Names, keywords and subgroups: English, of
    the Unicode consortium's CLDR with additions, as emojibase-data 17.0.0 (MIT) holds them. Pictures: emoji-datasource 16.0.0.
    Licences of the pictures: Twemoji CC-BY 4.0, Noto Apache 2.0; Apple's may not be used commercially and Facebook's state no
    terms, so figures should show the first two alone.
    `version="slice"`, which is bundled, has up to 20 concepts of each of 12 subgroups by Twitter and Google, in 256 colours.
    Cost: 340 MB are fetched the first time; 40 ms from the cache.
    Raises: InputError for an unknown version; DataError when a file is not to be had.
    """
    if version not in ("full", "slice"):
        raise unknown("version of emoji", version, ("full", "slice"))
    if version == "slice":
        x = _pictures(locate(SHEET)[0], list(range(2 * SLICE_SIZE)), columns=SLICE_COLUMNS, border=0)
        return _read(x.view(2, SLICE_SIZE, 3, 32, 32), locate(TABLE)[0].read_text("utf-8"), ARTISTS[:2])
    kept = cached("emoji", _make, of=json.dumps([f.sha256 for f in (*SHEETS.values(), PLACES, WORDS, GROUPS)]))
    return _read(kept["x"], bytes(kept["table"].numpy()).decode(), ARTISTS)


def split(data: Emoji, seed: int, part: str = "test") -> Split:
    """The held-out artist is seed % artists; the concepts are parted once and for all, kin staying together.

    About 65 % of the concepts are `queries` of "test" and 10 % those of "validation"; both are `seen` in either. 15 % are
    `unseen` in "test", 10 % in "validation". So what is chosen on "validation" has met no picture that "test" judges by.
    Raises: InputError for an unknown part.
    """
    if part not in PARTS:
        raise unknown("part of emoji", part, PARTS)
    kin, place = data.kin.unique(return_inverse=True)
    at = ((torch.randperm(len(kin), generator=generator(2305)) + 0.5) / len(kin))[place]
    queries, chosen, unseen, apart = (torch.nonzero(mask)[:, 0] for mask in (at < .65, (at >= .65) & (at < .75), at >= .85,
                                                                            (at >= .75) & (at < .85)))
    artist = seed % len(data.artists)
    return Split(tuple(a for a in range(len(data.artists)) if a != artist), artist, torch.nonzero(at < .75)[:, 0],
                 *((queries, unseen) if part == "test" else (chosen, apart)))


def subset(data: Emoji, index: torch.Tensor) -> Emoji:
    """The data of some concepts alone, in the order given; the labels keep their numbers.

    Raises: InputError for an empty index.
    """
    if not len(index):
        raise InputError("index must name at least one concept")
    at = index.tolist()
    return Emoji(data.x[:, index], data.artists, tuple(data.names[i] for i in at), tuple(data.keywords[i] for i in at),
                 data.subgroup[index], data.subgroups, data.group[index], data.groups, data.kin[index])


def in_groups(data: Emoji, groups: tuple[str, ...]) -> Emoji:
    """The concepts of some groups alone, such as PEOPLE. Raises: InputError for a group that is not there."""
    if missing := next((g for g in groups if g not in data.groups), None):
        raise unknown("group of emoji", missing, data.groups)
    wanted = torch.tensor([data.groups.index(g) for g in groups])
    return subset(data, torch.nonzero(torch.isin(data.group, wanted))[:, 0])


def _make() -> dict[str, torch.Tensor]:
    """All pictures, and a table of name, subgroup, group, kin and keywords, a line a concept."""
    kinds = json.loads(locate(GROUPS)[0].read_text("utf-8"))
    about = {row["hexcode"]: row for row in json.loads(locate(WORDS)[0].read_text("utf-8"))}
    rows = [row for row in json.loads(locate(PLACES)[0].read_text("utf-8"))
            if row["category"] not in ("Flags", "Component") and all(row[f"has_img_{artist}"] for artist in ARTISTS)]
    rows = [(row, about[code]) for row in rows
            for code in dict.fromkeys((row["unified"], row["unified"].replace("-FE0F", ""))) if code in about]
    rows.sort(key=lambda pair: pair[1]["order"])
    lines = ["\t".join([word["label"], kinds["subgroups"][str(word["subgroup"])], kinds["groups"][str(word["group"])], _kin(row["unified"]),
                        "|".join(t for t in word.get("tags", []) if t.lower() != word["label"].lower() and re.search(r"[^\W_]", t))]) for row, word in rows]
    at = [62 * row["sheet_y"] + row["sheet_x"] for row, _ in rows]
    return {"x": torch.stack([_pictures(locate(SHEETS[a])[0], at, columns=62, border=1) for a in ARTISTS]),
            "table": torch.from_numpy(np.frombuffer("\n".join(lines).encode(), np.uint8).copy())}


def _kin(unified: str) -> str:
    """The code without gender and age: signs of gender drop out, and man, woman, boy, girl, child become person."""
    code = re.sub(r"-200D-264[02](-FE0F)?", "", unified)
    return re.sub(r"1F46[6789]|1F9D2", "1F9D1", code) if "200D" in code else code


def _pictures(path, at: list[int], *, columns: int, border: int) -> torch.Tensor:
    """Cells of a sheet, counted row by row, on white: (len(at), 3, 32, 32) uint8."""
    from PIL import Image

    size = 32 + 2 * border
    sheet = Image.open(path).convert("RGBA")
    white = np.asarray(Image.alpha_composite(Image.new("RGBA", sheet.size, "white"), sheet).convert("RGB"))
    corners = [(size * (i // columns) + border, size * (i % columns) + border) for i in at]
    return torch.from_numpy(np.stack([white[top:top + 32, left:left + 32] for top, left in corners])).permute(0, 3, 1, 2).contiguous()


def _read(x: torch.Tensor, table: str, artists: tuple[str, ...]) -> Emoji:
    names, subgroup, group, kin, keywords = zip(*(line.split("\t") for line in table.split("\n") if line), strict=True)
    (subgroups, subgroup), (groups, group), (_, kin) = (_numbers(column) for column in (subgroup, group, kin))
    return Emoji(x, artists, names, tuple(tuple(k.split("|")) if k else () for k in keywords), subgroup, subgroups, group, groups, kin)


def _numbers(column: tuple[str, ...]) -> tuple[tuple[str, ...], torch.Tensor]:
    """The different values in the order of their first appearance, and which one each entry is."""
    values = tuple(dict.fromkeys(column))
    place = {value: i for i, value in enumerate(values)}
    return values, torch.tensor([place[value] for value in column])


SHEETS = {artist: File(f"emoji-{artist}.png", sha, (Mirror("folder", f"emoji/{artist}.png"),
                                                    Mirror("npm", f"emoji-datasource-{artist}@16.0.0", f"package/img/{artist}/sheets-clean/32.png")))
          for artist, sha in zip(ARTISTS, ("2767ef2e87cbfb6cc12ac46596c339549afaf0ae8771cf51100c8853f6bde632",
                                           "b417e9f6cd4bbc10656bbfd5e13b6e9a2545b55e6a4cf7312d75be1faaa34952",
                                           "ea607f8476d40b2b28c2b82fd5e485064008c067dbcd107178534fd8c06ee8ca",
                                           "175ea34a007741df2f532af2cf29727dc50920fa04349984bd68d5bde80b3359"), strict=True)}
PLACES = File("emoji.json", "1d602e65be88772bf8cc368ce16b855d719eeddbafe128d471b80203f494d29f",
              (Mirror("folder", "emoji/emoji.json"), Mirror("npm", "emoji-datasource-twitter@16.0.0", "package/emoji.json")))
WORDS = File("emojibase-en.json", "ed014f1049bd370c5794f815850156196ac382850f51c3e9f6a9e83553fb3f01",
             (Mirror("folder", "emoji/en.json"), Mirror("npm", "emojibase-data@17.0.0", "package/en/data.json")))
GROUPS = File("emojibase-groups.json", "3ce4f0a8e5890ed9d746b12e0056b170340928c1936be35cf92bb3e6d83a71e1",
              (Mirror("folder", "emoji/groups.json"), Mirror("npm", "emojibase-data@17.0.0", "package/meta/groups.json")))
SLICE_SIZE, SLICE_COLUMNS = 233, 24
SHEET = File("emoji_slice.png", "7c44ead34698bebac41850daff8038fa4c4ee70517612a3cde5c2e3d2af65444",
             (Mirror("bundled", "emoji_slice.png"), Mirror("folder", "emoji_slice.png")))
TABLE = File("emoji_slice.tsv", "ea41ad4251028d5a392d4cb32451ad4a9b083e06074cd9c38c8d415566eb5d57",
             (Mirror("bundled", "emoji_slice.tsv"), Mirror("folder", "emoji_slice.tsv")))
