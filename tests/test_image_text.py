"""Captions and their words, batches, towers, and the two measures against towers that know the answer."""
import pytest
import torch
import torch.nn.functional as F

from cl_lib import image_text
from cl_lib.datasets import emoji
from cl_lib.errors import InputError
from cl_lib.training import generator


@pytest.fixture(scope="module")
def data():
    return emoji.emoji("slice")


def test_words():
    words = image_text.Words(["cat", "dog"])
    ids, lengths = words(["Dog, cat!", "a dog", "cat"])
    assert ids.tolist() == [[3, 2], [1, 3], [2, 0]] and lengths.tolist() == [2, 2, 1] and len(words) == 4
    assert words(["cat " * 20])[0].shape == (1, image_text.LONGEST)
    with pytest.raises(InputError, match="text 1"):
        words(["cat", "!"])


def test_vocabulary(data):
    seen = emoji.split(data, 0).seen
    every, common = (image_text.vocabulary(data, seen, least=n) for n in (1, 3))
    assert set(common.known) < set(every.known) and common.known == every.known[:len(common.known)]
    texts = [s for i in seen.tolist() for s in image_text.sentences(data, i)]
    assert (every(texts)[0] != 1).all()  # nothing of training is unknown
    assert image_text.sentences(data, 0)[-1] == "face smiling" and image_text.sentences(data, 0, kind=False)[-1] == data.keywords[0][-1]


def test_captions_say_what_they_should(data):
    index = torch.arange(len(data))
    g = generator(0)
    assert image_text.caption(data, index, g, name=1, kind=0, wrong=0) == [" ".join(image_text.tokens(n)[:8]) for n in data.names]
    kinds = image_text.caption(data, index, g, kind=1, wrong=0)
    assert kinds == [" ".join(image_text.tokens(data.subgroups[s])) for s in data.subgroup]
    for i, text in enumerate(image_text.caption(data, index, g, name=0, kind=0, wrong=0, most=1)):
        assert text in [" ".join(image_text.tokens(k)) for k in (data.keywords[i] or (data.names[i],))]
    own = [{w for s in image_text.sentences(data, i) for w in image_text.tokens(s)} for i in range(len(data))]
    for wrong, low, high in ((0, 0, 0), (0.2, 0.1, 0.25), (1, 0.7, 1)):
        texts = image_text.caption(data, index.repeat(5), g, wrong=wrong)
        strange = sum(not set(t.split()) <= own[i % len(data)] for i, t in enumerate(texts)) / len(texts)
        assert low <= strange <= high
    named = [set(image_text.tokens(data.subgroups[s])) & set(t.split()) for s, t in zip(data.subgroup, image_text.caption(data, index, g, kind=0), strict=True)]
    assert sum(map(bool, named)) < 0.6 * len(data)  # the class's word does not always stand there
    assert image_text.caption(data, index, generator(3)) == image_text.caption(data, index, generator(3))
    with pytest.raises(InputError, match="1.5"):
        image_text.caption(data, index, g, wrong=1.5)
    with pytest.raises(InputError, match="most"):
        image_text.caption(data, index, g, most=0)


def test_batches(data):
    part = emoji.split(data, 1)
    source = image_text.paired_batches(part, 32, generator(0))
    for _ in range(8):
        artists, concepts = next(source)
        assert artists.shape == (32,) and len(concepts.unique()) == 32
        assert torch.isin(concepts, part.seen).all() and not (artists == part.artist).any()


def test_towers(data):
    words = image_text.vocabulary(data, torch.arange(len(data)))
    a, b = (image_text.Towers(len(words), seed=s) for s in (0, 0))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    z, t = a.image(data.x[0, :5]), a.text(*words(data.names[:5]))
    assert torch.allclose(z.norm(dim=1), torch.ones(5)) and torch.allclose(t.norm(dim=1), torch.ones(5)) and z.shape == t.shape == (5, 64)
    assert torch.isclose(a.tau, torch.tensor(0.07))
    with torch.no_grad():
        a.log_scale.fill_(9.0)
    assert torch.isclose(a.tau, torch.tensor(0.01))


class Knowing(image_text.Towers):
    """Pictures are known by their bytes, texts by their words; both become the same fixed vector of a label."""

    def __init__(self, data, words, labels, texts):
        super().__init__(len(words))
        table = F.normalize(torch.randn(len(texts), 256, generator=generator(1)), dim=1)
        self.by_picture = {p.numpy().tobytes(): table[y] for x in data.x for p, y in zip(x, labels, strict=True)}
        self.by_text = {tuple(words([t])[0][0].tolist()): v for t, v in zip(texts, table, strict=True)}

    def image(self, x):
        return torch.stack([self.by_picture[p.numpy().tobytes()] for p in x])

    def text(self, ids, lengths):
        return torch.stack([self.by_text[tuple(i[:n].tolist())] for i, n in zip(ids, lengths, strict=True)])


def test_retrieval_and_zero_shot_of_towers_that_know(data):
    words = image_text.vocabulary(data, torch.arange(len(data)))
    part = emoji.split(data, 0)
    right = Knowing(data, words, torch.arange(len(data)), data.names)
    assert image_text.retrieval(right, words, data, part) == {"r1": 1.0, "r5": 1.0}
    shifted = Knowing(data, words, (torch.arange(len(data)) + 1) % len(data), data.names)
    assert image_text.retrieval(shifted, words, data, part)["r1"] == 0
    kinds = [image_text.described(s) for s in data.subgroups]
    assert image_text.zero_shot(Knowing(data, words, data.subgroup, kinds), words, data, part) == 1
    assert image_text.zero_shot(Knowing(data, words, (data.subgroup + 1) % 12, kinds), words, data, part) == 0
