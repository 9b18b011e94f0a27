"""Plans and their refusals, what a job leaves, saved outputs, and a local Dask cluster."""
import json
import os
from dataclasses import replace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from cl_lib import evidence, papers, runs
from cl_lib.errors import InputError
from cl_lib.experiment import ROLES

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
TOLD = "import os\nprint(tier, seeds, device, papers, settings, os.environ['CL_RESULTS'], os.environ['CL_WORKERS'])"


def section(paper, **sources):
    """A cell of each role in the contract's order."""
    return [(new_markdown_cell if role in ("idea", "reading") else new_code_cell)(
        sources.get(role, f"{role!r}"), id=f"{paper}-{role}", metadata={"tags": [f"paper:{paper}", role]})
        for role in ROLES]


def parameters():
    return new_code_cell("tier, seeds, device, papers, settings = 'cpu', None, 'cpu', None, {}", id="parameters",
                         metadata={"tags": ["parameters"]})


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A function that writes the cells of a notebook into a book of the test's own."""
    monkeypatch.setattr(runs, "ROOT", tmp_path)

    def write(name, *cells):
        path = tmp_path / papers.notebook(name).path
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(new_notebook(cells=list(cells), metadata=KERNEL), path)
        return path

    return write


def without(cells, role):
    return [c for c in cells if role not in c.metadata.tags]


@pytest.mark.parametrize(("cells", "message"), [
    (section("dcl"), "objectives.ipynb: no cell is tagged 'parameters'"),
    ([parameters(), *section("macl"), *section("cacr")],
     "paper 'dcl' is not written yet; objectives.ipynb holds cacr, macl"),
    ([parameters()], "paper 'dcl' is not written yet; objectives.ipynb holds none"),
    *(([parameters(), *without(section("dcl"), r)], f"paper dcl has no cell with the role '{r}'") for r in ROLES),
    ([parameters(), *section("dcl")[::-1]], "the cells of paper dcl are not in the order idea, method, oracle"),
    ([parameters(), *(section("dcl")[i] for i in (0, 1, 3, 4, 2, 5))], "not in the order"),
    ([parameters(), *section("dcl"), new_code_cell("1", metadata={"tags": ["paper:dcl", "claim", "oracle"]})],
     "every cell tagged paper:dcl needs exactly one role"),
    ([parameters(), *section("dcl"), new_code_cell("1", metadata={"tags": ["paper:dcl"]})], "needs exactly one role"),
])
def test_the_contract_names_what_is_missing(book, cells, message):
    book("objectives", *cells)
    with pytest.raises(InputError, match=message):
        runs.check_contract(papers.notebook("objectives"), ["dcl"])


def test_the_contract_lets_cells_of_a_role_repeat_and_others_stand_between(book):
    own = section("dcl")
    more = new_code_cell("2", metadata={"tags": ["paper:dcl", "claim"]})
    book("objectives", new_markdown_cell("# Title"), parameters(), *own[:5], new_code_cell("3"), more, *own[5:],
         *section("macl")[:2])
    runs.check_contract(papers.notebook("objectives"), ["dcl"])
    with pytest.raises(InputError, match="paper macl has no cell with the role 'oracle'"):
        runs.check_contract(papers.notebook("objectives"), ["dcl", "macl"])


def test_no_notebook_and_no_notebook_format(book, tmp_path):
    with pytest.raises(InputError, match="objectives.ipynb: this notebook is not written yet"):
        runs.check_contract(papers.notebook("objectives"), ["dcl"])
    book("objectives", parameters()).write_text("{}")
    with pytest.raises(InputError, match="objectives.ipynb: not a notebook"):
        runs.check_contract(papers.notebook("objectives"), ["dcl"])


def test_a_plan_has_one_job_a_notebook_in_reading_order(book, tmp_path):
    book("objectives", parameters(), *section("dcl"), *section("cacr"))
    book("theory", parameters(), *section("curl-bound"))
    results = tmp_path / "results"
    names = ["cacr", "dcl.small-batch", "curl-bound", "dcl.batch-drop", "dcl.small-batch"]
    jobs = runs.plan(names, tier="smoke", seeds=[3, 4], results=results)
    assert [(j.notebook, j.papers, j.claims) for j in jobs] == [
        ("theory", ("curl-bound",), ()), ("objectives", ("dcl", "cacr"), ("dcl.batch-drop", "dcl.small-batch"))]
    assert all(j.seeds == (3, 4) and j.tier == "smoke" and j.results == str(results) for j in jobs) and results.is_dir()
    assert [j.name for j in jobs] == ["theory: curl-bound", "objectives: dcl.batch-drop, dcl.small-batch"]
    # a paper named as a whole takes in its single claims
    (job,) = runs.plan(["dcl.small-batch", "dcl"], tier="cpu", results=results)
    assert job.papers == ("dcl",) and job.claims == () and job.seeds is None
    assert runs.plan([], tier="cpu", results=results) == []


def out(cell):
    return "".join(o.get("text", "") for o in cell.outputs)


def test_a_job_runs_its_own_papers_with_its_parameters(book, tmp_path, monkeypatch):
    monkeypatch.setenv("CL_WORKERS", "5")
    monkeypatch.delenv("CL_PROGRESS", raising=False)
    book("objectives", parameters(), new_code_cell("before = 1"), *section("dcl", method=TOLD, claim="print(before)"),
         *section("cacr", method="1 / 0"))
    (job,) = runs.plan(["dcl.small-batch"], tier="smoke", seeds=[7], settings={}, results=tmp_path / "results")
    done = runs.execute(replace(job, settings={"batch": 3}, workers=2))
    assert done.error is None and done.rows == {} and done.seconds > 0
    cells = {c.id: c for c in nbformat.reads(done.notebook, as_version=4).cells}
    told = f"smoke [7] cpu ['dcl', 'dcl.small-batch'] {{'batch': 3}} {tmp_path / 'results'} 2\n"
    assert out(cells["dcl-method"]) == told
    assert out(cells["dcl-claim"]) == "1\n" and "cacr-method" not in cells
    assert os.environ["CL_WORKERS"] == "5" and "CL_PROGRESS" not in os.environ


