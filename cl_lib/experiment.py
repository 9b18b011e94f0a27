"""What a notebook calls: measure the arms of a claim at paired seeds, reuse what is known, record, show the verdict."""
import gc
import itertools
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import nbformat
import torch

from cl_lib import evidence, fingerprint, papers
from cl_lib.errors import InputError, unknown
from cl_lib.papers import ROOT
from cl_lib.profiling.memory import peak_mb

TIERS = ("smoke", "cpu", "gpu")
ROLES = ("idea", "method", "oracle", "experiment", "claim", "reading")
SEEDS = {"smoke": 1, "cpu": 5, "gpu": 3}
# Claim cells only call and draw: their arms stand in each row's settings, so a new figure makes no row stale.
MEASURED_ROLES = ("method", "experiment")

Settings = dict[str, object]
Measure = Callable[..., dict[str, float]]


def start(notebook: str, *, tier: str, seeds: list[int] | None = None, device: str = "cpu",
          only: list[str] | None = None, settings: Settings | None = None) -> "Run":
    """Open a run of a notebook; the set-up cell of every notebook calls this with its parameters.

    `seeds` None means the seeds that each claim asks for; `only` may name claims (`dcl.small-batch`) beside papers, and
    the other claims of their papers are passed over; `settings` replace those of the same name in every arm.
    Raises: InputError for an unknown notebook, tier, claim or device, or a seed list that is not one.
    """
    check(tier=tier, seeds=seeds, device=device)
    torch.set_num_threads(1)
    if tier == "smoke":
        from cl_lib import figures

        figures.sketch()
        _hurry()
    claims = frozenset(papers.claim(name).name for name in only or () if "." in name)
    return Run(papers.notebook(notebook), tier, seeds, device, claims, dict(settings or {}))


def check(*, tier: str, seeds: list[int] | None, device: str) -> None:
    """Refuse an unknown tier, a seed list that is not one, and a device that is not there."""
    if tier not in TIERS:
        raise unknown("tier", tier, TIERS)
    if seeds is not None and not (seeds and all(type(s) is int and s >= 0 for s in seeds) and len(set(seeds)) == len(seeds)):
        raise InputError(f"seeds must be a list of different whole numbers >= 0, such as [0, 1, 2], not {seeds!r}")
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise unknown("device", device, ("cpu", "cuda", "cuda:0", "mps")) from None
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, False):
        raise InputError(f"device {device!r} is not there; this machine has {', '.join(k for k, v in there.items() if v)}")
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {device!r} is not there; this machine has {torch.cuda.device_count()} CUDA devices")


