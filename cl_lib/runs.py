"""Run notebooks with parameters: papermill for one, Dask for many, and saved outputs for the published pages."""
import json
import os
import re
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
from filelock import FileLock

from cl_lib import evidence, experiment, papers
from cl_lib.errors import InputError, unknown
from cl_lib.experiment import ROLES
from cl_lib.papers import ROOT, Notebook

SCRATCH = ROOT / "runs"


@dataclass(frozen=True)
class Job:
    """One notebook with some of its papers, and the parameters that papermill injects."""
    notebook: str
    papers: tuple[str, ...]
    claims: tuple[str, ...]  # of these papers, only these; none named means all
    tier: str
    seeds: tuple[int, ...] | None
    device: str
    settings: dict
    results: str
    workers: int | None = None

    @property
    def name(self) -> str:
        return f"{self.notebook}: {', '.join(self.claims or self.papers)}"


@dataclass(frozen=True)
class Done:
    """What a job left: the executed notebook as JSON, the rows it made, and its error, if any."""
    job: Job
    notebook: str
    rows: dict[str, list[dict]]
    error: str | None
    seconds: float


def plan(names: Iterable[str], *, tier: str, seeds: list[int] | None = None, device: str = "cpu",
         settings: dict | None = None, results: Path = evidence.RESULTS, workers: int | None = None) -> list[Job]:
    """The jobs for these papers or claims, one a notebook, in reading order; whatever can be wrong is refused here.

    Raises: InputError for an unknown paper, claim, tier, device or setting, a paper that is not written, a notebook that
    breaks the contract, or a results folder that cannot be written.
    """
    experiment.check(tier=tier, seeds=seeds, device=device)
    names = list(names)
    wanted = {papers.paper(n.partition(".")[0]).id for n in names}
    claims = {papers.claim(n).name for n in names if "." in n} - {c.name for n in names if "." not in n
                                                                  for c in papers.paper(n).claims}
    jobs = []
    for notebook in papers.notebooks().values():
        ids = tuple(p.id for p in notebook.papers if p.id in wanted)
        if ids:
            check_contract(notebook, ids)
            for name in settings or {}:
                known = {k for i in ids for r in evidence.rows(i) for k in r["settings"]}
                if known and name not in known:
                    raise unknown(f"setting of {', '.join(ids)}", name, known)
            own = tuple(sorted(c for c in claims if c.partition(".")[0] in ids))
            jobs.append(Job(notebook.name, ids, own, tier, None if seeds is None else tuple(seeds), device, settings or {},
                            str(results), workers))
    _writable(results)
    return jobs


def check_contract(notebook: Notebook, ids: Iterable[str]) -> None:
    """Require the parameters cell, and for each paper a cell of every role in the contract's order."""
    path = ROOT / notebook.path
    cells = experiment.read(path).cells
    if not any("parameters" in c.metadata.get("tags", []) for c in cells):
        raise InputError(f"{path}: no cell is tagged 'parameters'")
    for id in ids:
        own = [c for c in cells if f"paper:{id}" in c.metadata.get("tags", [])]
        found = [[r for r in ROLES if r in c.metadata.tags] for c in own]
        if not own:
            written = sorted({t[6:] for c in cells for t in c.metadata.get("tags", []) if t.startswith("paper:")})
            raise InputError(f"paper {id!r} is not written yet; {path.name} holds {', '.join(written) or 'none'}")
        if any(len(f) != 1 for f in found):
            raise InputError(f"{path}: every cell tagged paper:{id} needs exactly one role of {', '.join(ROLES)}")
        order = [ROLES.index(f[0]) for f in found]
        if missing := [r for i, r in enumerate(ROLES) if i not in order]:
            raise InputError(f"{path}: paper {id} has no cell with the role {missing[0]!r}")
        if order != sorted(order):
            raise InputError(f"{path}: the cells of paper {id} are not in the order {', '.join(ROLES)}")


def execute(job: Job, progress: Path | None = None) -> Done:
    """Run the set-up cells and the job's papers through papermill; rows are recorded by the notebook as it goes."""
    import papermill

    notebook = papers.notebook(job.notebook)
    source = experiment.read(ROOT / notebook.path)
    source.cells = [c for c in source.cells if _owner(c) in (None, *job.papers)]
    parameters = dict(tier=job.tier, seeds=None if job.seeds is None else list(job.seeds), device=job.device,
                      papers=[*job.papers, *job.claims], settings=job.settings)
    begin, error = time.perf_counter(), None
    with tempfile.TemporaryDirectory() as folder, _environment(job, progress):
        into, out = Path(folder, f"{job.notebook}.ipynb"), Path(folder, "out.ipynb")
        nbformat.write(source, into)
        try:
            papermill.execute_notebook(into, out, parameters, kernel_name="python3", progress_bar=False, cwd=ROOT,
                                       extra_arguments=["--log-level=40"])
        except papermill.PapermillExecutionError as failed:
            error = f"{failed.ename}: {failed.evalue}"
        except Exception as failed:  # a kernel that died, say; the other jobs go on
            error = "".join(traceback.format_exception_only(failed)).strip()
        text = out.read_text(encoding="utf8") if out.exists() else ""
    rows = {} if job.tier == "smoke" else {i: evidence.rows(i, Path(job.results)) for i in job.papers}
    return Done(job, text, rows, error, time.perf_counter() - begin)


