"""What an embedding is worth: numbers from frozen features, exact and in chunks."""
from cl_lib.evaluation.clustering import ari, cluster_accuracy, kmeans, nmi
from cl_lib.evaluation.geometry import (
    alignment, anisotropy, effective_rank, singular_spectrum, top_variance_share, uniformity,
)
from cl_lib.evaluation.knn import knn_accuracy, knn_predict
from cl_lib.evaluation.linear import fit_linear, linear_probe, ridge_probe
from cl_lib.evaluation.retrieval import (
    hit_rate, mean_average_precision, mean_reciprocal_rank, ndcg, precision_at_k, recall_at_k, retrieval_metrics,
)
from cl_lib.evaluation.similarity import sts_pearson, sts_spearman

__all__ = [
    "alignment", "anisotropy", "ari", "cluster_accuracy", "effective_rank", "fit_linear", "hit_rate", "kmeans",
    "knn_accuracy", "knn_predict", "linear_probe", "mean_average_precision", "mean_reciprocal_rank", "ndcg", "nmi",
    "precision_at_k", "recall_at_k", "retrieval_metrics", "ridge_probe", "singular_spectrum", "sts_pearson", "sts_spearman",
    "top_variance_share", "uniformity",
]
