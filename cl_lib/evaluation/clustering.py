"""Do clusters found without labels agree with them?"""
import torch
import torch.nn.functional as F

from cl_lib import checks
from cl_lib.errors import InputError


def cluster_accuracy(y: torch.Tensor, assignment: torch.Tensor) -> float:
    """The share of items whose cluster stands for their label, under the best one-to-one matching of the two.

    Shapes: y, assignment (n,), any integers, not necessarily as many clusters as labels: what is left over is wrong.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix
    counts = contingency_matrix(*_labels(y, assignment))
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / counts.sum())


def cluster_f1(y: torch.Tensor, assignment: torch.Tensor) -> float:
    """Mean over the labels of the F1 score of the cluster that stands for each, matched as in `cluster_accuracy`.

    Shapes: y, assignment (n,), any integers. A label whose cluster is missing has 0.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix
    counts = contingency_matrix(*_labels(y, assignment))
    rows, columns = linear_sum_assignment(counts, maximize=True)
    hit = counts[rows, columns]
    return float((2 * hit / (counts.sum(1)[rows] + counts.sum(0)[columns])).sum() / len(counts))


def nmi(y: torch.Tensor, assignment: torch.Tensor) -> float:
    """Mutual information of labels and clusters over the mean of their entropies: 1 when they are the same partition."""
    from sklearn.metrics import normalized_mutual_info_score
    return float(normalized_mutual_info_score(*_labels(y, assignment)))


def ari(y: torch.Tensor, assignment: torch.Tensor) -> float:
    """Adjusted Rand index: agreement on which pairs belong together, 0 by chance and 1 for the same partition."""
    from sklearn.metrics import adjusted_rand_score
    return float(adjusted_rand_score(*_labels(y, assignment)))


def kmeans(z: torch.Tensor, k: int, *, seed: int, restarts: int = 10,
           normalize: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Lloyd's k-means from k-means++ starts, the best of `restarts` (scikit-learn): assignment (n,) and centres (k, d).

    Shapes: z (n, d); on unit rows unless told not to. The centres are plain means, not normalised again.
    Raises: InputError for k outside 1..n.
    """
    from sklearn.cluster import KMeans
    checks.embeddings("z", z)
    if not 1 <= k <= len(z):
        raise InputError(f"k must be between 1 and {len(z)}, the number of rows, not {k}")
    dtype = torch.promote_types(z.dtype, torch.float32)
    x = z.detach().to(dtype)
    x = F.normalize(x, dim=1) if normalize else x
    found = KMeans(k, n_init=restarts, random_state=seed).fit(x.cpu().numpy())
    return (torch.as_tensor(found.labels_, dtype=torch.long, device=z.device),
            torch.as_tensor(found.cluster_centers_, dtype=dtype, device=z.device))


def _labels(y: torch.Tensor, assignment: torch.Tensor):
    checks.labels("y", y, len(y))
    if not len(y):
        raise InputError("y is empty")
    checks.labels("assignment", assignment, len(y))
    return y.cpu().numpy(), assignment.cpu().numpy()
