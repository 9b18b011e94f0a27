"""Graphs with features and labels on their nodes: Cora, Citeseer, WebKB, nearest neighbours; several kinds of edges: ACM and IMDB."""
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from cl_lib.datasets.sources import File, Mirror, locate
from cl_lib.errors import InputError, unknown

PLANETOID = ("cora", "citeseer")
WEBKB = ("cornell", "texas", "wisconsin")
HETEROGENEOUS = {"acm": ("pap", "psp"), "imdb": ("mam", "mdm", "mkm")}


@dataclass(frozen=True)
class Graph:
    """An undirected graph whose nodes carry features and labels.

    Shapes: x (n, f) float32; edges (2, m) int64, each edge in both directions, no loops, sorted by their first node;
    y (n,) int64, -1 where a node has no label; `public` maps train, validation and test to node indices, where the
    graph comes with a split that papers use.
    """
    x: torch.Tensor
    edges: torch.Tensor
    y: torch.Tensor
    name: str
    public: dict[str, torch.Tensor]


@dataclass(frozen=True)
class HeterogeneousGraph:
    """Target nodes with features and labels, joined by meta-paths, and the raw relations behind these.

    Shapes: x (n, f) float32 and y (n,) int64 of the target nodes; metapaths: name -> edges (2, m) as in `Graph`, loops
    left out; relations: name -> (2, r) pairs of a target node and a node of another type; `public` maps a number of
    training labels per class (20, 40, 60) to the split of that name.
    """
    x: torch.Tensor
    metapaths: dict[str, torch.Tensor]
    relations: dict[str, torch.Tensor]
    y: torch.Tensor
    name: str
    public: dict[int, dict[str, torch.Tensor]]


@lru_cache
def planetoid(name: str) -> Graph:
    """Cora (2,708 papers, 7 topics) or Citeseer (3,327 papers, 6 topics), joined by citations, with bags of words.

    Bundled. The public split has 20 training labels a class, 500 validation and 1,000 test nodes (1603.08861). Citeseer
    has 15 test nodes without any words or label; their label is -1.
    Raises: InputError for an unknown name.
    """
    if name not in PLANETOID:
        raise unknown("graph", name, PLANETOID)
    with np.load(locate(FILES[name])[0], allow_pickle=False) as z:
        public = {"train": z["train"], "validation": z["val"], "test": z["test"]}
        return Graph(_dense(z), both_ways(z["edges"]), torch.from_numpy(z["labels"].astype(np.int64)), name,
                     {k: torch.from_numpy(v.astype(np.int64)) for k, v in public.items()})


@lru_cache
def webkb(name: str) -> Graph:
    """Web pages of a university (Cornell and Texas 183, Wisconsin 251) in 5 kinds, joined by hyperlinks taken both ways.

    Linked pages mostly differ in kind: these graphs are heterophilous. There is no public split of one draw.
    Source: 2002.05287 (Geom-GCN). Raises: InputError for an unknown name; DataError when the file is not to be had.
    """
    if name not in WEBKB:
        raise unknown("graph", name, WEBKB)
    with np.load(locate(FILES[name])[0], allow_pickle=False) as z:
        return Graph(torch.from_numpy(z["x"].astype(np.float32)), both_ways(z["edges_directed"]),
                     torch.from_numpy(z["labels"].astype(np.int64)), name, {})


@lru_cache
def heterogeneous(name: str) -> HeterogeneousGraph:
    """ACM (4,019 papers, 3 fields; paths over authors and subjects) or IMDB (4,275 movies, 3 genres; actors, directors, keywords).

    As prepared for HeCo (2105.09111) and MEOW (2212.13847), with their splits of 20, 40 and 60 training labels a class. Labels begin
    at 0 here. IMDB's lists of 40 and 60 training nodes a class name a few nodes twice.
    Raises: InputError for an unknown name; DataError when the file is not to be had.
    """
    if name not in HETEROGENEOUS:
        raise unknown("heterogeneous graph", name, HETEROGENEOUS)
    with np.load(locate(FILES[name])[0], allow_pickle=False) as z:
        def ints(key):
            return torch.from_numpy(z[key].astype(np.int64))

        y = ints("labels")
        public = {k: {"train": ints(f"train_{k}"), "validation": ints(f"val_{k}"), "test": ints(f"test_{k}")} for k in (20, 40, 60)}
        return HeterogeneousGraph(
            _dense(z), {p: both_ways(z[f"edges_{p}"]) for p in HETEROGENEOUS[name]},
            {k.removeprefix("rel_"): ints(k).T.contiguous() for k in z.files if k.startswith("rel_")}, y - y.min(), name, public)


