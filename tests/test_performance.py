"""Profiles are recorded with what is needed to judge them, and the pages show the last run alone."""
import json

import pytest

from cl_lib import performance
from cl_lib.__main__ import main
from cl_lib.profiling import evaluation, losses, peers

ROWS = [dict(name="stream", objective="nt_xent", pairs=64, d=8, threads=1, seconds=0.0123, extra_mb=4.0),
        dict(name="dense", objective="nt_xent", pairs=64, d=8, threads=1, seconds=None, extra_mb=None)]


def test_a_run_is_kept_with_its_machine_versions_and_command(tmp_path):
    path = performance.record("losses", ROWS, {"pairs": [64], "threads": 1}, tmp_path)
    row = json.loads(path.read_text().splitlines()[0])
    assert row["command"] == "python -m cl_lib profile losses -p pairs=[64] -p threads=1"
    assert row["versions"]["torch"] and row["device"] and row["utc"] and row["seconds"] == 0.0123


def test_the_page_shows_the_last_run_only_and_says_what_is_not_measured(tmp_path):
    old = [{**ROWS[0], "utc": "2020-01-01T00:00:00+00:00"}]
    (tmp_path / "losses.jsonl").write_text("".join(json.dumps(r) + "\n" for r in old))
    performance.record("losses", ROWS, {}, tmp_path)
    assert len(performance.latest("losses", tmp_path)) == 2
    files = performance.files(tmp_path)
    page = files["performance.md"]
    assert "12.3 ms" in page and "<td>–</td>" in page and files["performance-losses.png"][:4] == b"\x89PNG"
    assert page.count("not measured yet") == 5 and "not measured yet" in files["peers.md"]


def test_a_difference_between_peers_is_shown_as_one(tmp_path):
    rows = [dict(peer="lightly", function="NTXentLoss", tau=0.1, dtype=dtype, value_difference=d, gradient_difference=d, peer_error=d, our_error=0.0)
            for dtype, d in (("float64", 1e-3), ("float32", None))]
    performance.record("peers", rows, {}, tmp_path)
    page = performance.files(tmp_path)["peers.md"]
    assert "0 of 2 comparisons agree, 1 differ, 1 have no finite result" in page and "1e-03" in page and "not finite" in page


def test_peers_agree_in_float64():
    pytest.importorskip("lightly")
    rows = peers.peers(n=8, d=6, taus=(0.05, 1.0))
    assert {r["peer"] for r in rows} >= {"lightly", "pytorch-metric-learning", "sentence-transformers", "open_clip"}
    assert all(r["gradient_difference"] < 1e-10 and r["value_difference"] < 1e-10 for r in rows if r["dtype"] == "float64")


def test_losses_and_evaluation_are_measured_in_processes_of_their_own():
    rows = losses.losses(pairs=(64,), d=16, repeats=1, threads=1, names=("stream", "products"))
    assert [r["name"] for r in rows] == ["stream", "products"] and all(r["seconds"] > 0 for r in rows)
    rows = evaluation.evaluation(train=300, test=50, d=16, k=5, threads=1)
    assert [r["agreement"] for r in rows] == [1.0, 1.0]


def test_the_command_names_what_a_profile_does_not_know(capsys):
    assert main(["profile", "loses"]) == 2 and "did you mean 'losses'" in capsys.readouterr().err
    assert main(["profile", "losses", "-p", "pars=[64]"]) == 2 and "did you mean 'pairs'" in capsys.readouterr().err
