"""A small vision-language model: a CNN whose features stand as a few tokens before the words that a causal transformer reads."""
import torch
from torch import nn

from cl_lib.encoders.causal import Read
from cl_lib.encoders.image import Encoder, seeded, small_cnn
from cl_lib.encoders.language_models import GPT, Cache


class VisionLanguage(nn.Module):
    """A `GPT` that sees: the features of a picture in 2x2 fields, mapped linearly, are four tokens after the start token (LLaVA's shape).

    Shapes: ids (n, l) int64, the start token first, and a `prefix` (n, k, d) from `see`, `filled`, or None for no picture ->
    logits (n, l, vocabulary) of the token after each word, by `forward`. `read` goes on from a cache; it takes the prefix with the
    first words alone. `longest` counts the prefix too. Source: 2304.08485.
    """

    def __init__(self, vocabulary: int, d: int = 64, *, layers: int = 3, heads: int = 4, longest: int = 32, width: int = 24, depth: int = 4,
                 seed: int | None = None):
        super().__init__()
        cnn = small_cnn(width=width, depth=depth, seed=seed)
        self.cnn = Encoder(nn.Sequential(*cnn.body[:-2], nn.AdaptiveAvgPool2d(2)), cnn.dim)
        with seeded(seed):
            self.bridge = nn.Linear(cnn.dim, d)
        self.gpt = GPT(vocabulary, d, layers=layers, heads=heads, longest=longest, seed=seed)

    def fields(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (n, 3, h, w) -> the CNN's features (n, 4, c) of the fields from left to right, the upper ones first."""
        return self.cnn(x).flatten(2).transpose(1, 2)

    def see(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (n, 3, h, w) -> the tokens (n, 4, d) of their fields."""
        return self.bridge(self.fields(x))

    def filled(self, token: int, n: int) -> torch.Tensor:
        """Four times the same word where the picture's tokens stand: (n, 4, d)."""
        return self.gpt.tokens.weight[token].expand(n, 4, -1)

    def states(self, ids: torch.Tensor, prefix: torch.Tensor | None = None, cache: Cache | None = None) -> torch.Tensor:
        """The last layer's states, after the norm, from which the token after each word is told: (n, l, d)."""
        h, first = self.gpt.tokens(ids), 0 if cache is None else len(cache)
        if prefix is not None:
            h = torch.cat([h[:, :1], prefix, h[:, 1:]], 1)
        h = h + self.gpt.positions(torch.arange(first, first + h.shape[1], device=ids.device))
        for i, layer in enumerate(self.gpt.layers):
            h = layer(h, i, cache)
        return self.gpt.norm(h[:, -ids.shape[1]:])

    def forward(self, ids: torch.Tensor, prefix: torch.Tensor | None = None) -> torch.Tensor:
        return self.gpt.logits(self.states(ids, prefix))

    @torch.no_grad()
    def read(self, ids: torch.Tensor, prefix: torch.Tensor | None = None, cache: Cache | None = None) -> Read:
        """As `GPT.read`; the model should be in evaluation mode."""
        cache = Cache(len(self.gpt.layers)) if cache is None else cache
        states = self.states(ids, prefix, cache)
        return Read(self.gpt.logits(states), states, cache)