@dataclass
class Run:
    """An open run of one notebook at one tier."""
    notebook: papers.Notebook
    tier: str
    seeds: list[int] | None
    device: str
    only: frozenset[str] = frozenset()
    settings: Settings = field(default_factory=dict)
    memory: dict[str, list[dict]] = field(default_factory=dict)  # rows that are not recorded: smoke, edited in place
    tuned: dict[str, dict] = field(default_factory=dict)
    controls: dict[str, papers.Claim] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        return Path(os.environ.get("CL_RESULTS") or evidence.RESULTS)

    def pick(self, *, smoke, cpu, gpu=None):
        """The one of the values that belongs to the run's tier; `gpu` defaults to that of `cpu`."""
        return {"smoke": smoke, "cpu": cpu, "gpu": cpu if gpu is None else gpu}[self.tier]

    def seeds_for(self, least: int | None) -> list[int]:
        n = 1 if self.tier == "smoke" else max(SEEDS[self.tier], (least or 0) if self.tier == "cpu" else 0)
        return list(range(n)) if self.seeds is None else self.seeds

    def tune(self, paper: str, arms: dict[str, Settings], grid: dict[str, list], measure: Measure, *, metric: str,
             better: str = "higher", seeds: tuple[int, ...] = (100, 101),
             claims: tuple[str, ...] = ()) -> dict[str, Settings]:
        """Give every arm its best point of one grid: the same grid and seeds for all, judged by a validation metric.

        Tuning seeds are never evaluation seeds. Every trial is a row of claim `<paper>.tuning`. Nothing is tried, and
        the first point of the grid stands, at tier smoke and where a run passes over all of the `claims` (ids; none
        named means all of the paper) that use the choice.
        """
        points = [dict(zip(grid, p, strict=True)) for p in itertools.product(*grid.values())]
        users = [papers.claim(f"{paper}.{id}") for id in claims] or papers.paper(paper).claims
        if self.tier == "smoke" or all(map(self._passed_over, users)):
            return {arm: {**settings, **points[0]} for arm, settings in arms.items()}
        if clash := set(seeds) & set(self.seeds or ()):
            raise InputError(f"seeds {sorted(clash)} are tuning seeds of {paper}; they cannot be evaluation seeds")
        trials = {_label(arm, p): {**settings, **p} for arm, settings in arms.items() for p in points}
        known = self._measure(f"{paper}.tuning", trials, list(seeds), measure, metric, None)
        sign = 1 if better == "higher" else -1
        found = {(r["arm"], r["seed"]): r["value"] for r in known}

        def score(arm, p):
            got = [found.get((_label(arm, p), s)) for s in seeds]
            return -float("inf") if None in got else sign * sum(got) / len(got)

        best = {arm: max(points, key=lambda p, arm=arm: score(arm, p)) for arm in arms}
        self.tuned[paper] = dict(grid=grid, seeds=list(seeds), metric=metric, chosen=best)
        return {arm: {**settings, **best[arm]} for arm, settings in arms.items()}

    def claim(self, name: str, arms: dict[str, Settings], measure: Measure, *, seeds: int | None = None,
              draw: bool = True) -> evidence.Verdict | None:
        """Measure every arm at every seed (or reuse the rows that are there), then show the verdict.

        `measure(seed, device, **settings)` returns named numbers, among them the claim's metric. `seeds` is how many
        the claim asks for at tier cpu, 5 by default.
        Raises: InputError for an unknown claim, or an arm that the registry names and `arms` lacks.
        """
        claim = self._claim(name, arms)
        if self._passed_over(claim):
            return None
        arms = {arm: self._override(settings) for arm, settings in arms.items()}
        wanted = self.seeds_for(seeds)
        rows = self._measure(claim.name, arms, wanted, measure, claim.metric, self.tuned.get(claim.paper))
        return self._show(claim, rows, draw)

    def control(self, paper: str, says: str, arms: dict[str, Settings], measure: Measure, *, metric: str, arm: str,
                against: str, better: str = "higher", id: str = "control", seeds: int | None = None,
                draw: bool = True) -> evidence.Verdict | None:
        """A positive control: a difference known to be real, which the metric and data must show at this size.

        Measured, recorded and judged as a claim is, under `<paper>.control`, and no claim of the paper. A paper that has
        several gives the others an `id` of their own, such as `control-views`; `seeds` as in `claim`.
        Raises: InputError for an id that does not say control, and for arms that the comparison names and `arms` lacks.
        """
        claim = papers.Claim(paper, id, says, "protocol", "effect", "same", metric, better, (papers.Contrast(arm, against),))
        if not claim.control:
            raise InputError(f"the id of a control is control or control-<what>, such as control-views, not {id!r}")
        _has_arms(claim, arms)
        self.controls[claim.name] = claim
        if self._passed_over(claim):
            return None
        arms = {name: self._override(settings) for name, settings in arms.items()}
        rows = self._measure(claim.name, arms, self.seeds_for(seeds), measure, metric, self.tuned.get(paper))
        return self._show(claim, rows, draw)

    def derive(self, name: str, arms: dict[str, tuple[str, ...]], combine: Callable[..., float], *, source: str,
               seeds: int | None = None, draw: bool = True) -> evidence.Verdict | None:
        """A claim about a combination of arms that `source`, another claim of the paper, has measured.

        Each arm names the arms it is made of; `combine` gets their metrics, a dict for each, and returns the value.
        """
        claim = self._claim(name, arms)
        if self._passed_over(claim):
            return None
        self._in_saved_cells(claim.paper, combine)
        code, wanted = self._code(claim.paper)[0], self.seeds_for(seeds)
        have = {(r["arm"], r["seed"]): r for r in self._known(claim.paper, code)
                if r["claim"] == papers.claim(source).name and r["value"] is not None}
        if not have:
            raise InputError(f"{claim.name} is made from {source}, which has no rows; run {source} too")
        new = []
        for (arm, parts), seed in itertools.product(arms.items(), wanted):
            found = [have.get((p, seed)) for p in parts]
            if all(found):
                value = float(combine(*(r["metrics"] for r in found)))
                new.append({**found[0], "claim": claim.name, "arm": arm, "value": value, "metrics": {claim.metric: value},
                            "settings": {"of": list(parts), "at": [r["settings"] for r in found]}, "seconds": 0.0,
                            "utc": _now()})
        self._record(claim.paper, new)
        return self._show(claim, new, draw)

    def rows(self, name: str) -> list[dict]:
        """The rows of a claim, or of a control that has been called, at this run's tier and code, for figures of one's own."""
        claim = self.controls.get(name) or papers.claim(name)
        known = self._known(claim.paper, self._code(claim.paper)[0])
        return evidence.newest(claim, known, self.tier)

    # ---- how it is done

    def _claim(self, name: str, arms: dict) -> papers.Claim:
        claim = papers.claim(name)
        _has_arms(claim, arms)
        return claim

    def _passed_over(self, claim: papers.Claim) -> bool:
        chosen = {c.partition(".")[0] for c in self.only}
        return claim.paper in chosen and claim.name not in self.only

    def _in_saved_cells(self, paper: str, function: Callable) -> None:
        """Require that the fingerprint of the paper's cells covers this function."""
        if function.__module__ == "__main__":
            setup, cells = paper_cells(self.notebook, paper)
            if function.__name__ not in _named(*setup, *cells) and not _edited_in_place(self.notebook, setup + cells):
                raise InputError(f"{paper}: {function.__name__} must be defined at the top of a cell with the role method "
                                 "or experiment, so that a change of it makes its rows stale")

    def _override(self, settings: Settings) -> Settings:
        for name in self.settings:
            if name not in settings:
                raise unknown("setting", name, settings)
        return {**settings, **self.settings}

    def _code(self, paper: str) -> tuple[str, bool]:
        """The fingerprint of the paper's saved cells, and whether what ran in this kernel is just that."""
        setup, cells = paper_cells(self.notebook, paper)
        return _hash(tuple(setup), tuple(cells)), not _edited_in_place(self.notebook, setup + cells)

    def _known(self, paper: str, code: str) -> list[dict]:
        rows = [] if self.tier == "smoke" else evidence.rows(paper, self.results)
        if self.results != evidence.RESULTS and self.tier != "smoke":
            # a run of one's own keeps its evidence apart, but the choices that tuning made are the published ones
            rows += [r for r in evidence.rows(paper) if r["claim"] == f"{paper}.tuning"]
        return [r for r in rows + self.memory.get(paper, []) if r["tier"] == self.tier and r["code"] == code]

    def _record(self, paper: str, rows: list[dict]) -> None:
        if self.tier == "smoke" or not self._code(paper)[1]:
            self.memory.setdefault(paper, []).extend(rows)
        else:
            evidence.append(paper, rows, self.results)

    def _measure(self, name, arms, seeds, measure, metric, tuned) -> list[dict]:
        """A row for each arm and seed, from the evidence where it is there and measured where it is not."""
        paper = name.partition(".")[0]
        self._in_saved_cells(paper, measure)
        code, saved = self._code(paper)
        if not saved:
            print(f"{paper}: its cells differ from the saved notebook, so nothing is reused or recorded")
            self.memory.pop(paper, None)
        known = {(_json(r["settings"]), r["seed"]): r for r in (self._known(paper, code) if saved else [])
                 if r["value"] is not None and metric in r["metrics"]}
        rows, jobs = [], []
        for (arm, settings), seed in itertools.product(arms.items(), seeds):
            head = dict(paper=paper, claim=name, arm=arm, seed=seed, tier=self.tier)
            old = known.get((_json(settings), seed))
            if old and (old["claim"], old["arm"]) == (name, arm):
                rows.append(old)
            elif old:
                rows.append({**old, **head, "value": old["metrics"][metric], "tuning": _tuning(tuned, arm)})
                self._record(paper, rows[-1:])
            else:
                jobs.append((head, settings))
        tail = dict(device=_device_name(self.device), torch=torch.__version__, code=code, commit=_commit())
        with _progress(name, len(rows), len(rows) + len(jobs)) as step:
            for (head, settings), result in _run(jobs, measure, self.device, self.tier):
                value = result["metrics"].get(metric)
                if value is None and result["error"] is None:
                    raise InputError(f"{name}: measure returned {sorted(result['metrics'])}, not the metric {metric!r}")
                rows.append({**head, "value": value, **result, "settings": settings,
                             "tuning": _tuning(tuned, head["arm"]), **tail, "utc": _now()})
                if result["error"] is None:
                    del rows[-1]["error"]
                self._record(paper, rows[-1:])
                step()
        return rows

    def _show(self, claim: papers.Claim, rows: list[dict], draw: bool) -> evidence.Verdict:
        from cl_lib import verdicts

        rows = [r for r in rows if r["claim"] == claim.name]
        verdict = evidence.verdict(claim, rows, tier=self.tier)
        if self.tier == "smoke":
            if verdict.failed:
                raise RuntimeError(f"{claim.name}: {next(r['error'] for r in rows if r['value'] is None)}")
            print(f"{claim.name}: ran at tier smoke, which is no evidence")
            return verdict
        verdicts.show(claim, verdict, evidence.values(claim, rows, self.tier), draw=draw)
        return verdict


