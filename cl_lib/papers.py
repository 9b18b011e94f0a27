"""The registry: parts, notebooks, papers and their claims, read from `data/book.yml` and `data/papers/*.yml`."""
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import yaml

from cl_lib.errors import InputError, unknown

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("identity", "bound", "effect", "scaling", "cost", "no_worse", "equivalent")
EXACT, MARGIN = ("identity", "bound"), ("no_worse", "equivalent")
FIDELITIES = ("same", "scaled-down", "analogue")
PAPER = {"id", "title", "authors", "year", "venue", "arxiv", "code", "idea", "headline", "departures", "claims"}, {"framework", "relations"}
HEADLINE = {"says"}, {"value", "unit", "baseline"}
CLAIM = {"id", "says", "where", "kind", "fidelity", "metric", "better"}, {"contrasts", "tolerance"}
# A method as coordinates, after 2010.05113: of what the paper itself compares, the main choice. `none`: it has no such part.
FRAMEWORK = {
    "positives": {
        "transformation": "two random transformations of one item, dropout and masking among them",
        "generation": "a view that a generator, an adversary or a learned module makes",
        "context": "parts of one whole: crops, spans, regions, recordings of one person",
        "sequence": "neighbours in time or in a text",
        "modality": "two sensors, languages or media of one thing",
        "relation": "a recorded relation: query and document, clicks, edges, citations",
        "clusters": "items that the method's own clusters or neighbours put together",
        "labels": "class labels, targets or human judgements of closeness",
        "preference": "what people or a reward prefer",
        "model": "what another model, a teacher or an inner layer makes of the same item"},
    "negatives": {
        "batch": "other items of the batch, or random ones of the data",
        "queue": "keys of past batches",
        "bank": "a stored key for every item",
        "item": "other parts, tokens or times of the same item",
        "prototypes": "vectors of other classes or clusters",
        "mined": "the nearest wrong ones, searched for",
        "given": "wrong ones that the data name",
        "synthetic": "wrong ones made for the purpose: mixed, edited, sampled from a model",
        "model": "what a weaker model, or a model with less input, would say"},
    "encoder": {
        "shared": "one encoder for both sides",
        "two": "an encoder for each side, both trained",
        "momentum": "the other side by a moving average of the encoder",
        "bank": "the other side read from a memory bank",
        "frozen": "one side, or all but an adapter, is frozen",
        "joint": "both sides are read together and scored"},
    "head": {
        "projection": "linear layers or an MLP before the loss",
        "predictor": "a projection, and a predictor on one side",
        "aggregation": "attention or pooling over parts",
        "quantisation": "codes from a learnt codebook",
        "prototypes": "learnt vectors of classes or clusters",
        "classifier": "outputs for classes",
        "decoder": "a decoder that reconstructs or writes"},
    "loss": {
        "softmax": "the positive out of many candidates: InfoNCE and its kin",
        "sigmoid": "each pair by itself, right or wrong",
        "margin": "a hinge on distances or similarities",
        "ranking": "an order of pairs or lists, by logistic differences or by sorting",
        "distance": "squares of distances or products, with or without a term that spreads",
        "redundancy": "variances and correlations of the outputs",
        "classification": "cross-entropy to classes, codes or a teacher's outputs",
        "likelihood": "reconstruction, likelihood or noise prediction"}}
RELATIONS = {"reduces_to": "reduces to", "builds_on": "builds on", "compared_with": "is compared with"}
EVERYWHERE = {"other": "something else, or all of these", "none": "has no such part"}


@dataclass(frozen=True)
class Contrast:
    """One comparison of a claim: `arm` is better than `against` by at least `min_effect`, or within `margin` of it."""
    arm: str
    against: str
    min_effect: float = 0.0
    margin: float | None = None


@dataclass(frozen=True)
class Claim:
    """What a paper says, how it is measured, and what would count as holding; written before any recorded run."""
    paper: str
    id: str
    says: str
    where: str
    kind: str
    fidelity: str
    metric: str
    better: str
    contrasts: tuple[Contrast, ...] = ()
    tolerance: float | None = None

    @property
    def name(self) -> str:
        return f"{self.paper}.{self.id}"

    @property
    def control(self) -> bool:
        """Whether it is a positive control, `control` or `control-...`, which is no claim of the paper."""
        return self.id.partition("-")[0] == "control"

    @property
    def sign(self) -> int:
        """+1 where a higher value is better, -1 where a lower one is."""
        return 1 if self.better == "higher" else -1


@dataclass(frozen=True)
class Paper:
    id: str
    title: str
    authors: str
    year: int
    venue: str | None
    arxiv: str | None
    code: str | None
    idea: str
    headline: dict | None
    departures: tuple[str, ...]
    claims: tuple[Claim, ...]
    notebook: str
    part: str
    framework: dict[str, str] | None = None
    relations: dict[str, tuple[str, ...]] = field(default_factory=dict)  # relation -> papers and landmarks


