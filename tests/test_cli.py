"""The command line: what a newcomer types, and what wrong input gets."""
import os
import subprocess
import sys

import pytest

from cl_lib import experiment, papers
from cl_lib.__main__ import main, parse_seeds, parse_settings
from cl_lib.errors import InputError


def test_list_and_show(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {id} " in out for id in papers.papers()) and "237 papers" in out
    assert main(["list", "decoupled"]) == 0
    assert "dcl" in capsys.readouterr().out
    assert main(["show", "dcl"]) == 0
    out = capsys.readouterr().out
    assert "2110.06848" in out and "dcl.small-batch" in out


def test_verify(capsys):
    assert main(["verify"]) == 0
    out = capsys.readouterr().out
    for paper in papers.papers().values():
        assert all(claim.name in out for claim in paper.claims)


# one whose notebook exists, and one whose notebook does not, as long as there are such
MISSING = {(papers.ROOT / papers.notebook(p.notebook).path).exists(): p.id for p in papers.papers().values()
           if experiment.current_code(p) is None}.values()


@pytest.mark.parametrize(("arguments", "message"), [
    (["show", "dlc-fas"], "unknown paper 'dlc-fas'; did you mean 'dcl-fas'"),
    (["run"], "name a paper"),
    (["run", "dcll"], "unknown paper 'dcll'; did you mean 'dcl'"),
    (["run", "dcl.small"], "unknown claim 'dcl.small'"),
    (["run", "--notebook", "objective"], "unknown notebook 'objective'; did you mean 'objectives'"),
    (["run", "dcl", "--tier", "gpuu"], "unknown tier 'gpuu'"),
    (["run", "dcl", "--seeds", "4-1"], "is not a list of seeds"),
    (["run", "dcl", "--seeds", "a"], "is not a list of seeds"),
    (["run", "dcl", "--seeds", "1,1"], "names a seed twice"),
    (["run", "dcl", "--device", "cuda:77"], "is not there"),
    (["run", "dcl", "-p", "batch"], "is not NAME=VALUE"),
    (["run", "dcl", "-p", "btach=3"], "unknown setting of dcl 'btach'; did you mean 'batch'"),
    (["run", "dcl", "--workers", "0"], "workers must be at least 1"),
    (["run", "dcl", "--results", "/dev/null/x"], "cannot write results"),
    (["run", "dcl", "--tier", "smoke", "--scheduler", "tcp://127.0.0.1:9"], "no Dask scheduler answers"),
    *[(["run", id], "is not written yet") for id in MISSING],
    (["profile", "loses"], "unknown profile 'loses'"),
])
def test_bad_input_is_one_line_and_exit_2(arguments, message, capsys):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("error: ") and err.count("\n") == 1


def test_a_read_only_folder_is_refused_before_work(tmp_path, capsys):
    if os.geteuid() == 0:
        target = "/proc/results"  # root may write into any ordinary folder
    else:
        tmp_path.chmod(0o500)
        target = str(tmp_path / "results")
    assert main(["run", "dcl", "--seeds", "9", "--results", target]) == 2
    assert "cannot write results there" in capsys.readouterr().err


def test_seed_lists():
    assert parse_seeds("0-2,7") == [0, 1, 2, 7] and parse_seeds(None) is None
    for text in ("", "1-", "-3", "1;2", "1.5"):
        with pytest.raises(InputError):
            parse_seeds(text)


def test_settings_are_typed():
    assert parse_settings(["batch=64", "lr=1e-3", "lr2=0.5", "name=x"]) == {"batch": 64, "lr": 1e-3, "lr2": 0.5, "name": "x"}


def test_help_names_every_command():
    done = subprocess.run([sys.executable, "-m", "cl_lib", "--help"], capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in ("list", "show", "run", "verify", "report", "profile", "examples"))


def test_a_run_through_papermill_records_apart_and_repeats_to_the_bit(tmp_path, capsys):
    command = ["run", "dcl.coupling-identity", "--seeds", "20,21", "--results"]
    assert main([*command, str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert "dcl.coupling-identity" in out and "reproduced" in out and "published:" in out and "small-batch" not in out
    assert main([*command, str(tmp_path / "b")]) == 0
    from cl_lib import evidence

    # rows stand in the order in which their runs ended
    first, second = (sorted((r["seed"], r["value"]) for r in evidence.rows("dcl", tmp_path / name)) for name in "ab")
    assert first == second and len(first) == 2
