"""Seconds of nearest-neighbour classification at the size of a real set, ours beside scikit-learn's."""
import subprocess
import sys
import time

from cl_lib.errors import unknown

NAMES = ("ours", "scikit-learn")


def evaluation(*, train: int = 50_000, test: int = 10_000, d: int = 512, k: int = 20, threads: int = 2,
               names: tuple[str, ...] = NAMES) -> list[dict]:
    """A row for each implementation: seconds, and agreement, the share of test items that get the label of the first row.

    Unweighted votes of the k nearest by cosine, random features of ten overlapping classes. (Linear probes are scikit-learn's.)
    """
    rows, predicted = [], None
    for name in names:
        if name not in NAMES:
            raise unknown("implementation", name, NAMES)
        code = f"from cl_lib.profiling.evaluation import measure; measure({name!r}, {train}, {test}, {d}, {k}, {threads})"
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
        seconds, labels = done.stdout.split()
        predicted = predicted or labels
        same = sum(a == b for a, b in zip(labels, predicted, strict=True)) / test
        rows.append(dict(name=name, train=train, test=test, d=d, k=k, threads=threads, seconds=float(seconds), agreement=same))
    return rows


def measure(name: str, train: int, test: int, d: int, k: int, threads: int) -> None:
    """Print the seconds and the predicted labels, a digit each; called in a fresh process."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    g = torch.Generator().manual_seed(0)
    y = torch.randint(10, (train,), generator=g)
    centres = torch.randn(10, d, generator=g)
    h = centres[y] + 4 * torch.randn(train, d, generator=g)
    queries = centres[torch.randint(10, (test,), generator=g)] + 4 * torch.randn(test, d, generator=g)
    with threadpool_limits(threads):
        begin = time.perf_counter()
        if name == "ours":
            from cl_lib.evaluation.knn import knn_predict

            labels = knn_predict(h, y, queries, k=k, weighted=False)
        else:
            from sklearn.neighbors import KNeighborsClassifier

            labels = KNeighborsClassifier(k, metric="cosine").fit(h.numpy(), y.numpy()).predict(queries.numpy())
        seconds = time.perf_counter() - begin
    print(seconds, "".join(map(str, labels.tolist())))