@dataclass(frozen=True)
class Landmark:
    """A work that papers of the book start from, and that has no row of its own."""
    id: str
    title: str
    year: int
    arxiv: str | None


@dataclass(frozen=True)
class Notebook:
    name: str
    title: str
    part: str
    intro: str
    papers: tuple[Paper, ...] = field(repr=False)

    @property
    def path(self) -> Path:
        """Where the notebook stands, relative to the project; it may not be written yet."""
        return Path("book", self.part, f"{self.name}.ipynb")


@dataclass(frozen=True)
class Part:
    name: str
    title: str
    intro: str
    notebooks: tuple[Notebook, ...] = field(repr=False)


class _Lines(yaml.SafeLoader):
    """A safe loader whose mappings remember their line under `__line__` and refuse a key given twice."""

    def construct_mapping(self, node, deep=False):
        keys = [k.value for k, _ in node.value]
        if len(keys) != len(set(keys)):
            double = next(k for k in keys if keys.count(k) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"the field {double!r} stands twice", node.start_mark)
        return {**super().construct_mapping(node, deep), "__line__": node.start_mark.line + 1}


def _load(path: Path):
    try:
        return yaml.load(path.read_text(encoding="utf8"), _Lines)  # noqa: S506 (a SafeLoader)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; the registry is read from the project's folder data/") from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise InputError(f"{path}:{line}: not valid YAML: {getattr(error, 'problem', error)}") from None


def _fields(row, path: Path, what: str, needed: set[str], optional: set[str] = frozenset()) -> dict:
    """`row` without its line mark, once it is a mapping with every needed field and no unknown one."""
    if not isinstance(row, dict):
        raise InputError(f"{path}: {what} is not a mapping with the fields {', '.join(sorted(needed))}: {row!r}")
    at = f"{path}:{row['__line__']}: {what}"
    given = set(row) - {"__line__"}
    for extra in sorted(given - needed - optional):
        raise InputError(f"{at}: {unknown('field', extra, needed | optional)}")
    if missing := sorted(needed - given):
        raise InputError(f"{at}: missing field {missing[0]!r}; needed: {', '.join(sorted(needed))}")
    return {k: v for k, v in row.items() if k != "__line__"}


def _claim(row, paper: str, path: Path) -> Claim:
    r = _fields(row, path, f"a claim of {paper}", *CLAIM)
    at = f"{path}:{row['__line__']}: claim {paper}.{r['id']}"
    if str(r["id"]).partition("-")[0] == "control":
        raise InputError(f"{at}: ids that begin with control are those of positive controls, which only the notebook names")
    for name, valid in (("kind", KINDS), ("fidelity", FIDELITIES), ("better", ("higher", "lower"))):
        if r[name] not in valid:
            raise InputError(f"{at}: {unknown(name, r[name], valid)}")
    if r["kind"] in EXACT:
        if not isinstance(r.get("tolerance"), (int, float)) or "contrasts" in r:
            raise InputError(f"{at}: kind {r['kind']} takes a number `tolerance` (write 1.0e-10) and no `contrasts`")
        return Claim(paper, **r)
    bar = "margin" if r["kind"] in MARGIN else "min_effect"
    if not r.get("contrasts") or "tolerance" in r:
        raise InputError(f"{at}: kind {r['kind']} takes `contrasts`, each with arm, against and {bar}, no `tolerance`")
    contrasts = tuple(Contrast(**_fields(c, path, f"a contrast of {paper}.{r['id']}", {"arm", "against", bar}))
                      for c in r["contrasts"])
    for c in contrasts:
        if not isinstance(getattr(c, bar), (int, float)) or getattr(c, bar) < 0:
            raise InputError(f"{at}: {bar} must be a number >= 0, not {getattr(c, bar)!r}")
    return Claim(paper, **{**r, "contrasts": contrasts})