def run(jobs: list[Job], *, workers: int | None = None, scheduler: str | None = None, save: bool = False, on_done=None,
        progress: Path | None = None) -> list[Done]:
    """Execute the jobs one after another, on a local Dask cluster of `workers`, or on the cluster at `scheduler`.

    With `save`, the outputs of the executed cells become the saved outputs of the book's notebooks.
    Raises: InputError when the scheduler cannot be reached.
    """
    done = []
    for result in _results(jobs, workers, scheduler, progress):
        for paper, rows in result.rows.items():
            # where the workers share no file system the rows arrive with the result; elsewhere they stand there already
            evidence.append(paper, rows, Path(result.job.results))
        if save and not result.error:
            save_outputs(result)
        done.append(result)
        if on_done:
            on_done(result)
    return done


def _results(jobs, workers, scheduler, progress):
    if scheduler is None and workers is None:
        for job in jobs:
            yield execute(job, progress)
        return
    from dask.distributed import Client, LocalCluster, as_completed

    jobs = [replace(j, papers=(p,), claims=tuple(c for c in j.claims if c.startswith(f"{p}.")), workers=1)
            for j in jobs for p in j.papers]
    if scheduler is None:
        cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
        client = Client(cluster)
    else:
        cluster = None
        try:
            client = Client(scheduler, timeout=10)
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(f"no Dask scheduler answers at {scheduler!r}: {str(error).splitlines()[0][:120]}") from None
    try:
        for _, result in as_completed(client.map(execute, jobs, progress=progress, pure=False), with_results=True):
            yield result
    finally:
        client.close()
        if cluster:
            cluster.close()


def save_outputs(done: Done) -> None:
    """Put the outputs of an executed notebook into the book's, cell by cell.

    What went to stderr stays behind, and so do glued values that the notebook's text does not use.
    """
    path = ROOT / papers.notebook(done.job.notebook).path
    with FileLock(path.with_suffix(".lock")):
        book = experiment.read(path)
        fresh = {c.id: c for c in nbformat.reads(done.notebook, as_version=4).cells if c.cell_type == "code"}
        used = set(re.findall(r"\{glue:text\}`([^`:]+)", "\n".join(c.source for c in book.cells if c.cell_type == "markdown")))
        # numbered by place, not by what ran before: two runs leave the same file
        for number, cell in enumerate((c for c in book.cells if c.cell_type == "code"), 1):
            if cell.id in fresh and fresh[cell.id].source == cell.source:
                cell.outputs = [o for o in fresh[cell.id].outputs if o.get("name") != "stderr" and _glued(o) in used | {None}]
                cell.execution_count = number
                for output in cell.outputs:
                    if output.output_type == "execute_result":
                        output.execution_count = number
        text = nbformat.writes(book) + "\n"
        temporary = path.with_suffix(".part")
        temporary.write_text(text, encoding="utf8")
        os.replace(temporary, path)
    path.with_suffix(".lock").unlink(missing_ok=True)


def _glued(output: nbformat.NotebookNode) -> str | None:
    """The name of a value glued for the text, None for any other output."""
    return output.get("metadata", {}).get("scrapbook", {}).get("name")


def stale() -> list[str]:
    """The papers with a claim whose rows are missing, or were made by code that has moved since."""
    out = []
    for paper in papers.papers().values():
        code = experiment.current_code(paper) if paper.claims else None
        if code is None:
            continue
        rows = evidence.rows(paper.id)
        verdicts = [evidence.verdict(c, rows, code=code) for c in paper.claims]
        if any(v.stale or v.status == evidence.NO_EVIDENCE for v in verdicts):
            out.append(paper.id)
    return out


def _owner(cell) -> str | None:
    return next((t[6:] for t in cell.metadata.get("tags", []) if t.startswith("paper:")), None)


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0" * 4096)
            file.flush()
    except OSError as error:
        raise InputError(f"{folder}: cannot write results there: {error.strerror}") from None


@contextmanager
def _environment(job: Job, progress: Path | None):
    """The environment that a kernel inherits: where rows go, how many processes measure, where progress is told."""
    new = {"CL_RESULTS": job.results, "CL_WORKERS": str(job.workers or ""), "CL_PROGRESS": str(progress or ""),
           "OMP_NUM_THREADS": "1"}
    old = {k: os.environ.get(k) for k in new}
    os.environ.update(new)
    try:
        yield
    finally:
        for k, v in old.items():
            os.environ.pop(k) if v is None else os.environ.__setitem__(k, v)


@contextmanager
def progress_bar():
    """A file for kernels to tell their progress in, and a tqdm bar on the terminal that follows it."""
    from tqdm import tqdm

    with tempfile.TemporaryDirectory() as folder:
        path, stop = Path(folder, "progress"), threading.Event()
        path.touch()

        def follow():
            # disable=None: no bar where nobody watches, such as in a log
            with (open(path, encoding="utf8") as file,
                  tqdm(unit="run", dynamic_ncols=True, leave=False, disable=None) as bar):
                while not stop.wait(0.2):
                    for line in file:
                        told = json.loads(line)
                        bar.set_description(told["claim"], refresh=False)
                        bar.total, bar.n = told["total"], told["done"]
                        bar.refresh()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            stop.set()
            thread.join()
