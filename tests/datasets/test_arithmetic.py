import pytest
import torch

from cl_lib.datasets.arithmetic import GAIN, LARGEST, LOSS, TOKENS, ids, padded, problems
from cl_lib.errors import InputError


def test_the_reasoning_is_right_and_only_the_person_asked_about_counts():
    for p in problems(300, seed=0, steps=(1, 2, 3), others=(0, 2)):
        who, total, text = p.question[0], None, list(p.question)
        assert text[-6:-3] == ["how", "many", text[3]] and text[-2] == who
        sentences = " ".join(text[:-6]).split(" . ")
        total = int(sentences[0].split()[2])
        steps = []
        for s in (s.split() for s in sentences[1:]):
            if s[1] == who:
                sign = "+" if s[2] in GAIN else "-"
                assert sign == "+" or s[2] in LOSS
                steps.append((sign, int(s[3])))
        assert tuple(steps) == p.steps
        written = " ".join(p.reasoning)
        for sign, by in steps:
            after = total + by if sign == "+" else total - by
            assert 0 <= after <= LARGEST and f"so {total} {sign} {by} = {after} ." in written
            total = after
        assert p.answer == total and written.endswith(f"answer {total} <end>")


def test_seeds_and_numbers():
    assert problems(5, seed=1) == problems(5, seed=1) != problems(5, seed=2)
    rows = [ids(p.question) for p in problems(3, seed=0)]
    assert padded(rows).shape == (3, max(map(len, rows))) and padded([[5], [6, 7]]).tolist() == [[5, 0], [6, 7]]
    assert TOKENS[0] == "<pad>" and torch.unique(padded(rows)).max() < len(TOKENS)
    with pytest.raises(InputError, match="'pears'"):
        ids(["tom", "pears"])
    with pytest.raises(InputError, match="at least 1"):
        problems(1, 0, steps=(0,))