def _paper(row, notebook: str, part: str, path: Path) -> Paper:
    r = _fields(row, path, f"paper {row.get('id', '?')}" if isinstance(row, dict) else "a paper", *PAPER)
    at = f"{path}:{row['__line__']}: paper {r['id']}"
    if r["headline"] is not None:
        r["headline"] = _fields(r["headline"], path, f"headline of {r['id']}", *HEADLINE)
    if not isinstance(r["year"], int):
        raise InputError(f"{at}: year must be a whole number, not {r['year']!r}")
    for name in ("departures", "claims"):
        if not isinstance(r[name], list):
            raise InputError(f"{at}: {name} must be a list ([] when there are none), not {r[name]!r}")
    if "framework" in r:
        r["framework"] = _fields(r["framework"], path, f"framework of {r['id']}", set(FRAMEWORK))
        for axis, word in r["framework"].items():
            if word not in (valid := (*FRAMEWORK[axis], *EVERYWHERE)):
                raise InputError(f"{at}: framework: {unknown(axis, word, valid)}")
    if "relations" in r:
        r["relations"] = _fields(r["relations"], path, f"relations of {r['id']}", set(), set(RELATIONS))
        for name, others in r["relations"].items():
            if not isinstance(others, list) or r["id"] in others or len(set(others)) != len(others):
                raise InputError(f"{at}: {name} must be a list of other papers or landmarks, each once, not {others!r}")
        r["relations"] = {name: tuple(others) for name, others in r["relations"].items()}
    claims = tuple(_claim(c, r["id"], path) for c in r["claims"])
    if len({c.id for c in claims}) != len(claims):
        raise InputError(f"{at}: two claims have the same id")
    return Paper(**{**r, "departures": tuple(r["departures"]), "claims": claims}, notebook=notebook, part=part)


@lru_cache
def book(root: Path = ROOT) -> tuple[Part, ...]:
    """Every part of the book with its notebooks, papers and claims, in reading order.

    Raises: InputError naming file and line for a missing, unknown or malformed field, an id used twice, or a relation
    to a paper that is neither in the book nor a landmark.
    """
    index = root / "data" / "book.yml"
    parts = []
    for p in _load(index):
        p = _fields(p, index, "a part", {"name", "title", "intro", "notebooks"})
        notebooks = []
        for nb in p["notebooks"]:
            nb = _fields(nb, index, f"a notebook of {p['name']}", {"name", "title", "intro"})
            path = root / "data" / "papers" / f"{nb['name']}.yml"
            rows = tuple(_paper(row, nb["name"], p["name"], path) for row in _load(path) or [])
            notebooks.append(Notebook(nb["name"], nb["title"], p["name"], nb["intro"], rows))
        parts.append(Part(p["name"], p["title"], p["intro"], tuple(notebooks)))
    ids = [paper.id for part in parts for nb in part.notebooks for paper in nb.papers]
    if len(ids) != len(set(ids)):
        raise InputError(f"{index.parent / 'papers'}: paper {next(i for i in ids if ids.count(i) > 1)!r} stands twice")
    known = {*ids, *landmarks(root)}
    for paper in (paper for part in parts for nb in part.notebooks for paper in nb.papers):
        for other in (o for others in paper.relations.values() for o in others if o not in known):
            path = index.parent / "papers" / f"{paper.notebook}.yml"
            raise InputError(f"{path}: relations of {paper.id}: {unknown('paper', other, known)}")
    return tuple(parts)


@lru_cache
def landmarks(root: Path = ROOT) -> dict[str, Landmark]:
    """The works outside the book that its papers start from; none where the project has no `data/landmarks.yml`."""
    path = root / "data" / "landmarks.yml"
    rows = _load(path) if path.exists() else []
    return {r["id"]: Landmark(**_fields(r, path, "a landmark", {"id", "title", "year", "arxiv"})) for r in rows}


def notebooks(root: Path = ROOT) -> dict[str, Notebook]:
    return {nb.name: nb for part in book(root) for nb in part.notebooks}


def papers(root: Path = ROOT) -> dict[str, Paper]:
    return {p.id: p for nb in notebooks(root).values() for p in nb.papers}


def notebook(name: str, root: Path = ROOT) -> Notebook:
    """The notebook of that name. Raises InputError with the nearest name when there is none."""
    try:
        return notebooks(root)[name]
    except KeyError:
        raise unknown("notebook", name, notebooks(root)) from None


def places(rows: str = "positives", columns: str = "loss", root: Path = ROOT) -> dict[tuple[str, str], list[Paper]]:
    """The papers at each crossing of two axes of the framework, in reading order; crossings without a paper are left out.

    Raises: InputError for an unknown axis.
    """
    for axis in (rows, columns):
        if axis not in FRAMEWORK:
            raise unknown("axis", axis, FRAMEWORK)
    found: dict[tuple[str, str], list[Paper]] = {}
    for p in papers(root).values():
        if p.framework is not None:
            found.setdefault((p.framework[rows], p.framework[columns]), []).append(p)
    return found


def paper(id: str, root: Path = ROOT) -> Paper:
    """The paper of that id. Raises InputError with the nearest id when there is none."""
    try:
        return papers(root)[id]
    except KeyError:
        raise unknown("paper", id, papers(root)) from None


def claim(name: str, root: Path = ROOT) -> Claim:
    """The claim written `paper.claim`. Raises InputError with the nearest name when there is none."""
    of = paper(name.partition(".")[0], root)
    for c in of.claims:
        if c.name == name:
            return c
    raise unknown("claim", name, [c.name for c in of.claims])