def test_a_job_that_fails_tells_its_error_and_the_others_go_on(book, tmp_path):
    book("theory", parameters(), *section("curl-bound", method="kept = 1", claim="raise ValueError('no such thing')"))
    book("objectives", parameters(), *section("dcl", claim="import os\nos._exit(3)"))
    last = book("negatives", parameters(), *section("mochi", claim="print('done')"))
    before = {p: p.read_text() for p in tmp_path.rglob("*.ipynb") if p != last}
    jobs = runs.plan(["curl-bound", "mochi", "dcl"], tier="smoke", results=tmp_path / "results")
    told = []
    done = runs.run(jobs, save=True, on_done=told.append)
    assert done == told and [d.job.notebook for d in done] == ["theory", "objectives", "negatives"]
    assert done[0].error == "ValueError: no such thing" and "kept = 1" in done[0].notebook
    assert "DeadKernelError" in done[1].error and "\n" not in done[1].error and done[2].error is None
    assert before == {p: p.read_text() for p in before}  # outputs of a failed run are not saved
    assert "done" in [out(c).strip() for c in nbformat.read(last, as_version=4).cells if c.cell_type == "code"]


def test_rows_that_arrive_with_a_result_are_kept_once(results, monkeypatch, tmp_path):
    from support import measures

    monkeypatch.setenv("CL_WORKERS", "1")
    measures.claim()
    rows = evidence.rows("dcl", results)
    job = runs.Job("objectives", ("dcl",), (), "cpu", None, "cpu", {}, str(tmp_path / "elsewhere"))
    monkeypatch.setattr(runs, "_results", lambda *_: [runs.Done(job, "", {"dcl": rows}, None, 1.0)])
    for _ in range(2):
        runs.run([job])
        assert evidence.rows("dcl", tmp_path / "elsewhere") == rows


def test_outputs_go_to_the_cells_whose_source_is_still_the_same(book):
    path = book("objectives", parameters(), *section("dcl", method="a", oracle="b", claim="c"))
    text = new_output("stream", text="new\n")
    value = new_output("execute_result", data={"text/plain": "1"}, execution_count=9)
    ran = nbformat.read(path, as_version=4)
    for cell in ran.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [text, new_output("stream", name="stderr", text="a warning\n"), value], 9
    ran.cells.insert(1, new_code_cell("injected by papermill", outputs=[text]))
    job = runs.Job("objectives", ("dcl",), (), "cpu", None, "cpu", {}, "")
    edited = nbformat.read(path, as_version=4)
    oracle = next(c for c in edited.cells if c.id == "dcl-oracle")
    oracle.source, oracle.outputs = "edited since", [new_output("stream", text="old\n")]
    nbformat.write(edited, path)
    runs.save_outputs(runs.Done(job, nbformat.writes(ran), {}, None, 1.0))
    saved = nbformat.read(path, as_version=4)
    assert [(c.id, c.source) for c in saved.cells] == [(c.id, c.source) for c in edited.cells]
    cells = {c.id: c for c in saved.cells}
    assert out(cells["dcl-method"]) == out(cells["dcl-claim"]) == "new\n" and out(cells["dcl-oracle"]) == "old\n"
    # numbered by place: counts would differ from run to run, and without one nbval takes a cell for unrun
    assert [c.execution_count for c in saved.cells if c.cell_type == "code"] == [1, 2, None, 4, 5]
    assert cells["dcl-method"].outputs[-1].execution_count == 2 and json.loads(path.read_text())["nbformat"] == 4
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_only_the_glued_values_that_the_text_uses_are_saved(book):
    path = book("objectives", parameters(), *section("dcl", reading="{glue:text}`dcl.a.mean` and {glue:text}`dcl.a.low:.2f`"))
    ran = nbformat.read(path, as_version=4)
    glued = [new_output("display_data", data={"application/papermill.record/text/plain": "1"},
                        metadata={"scrapbook": {"name": f"dcl.a.{n}"}}) for n in ("mean", "low", "high")]
    cell = next(c for c in ran.cells if c.id == "dcl-claim")
    cell.outputs = [*glued, new_output("stream", text="kept\n")]
    job = runs.Job("objectives", ("dcl",), (), "cpu", None, "cpu", {}, "")
    runs.save_outputs(runs.Done(job, nbformat.writes(ran), {}, None, 1.0))
    saved = next(c for c in nbformat.read(path, as_version=4).cells if c.id == "dcl-claim").outputs
    assert saved == [*glued[:2], cell.outputs[-1]]


def test_a_local_dask_cluster_runs_a_paper(tmp_path):
    jobs = runs.plan(["dcl"], tier="smoke", results=tmp_path / "results")
    (done,) = runs.run(jobs, workers=1)
    assert done.error is None and done.job.papers == ("dcl",) and done.job.workers == 1
    cells = nbformat.reads(done.notebook, as_version=4).cells
    assert any("paper:dcl" in c.metadata.tags and c.get("outputs") for c in cells)
    assert not list((tmp_path / "results").iterdir())
