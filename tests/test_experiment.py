"""Runs of a claim: what is measured, reused, recorded, and what survives a crash."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from cl_lib import evidence, experiment, papers
from cl_lib.errors import InputError
from support import measures

TESTS = Path(__file__).parent


def test_every_arm_and_seed_is_measured_and_recorded(results):
    verdict = measures.claim()
    rows = evidence.rows("dcl", results)
    assert sorted((r["arm"], r["seed"]) for r in rows) == [(a, s) for a in ("dcl@32", "info_nce@32") for s in range(5)]
    assert verdict.status == "reproduced" and verdict.effects[0].mean == pytest.approx(1.0)
    assert all(r["value"] == r["metrics"]["knn_accuracy"] and r["code"] and r["utc"] and r["torch"] for r in rows)


def test_known_rows_are_reused_and_other_seeds_added(results, monkeypatch):
    measures.claim()
    before = evidence.rows("dcl", results)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "_one", None)
        measures.claim()
    assert evidence.rows("dcl", results) == before
    assert len(measures.claim(seeds=[3, 11]).effects[0].differences) == 2
    assert len(evidence.rows("dcl", results)) == len(before) + 2


def test_a_metric_measured_for_one_claim_serves_another(results, monkeypatch):
    measures.claim()
    monkeypatch.setattr(experiment, "_one", None)
    run = experiment.start("objectives", tier="cpu")
    verdict = run.control("dcl", "A control.", measures.ARMS, measures.noisy, metric="other", arm="dcl@32",
                          against="info_nce@32", draw=False)
    assert verdict.effects[0].mean == 2.0


def test_a_paper_may_have_several_controls(results, capsys, monkeypatch):
    measures.claim()
    run = experiment.start("objectives", tier="cpu")
    same = dict(arm="dcl@32", against="info_nce@32", draw=False)
    first = run.control("dcl", "One.", measures.ARMS, measures.noisy, metric="other", **same)
    second = run.control("dcl", "Two.", measures.ARMS, measures.noisy, metric="knn_accuracy", id="control-views", seeds=7, **same)
    reverse = run.control("dcl", "Three.", measures.ARMS, measures.noisy, metric="other", better="lower", id="control-size", **same)
    assert (first.effects[0].mean, first.effects[0].n) == (2.0, 5)
    assert (second.effects[0].mean, second.effects[0].n) == (pytest.approx(1.0), 7)
    assert reverse.status == "contradicted" and reverse.effects[0].mean == -2.0
    found = {name: sorted((r["arm"], r["seed"], r["value"]) for r in run.rows(name))
             for name in ("dcl.control", "dcl.control-views", "dcl.control-size")}
    assert [len(rows) for rows in found.values()] == [10, 14, 10] and found["dcl.control"][0] == ("dcl@32", 0, 2.0)
    assert capsys.readouterr().out.count("positive control, no claim of the paper") == 3
    # they touch neither each other's rows nor the verdict of a claim, and come back from the file
    before = evidence.rows("dcl", results)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "_one", None)
        assert measures.claim().effects[0].mean == pytest.approx(1.0)
        run.control("dcl", "Two.", measures.ARMS, measures.noisy, metric="knn_accuracy", id="control-views", seeds=7, **same)
    assert evidence.rows("dcl", results) == before


def test_a_control_that_is_none_is_refused_before_work(results):
    run = experiment.start("objectives", tier="cpu")
    for changes, message in ((dict(id="views"), "control-views, not 'views'"), (dict(id="small-batch"), "not 'small-batch'"),
                             (dict(arm="dcl"), "unknown arm 'dcl'; did you mean 'dcl@32'.*the comparison names it")):
        with pytest.raises(InputError, match=message):
            run.control("dcl", "A control.", measures.ARMS, measures.noisy, metric="other",
                        **dict(arm="dcl@32", against="info_nce@32") | changes)
    with pytest.raises(InputError, match="unknown claim 'dcl.control-views'"):
        run.rows("dcl.control-views")
    assert not results.exists()


def test_the_same_seed_gives_the_same_bits_in_one_process_or_several(results, monkeypatch):
    monkeypatch.setenv("CL_WORKERS", "1")
    measures.claim()
    alone = {(r["arm"], r["seed"]): r["value"] for r in evidence.rows("dcl", results)}
    monkeypatch.setenv("CL_WORKERS", "2")
    monkeypatch.setenv("CL_RESULTS", str(results / "again"))
    measures.claim()
    assert {(r["arm"], r["seed"]): r["value"] for r in evidence.rows("dcl", results / "again")} == alone


def test_failed_runs_are_rows_with_their_error(results):
    run = experiment.start("objectives", tier="cpu")
    verdict = run.claim("dcl.small-batch", measures.ARMS, measures.failing, draw=False)
    errors = {r["seed"]: r["error"] for r in evidence.rows("dcl", results) if r["value"] is None}
    assert verdict.failed == 4 and "loss is nan at step 7" in errors[1] and "not finite: knn_accuracy" in errors[2]


def test_smoke_runs_one_seed_and_records_nothing(results, capsys):
    measures.claim(tier="smoke")
    assert "no evidence" in capsys.readouterr().out
    assert not list(results.rglob("*.jsonl"))


def test_cells_are_kept_until_the_notebook_changes(tmp_path, monkeypatch):
    notebook = papers.notebook("objectives")
    path = tmp_path / notebook.path
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(experiment, "ROOT", tmp_path)
    with pytest.raises(InputError, match="not written yet"):
        experiment.paper_cells(notebook, "dcl")
    for source in ("def measure(): return 1", "def measure(): return 1, 2"):
        cells = [nbformat.v4.new_code_cell(source, metadata={"tags": ["paper:dcl", "experiment"]})]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        assert experiment.paper_cells(notebook, "dcl") == ([], [source])
        with monkeypatch.context() as patch:
            patch.setattr(experiment, "read", None)
            setup, found = experiment.paper_cells(notebook, "dcl")
            found.append("the caller's own")
            assert experiment.paper_cells(notebook, "dcl") == ([], [source])


def test_tuning_takes_the_best_point_for_every_arm_and_is_recorded(results):
    run = experiment.start("objectives", tier="cpu")
    arms = {arm: {"pause": 0.0} for arm in measures.ARMS}
    tuned = run.tune("dcl", arms, {"shift": [0.0, 3.0, 1.0]}, measures.noisy, metric="knn_accuracy")
    assert all(s["shift"] == 3.0 for s in tuned.values())
    run.claim("dcl.small-batch", tuned, measures.noisy, draw=False)
    rows = evidence.rows("dcl", results)
    assert len([r for r in rows if r["claim"] == "dcl.tuning"]) == 2 * 3 * 2
    row = next(r for r in rows if r["claim"] == "dcl.small-batch")
    assert row["tuning"] == {"grid": {"shift": [0.0, 3.0, 1.0]}, "seeds": [100, 101], "metric": "knn_accuracy",
                             "chosen": {"shift": 3.0}}
    with pytest.raises(InputError, match="cannot be evaluation seeds"):
        experiment.start("objectives", tier="cpu", seeds=[100]).tune("dcl", arms, {"shift": [0.0]}, measures.noisy,
                                                                     metric="knn_accuracy")


def test_a_run_of_other_claims_does_not_tune(results, monkeypatch):
    monkeypatch.setattr(experiment, "_one", None)
    run = experiment.start("objectives", tier="cpu", only=["dcl", "dcl.coupling-identity"])
    arms = {arm: {"pause": 0.0} for arm in measures.ARMS}
    tuned = run.tune("dcl", arms, {"shift": [2.0, 3.0]}, measures.noisy, metric="knn_accuracy", claims=("small-batch",))
    assert all(s["shift"] == 2.0 for s in tuned.values())


def combine(large, small):
    return large["knn_accuracy"] - small["knn_accuracy"]


def test_derived_claims_combine_measured_arms(results):
    run = experiment.start("objectives", tier="cpu")
    parts = {"dcl": ("dcl@32", "info_nce@32"), "info_nce": ("info_nce@32", "info_nce@32")}
    with pytest.raises(InputError, match="run dcl.small-batch too"):
        run.derive("dcl.batch-drop", parts, combine, source="dcl.small-batch", draw=False)
    measures.claim()
    verdict = run.derive("dcl.batch-drop", parts, combine, source="dcl.small-batch", draw=False)
    assert verdict.effects[0].mean == pytest.approx(-1.0) and verdict.status == "contradicted"


@pytest.mark.parametrize(("arguments", "message"), [
    (dict(tier="cpuu"), "unknown tier 'cpuu'; did you mean 'cpu'"),
    (dict(tier="cpu", seeds=[]), "seeds must be a list"),
    (dict(tier="cpu", seeds=[0, 0]), "different whole numbers"),
    (dict(tier="cpu", seeds=[0.5]), "seeds must be a list"),
    (dict(tier="cpu", seeds="0-4"), "seeds must be a list"),
    (dict(tier="cpu", device="cuda:99"), "is not there"),
    (dict(tier="cpu", device="gpu"), "unknown device 'gpu'"),
    (dict(tier="cpu", only=["dcl.small"]), "unknown claim"),
])
def test_bad_parameters_are_named_at_once(arguments, message):
    with pytest.raises(InputError, match=message):
        experiment.start("objectives", **arguments)


def test_bad_claims_and_settings_are_named_before_work(results):
    with pytest.raises(InputError, match="did you mean 'objectives'"):
        experiment.start("objective", tier="cpu")
    run = experiment.start("objectives", tier="cpu", settings={"shfit": 1})
    with pytest.raises(InputError, match="unknown setting 'shfit'; did you mean 'shift'"):
        run.claim("dcl.small-batch", measures.ARMS, measures.noisy)
    run = experiment.start("objectives", tier="cpu")
    with pytest.raises(InputError, match="unknown arm 'info_nce@32'"):
        run.claim("dcl.small-batch", {"dcl@32": {}}, measures.noisy)
    with pytest.raises(InputError, match="unknown claim 'dcl.small'"):
        run.claim("dcl.small", measures.ARMS, measures.noisy)
    assert not results.exists()


def test_a_killed_run_goes_on_where_it_stopped(results, monkeypatch):
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "CL_WORKERS": "2"}
    command = [sys.executable, str(TESTS / "support/measures.py"), "0.3"]
    job = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    path = evidence.path_of("dcl", results)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not path.exists() or path.read_bytes().count(b"\n") < 3):
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    finished = evidence.rows("dcl", results)
    assert 3 <= len(finished) < 10
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    rows = evidence.rows("dcl", results)
    assert rows[:len(finished)] == finished and len(rows) == 10
    monkeypatch.setenv("CL_RESULTS", str(results / "whole"))
    subprocess.run(command, env={**environment, "CL_RESULTS": str(results / "whole")}, check=True, stdout=subprocess.DEVNULL)
    whole = {(r["arm"], r["seed"]): r["value"] for r in evidence.rows("dcl", results / "whole")}
    assert {(r["arm"], r["seed"]): r["value"] for r in rows} == whole


def test_two_runs_at_once_do_not_mix(results):
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "CL_WORKERS": "1"}
    command = [sys.executable, str(TESTS / "support/measures.py"), "0.05"]
    jobs = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [job.wait(120) for job in jobs] == [0, 0]
    rows = evidence.rows("dcl", results)
    assert len(rows) == 10 and len({evidence.identity(r) for r in rows}) == 10


CACHED_IN_A_NOTEBOOK = """
from functools import lru_cache
from cl_lib import experiment

@lru_cache(maxsize=3)
def slow(n):
    return 2 * n

def measure(seed, device):
    return {"twice": slow(seed), "held": slow.cache_parameters()["maxsize"]}

jobs = [(dict(seed=s), {}) for s in range(4)]
found = {job[0]["seed"]: result for job, result in experiment._run(jobs, measure, "cpu", "cpu")}
assert [found[s]["metrics"] for s in range(4)] == [{"twice": 2.0 * s, "held": 3.0} for s in range(4)], found
"""


def test_cached_functions_of_a_notebook_reach_other_processes():
    subprocess.run([sys.executable, "-c", CACHED_IN_A_NOTEBOOK], env={**os.environ, "CL_WORKERS": "2"}, check=True)