def _has_arms(claim: papers.Claim, arms: dict) -> None:
    namer = "the comparison" if claim.control else "the registry"
    for arm in (arm for c in claim.contrasts for arm in (c.arm, c.against)):
        if arm not in arms:
            raise InputError(f"{claim.name}: {unknown('arm', arm, arms)} ({namer} names it, the notebook lacks it)")


def paper_cells(notebook: papers.Notebook, paper: str) -> tuple[list[str], list[str]]:
    """The sources of a notebook's set-up cells and of a paper's method and experiment cells."""
    path = ROOT / notebook.path
    on_disk = path.stat() if path.exists() else None
    setup, cells = _cells(path, on_disk and (on_disk.st_mtime_ns, on_disk.st_size), paper)
    return [*setup], [*cells]


@lru_cache
def _cells(path: Path, state: tuple[int, int] | None, paper: str) -> tuple[list[str], list[str]]:
    """`paper_cells`, kept while the file is as it was: every claim of a paper asks for them several times."""
    setup, cells = [], []
    for cell in read(path).cells:
        tags = cell.metadata.get("tags", [])
        owner = next((t[6:] for t in tags if t.startswith("paper:")), None)
        if cell.cell_type == "code" and owner is None and "parameters" not in tags:
            setup.append(cell.source)
        elif owner == paper and any(role in tags for role in MEASURED_ROLES):
            cells.append(cell.source)
    return setup, cells


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook from disk. Raises: InputError when it is not there or not a notebook."""
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise InputError(f"{path}: this notebook is not written yet") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not a notebook: {str(error).splitlines()[0][:120]}") from None


def current_code(paper: papers.Paper) -> str | None:
    """The present fingerprint of a paper's cells; None while its notebook is not written."""
    notebook = papers.notebook(paper.notebook)
    if not (ROOT / notebook.path).exists():
        return None
    setup, cells = paper_cells(notebook, paper.id)
    return _hash(tuple(setup), tuple(cells)) if cells else None


