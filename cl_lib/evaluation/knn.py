"""k nearest neighbours by cosine: what a representation knows before anything is trained on it."""
import torch
import torch.nn.functional as F

from cl_lib import checks
from cl_lib.errors import InputError

# Similarities held at once: 64 MB in float32.
CHUNK = 2 ** 24


def knn_accuracy(train_h: torch.Tensor, train_y: torch.Tensor, test_h: torch.Tensor, test_y: torch.Tensor, *,
                 k: int = 20, tau: float = 0.07, weighted: bool = True) -> float:
    """The share of test items whose label their k nearest training items vote for.

    Shapes: train_h (n, d), train_y (n,), test_h (q, d), test_y (q,); labels any integers -> fraction in [0, 1].
    Raises: as `knn_predict`. Source: 1805.01978 Section 3.4 (there k = 200; k = 20 since 2104.14294).
    """
    checks.labels("test_y", test_y, len(test_h))
    predicted = knn_predict(train_h, train_y, test_h, k=k, tau=tau, weighted=weighted)
    return (predicted == test_y.to(predicted.device)).double().mean().item()


@torch.no_grad()
def knn_predict(train_h: torch.Tensor, train_y: torch.Tensor, test_h: torch.Tensor, *, k: int = 20, tau: float = 0.07,
                weighted: bool = True) -> torch.Tensor:
    """The label of each test item: its k nearest training items by cosine vote with weight exp(cosine / tau), or 1.

    Shapes: train_h (n, d), train_y (n,), test_h (q, d) -> (q,) labels of train_y. Equal votes: the smaller label.
    Raises: InputError for shapes that do not agree, k outside 1..n, tau <= 0.
    Reduces to: scikit-learn's KNeighborsClassifier(metric="cosine") with weighted=False. Cost: O(q n d), in chunks.
    """
    checks.embeddings("train_h", train_h)
    checks.embeddings("test_h", test_h)
    checks.labels("train_y", train_y, len(train_h))
    checks.positive("tau", tau)
    if test_h.shape[1] != train_h.shape[1]:
        raise InputError(f"test_h has {test_h.shape[1]} dimensions, train_h {train_h.shape[1]}; they must agree")
    if not 1 <= k <= len(train_h):
        raise InputError(f"k must be between 1 and {len(train_h)}, the number of training items, not {k}")
    dtype = torch.promote_types(train_h.dtype, torch.float32)
    train, test = F.normalize(train_h.to(dtype), dim=1), F.normalize(test_h.to(dtype), dim=1)
    labels, y = train_y.unique(return_inverse=True)
    predicted = []
    for queries in test.split(max(1, CHUNK // len(train))):
        s, nearest = (queries @ train.T).topk(k, dim=1)
        # less the largest, which changes no vote's rank and keeps exp in range at any tau
        votes = ((s - s[:, :1]) / tau).exp() if weighted else torch.ones_like(s)
        predicted.append(s.new_zeros(len(s), len(labels)).scatter_add_(1, y[nearest], votes).argmax(1))
    return labels[torch.cat(predicted)]