@lru_cache
def digits(k: int = 3) -> Graph:
    """1,797 handwritten digits of 8 x 8 grey values (0 to 1, as 64 features), each joined to its k nearest ones.

    Ships with scikit-learn (the test part of UCI's Optical Recognition of Handwritten Digits). No public split.
    """
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = torch.from_numpy(x.astype(np.float32)) / 16
    return Graph(x, knn_graph(x, k), torch.from_numpy(y.astype(np.int64)), "digits", {})


def knn_graph(x: torch.Tensor, k: int) -> torch.Tensor:
    """Edges (2, m), both ways, from each row of x (n, d) to its k nearest others by Euclidean distance.

    Raises: InputError for k outside 1..n - 1.
    """
    from sklearn.neighbors import NearestNeighbors

    if not 1 <= k < len(x):
        raise InputError(f"k must be between 1 and {len(x) - 1}, not {k}")
    found = NearestNeighbors(n_neighbors=k).fit(x.numpy()).kneighbors(return_distance=False)
    return both_ways(np.stack([np.repeat(np.arange(len(x)), k), found.ravel()], 1))


def both_ways(pairs: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Pairs of nodes (m, 2), in any direction, to edges (2, m') in both directions, each once, without loops, sorted."""
    pairs = torch.as_tensor(np.asarray(pairs).astype(np.int64)).reshape(-1, 2).T
    pairs = pairs[:, pairs[0] != pairs[1]]
    if not pairs.numel():
        return pairs
    n = pairs.max() + 1
    key = torch.cat([pairs[0] * n + pairs[1], pairs[1] * n + pairs[0]]).unique()  # far quicker than unique columns
    return torch.stack([key // n, key % n])


def _dense(z) -> torch.Tensor:
    """Rows in compressed form; one stored value stands for all of them."""
    x = np.zeros(z["x_shape"], np.float32)
    rows = np.repeat(np.arange(len(x)), np.diff(z["x_indptr"]))
    x[rows, z["x_indices"].astype(np.int64)] = z["x_data"]
    return torch.from_numpy(x)


def _file(path: str, sha256: str, *mirrors: Mirror, help: str = "") -> File:
    return File(path, sha256, (*mirrors, Mirror("folder", f"graphs/{path}")), help)


_HIN = "A packed copy of the arrays in https://github.com/jianxiangyu/MEOW (data folder), who took them from https://github.com/liun-online/HeCo."
_GEOM = "A packed copy of the text files in https://github.com/bingzhewei/geom-gcn, new_data."
FILES = {
    "cora": _file("planetoid_cora.npz", "a9a34c7c1364b7e4d30e26856a9623f90a1eb317fb7848be6371238382bcbf94",
                  Mirror("bundled", "planetoid_cora.npz")),
    "citeseer": _file("planetoid_citeseer.npz", "1cfcae62c0a40e126b9f11e8b6cb0d492069790e5f9ed23df649c27acc27c427",
                      Mirror("bundled", "planetoid_citeseer.npz")),
    "cornell": _file("webkb_cornell.npz", "7af6cbd15dbf0721132172be645b49d16e0040a4e90a967d6c5eb42afd09912c", help=_GEOM),
    "texas": _file("webkb_texas.npz", "6f9b49027404c1fb12f06ef650b147adfd3f8cd7e8830a015c5fcf9a8029b742", help=_GEOM),
    "wisconsin": _file("webkb_wisconsin.npz", "01ae7edae97565b164ee2b333aa38d55c9348dbbd4b475aab4fe895c05fd939d", help=_GEOM),
    "acm": _file("hin_acm.npz", "368cad52ec088cfd1ce4c4a601707952292df9fc93ebb2694d61a811c3b38c16", help=_HIN),
    "imdb": _file("hin_imdb.npz", "0872bc15a19540c163c5042b3131c87b5351ed9e3538998f0ad37ebf9e9a3733", help=_HIN)}