@lru_cache
def _hash(setup: tuple[str, ...], cells: tuple[str, ...]) -> str:
    """The fingerprint of these cells, kept; a process reads the library's code once."""
    return fingerprint.code_hash([*setup], [*cells])


@lru_cache
def _named(*sources: str) -> frozenset[str]:
    """What cells define."""
    return frozenset(name for source in sources for name in fingerprint.definitions(source))


def _edited_in_place(notebook: papers.Notebook, measured: list[str]) -> bool:
    """Whether this kernel ran other definitions than the saved cells hold (a reader who tries things out)."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return False
    # a claim cell may use a name again; what counts is what stood when the measured cells had run
    others = {c.source.strip() for c in read(ROOT / notebook.path).cells} - {source.strip() for source in measured}
    live: dict[str, str] = {}
    for source in shell.user_ns.get("In", []):
        try:
            live.update({} if source.strip() in others else fingerprint.definitions(source))
        except SyntaxError:
            continue
    expected: dict[str, str] = {}
    for source in measured:
        expected.update(fingerprint.definitions(source))
    return any(name in live and live[name] != code for name, code in expected.items())


def _run(jobs: list, measure: Measure, device: str, tier: str):
    """Yield (job, result) as the results come, from several processes of one thread each where that pays."""
    if tier == "smoke":
        _hurry()
    workers = int(os.environ.get("CL_WORKERS") or (1 if tier == "smoke" or device != "cpu" else os.cpu_count() or 1))
    if workers == 1 or len(jobs) < 2:
        for number, job in enumerate(jobs):
            yield job, _one(number, measure, job[0]["seed"], device, job[1])[1]
        return
    from joblib import Parallel, delayed
    from joblib.externals.loky.backend import reduction

    reduction.register(type(lru_cache(_sent)), _sent)
    calls = (delayed(_one)(number, measure, head["seed"], device, settings) for number, (head, settings) in enumerate(jobs))
    for number, result in Parallel(n_jobs=min(workers, len(jobs)), return_as="generator_unordered")(calls):
        yield jobs[number], result


def _sent(cached):
    """How a function with an lru_cache goes to another process: one of a notebook as itself, with an empty cache."""
    if cached.__module__ != "__main__":
        return cached.__qualname__
    return lru_cache(**cached.cache_parameters()), (cached.__wrapped__,)


def _hurry() -> None:
    """Collect garbage rarely, and never among what is loaded by now: each full collection of that takes half a second."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def _one(number: int, measure: Measure, seed: int, device: str, settings: Settings) -> tuple[int, dict]:
    from cl_lib.datasets import sources

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    begin, metrics, error = time.perf_counter(), {}, None
    try:
        metrics = {k: float(v) for k, v in measure(seed=seed, device=device, **settings).items()}
        if bad := [k for k, v in metrics.items() if v != v or abs(v) == float("inf")]:
            metrics, error = {}, f"not finite: {', '.join(bad)}"
    except InputError:
        raise
    except Exception as caught:  # a failed run is evidence too; it is recorded with its error
        error = f"{type(caught).__name__}: {caught}; {traceback.format_tb(caught.__traceback__)[-1].splitlines()[-1].strip()}"
    on_gpu = torch.device(device).type == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_mb()
    return number, dict(metrics=metrics, error=error, seconds=round(time.perf_counter() - begin, 3), peak_mb=round(peak, 1),
                        data={k: v[:12] for k, v in sorted(sources.used().items())})


@contextmanager
def _progress(name: str, done: int, total: int):
    """A step function; each step adds a line to the file of CL_PROGRESS, which the command line turns into a bar."""
    path = os.environ.get("CL_PROGRESS")

    def step(add: int = 1):
        nonlocal done
        done += add
        if path:
            with open(path, "a", encoding="utf8") as file:
                file.write(json.dumps({"claim": name, "done": done, "total": total}) + "\n")

    step(0)
    yield step


def _tuning(tuned: dict | None, arm: str) -> dict | None:
    return None if tuned is None else {k: v for k, v in tuned.items() if k != "chosen"} | {"chosen": tuned["chosen"].get(arm)}


def _label(arm: str, point: Settings) -> str:
    return " ".join([arm, *(f"{k}={v}" for k, v in point.items())])


def _json(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device} ({os.cpu_count()} cores)"


@lru_cache
def _commit() -> str | None:
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
