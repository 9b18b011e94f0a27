"""The verdict rule on known differences, and rows that survive crashes, two writers and a full disk."""
import json
import math
import multiprocessing
import os
import signal
import time

import pytest
from scipy import stats

from cl_lib import evidence, papers
from cl_lib.errors import InputError
from cl_lib.papers import Claim, Contrast

PAPER = "dcl"


def claim(kind="effect", better="higher", contrasts=(Contrast("a", "b", 0.5),), tolerance=None):
    return Claim(PAPER, "demo", "says", "where", kind, "same", "accuracy", better, contrasts, tolerance)


def row(arm, seed, value, *, code="c0", tier="cpu", settings=None, name=f"{PAPER}.demo"):
    return {"paper": PAPER, "claim": name, "arm": arm, "seed": seed, "tier": tier, "value": value,
            "metrics": {} if value is None else {"accuracy": value}, "settings": settings or {"arm": arm}, "tuning": None,
            "seconds": 1.0, "peak_mb": 1.0, "device": "cpu", "torch": "2", "code": code, "data": {}, "commit": None,
            "utc": "2026-01-01T00:00:00Z"}


def paired(differences, better="higher"):
    sign = 1 if better == "higher" else -1
    return [r for s, d in enumerate(differences) for r in (row("a", s, 10 + s + sign * d), row("b", s, 10.0 + s))]


@pytest.mark.parametrize(("differences", "status"), [
    ([1.0, 1.1, 0.9, 1.05, 0.95], "reproduced"),
    ([0.1, 0.11, 0.09, 0.1, 0.12], "partly"),
    ([-1.0, -1.1, -0.9, -1.05, -0.95], "contradicted"),
    ([1.0, -1.0, 0.5, -0.4, 0.2], "not separated"),
])
@pytest.mark.parametrize("better", ["higher", "lower"])
def test_effects(differences, status, better):
    got = evidence.verdict(claim(better=better), paired(differences, better))
    assert got.status == status
    low, high = stats.t.interval(0.95, 4, loc=sum(differences) / 5, scale=stats.sem(differences))
    assert got.effects[0].low == pytest.approx(low) and got.effects[0].high == pytest.approx(high)


@pytest.mark.parametrize(("kind", "differences", "status"), [
    ("no_worse", [-0.1, 0.1, -0.05, 0.0, 0.05], "reproduced"),
    ("no_worse", [-2.0, -2.1, -1.9, -2.0, -2.0], "contradicted"),
    ("no_worse", [-2.0, 2.0, 0.1, -0.3, 0.0], "not separated"),
    ("equivalent", [-0.1, 0.1, -0.05, 0.0, 0.05], "reproduced"),
    ("equivalent", [2.0, 2.1, 1.9, 2.0, 2.0], "contradicted"),
    ("equivalent", [0.9, 1.1, 1.0, 0.95, 1.05], "not separated"),
])
def test_margins(kind, differences, status):
    assert evidence.verdict(claim(kind, contrasts=(Contrast("a", "b", 0.0, 1.0),)), paired(differences)).status == status


@pytest.mark.parametrize(("errors", "status"), [([1e-12, -1e-11], "reproduced"), ([1e-12, 2e-9], "contradicted")])
def test_identities(errors, status):
    rows = [row("error", s, e) for s, e in enumerate(errors)]
    got = evidence.verdict(claim("identity", contrasts=(), tolerance=1e-10), rows)
    assert got.status == status and got.error == max(map(abs, errors))


def test_all_contrasts_must_hold():
    two = claim(contrasts=(Contrast("a", "b", 0.5), Contrast("c", "b", 0.5)))
    rows = paired([1.0, 1.1, 0.9, 1.05, 0.95])
    noisy = [row("c", s, 10 + s + d) for s, d in enumerate([1.0, -1.0, 0.5, -0.4, 0.2])]
    worse = [row("c", s, 9.0 + s - s / 100) for s in range(5)]
    assert evidence.verdict(two, rows + noisy).status == "partly"
    assert evidence.verdict(two, rows + worse).status == "contradicted"
    assert evidence.verdict(two, rows).status == "partly"


def test_newest_rows_count_and_failures_and_stale_are_told():
    rows = [row("a", 0, 99.0, code="old"), *paired([1.0, 1.1, 0.9, 1.05, 0.95]), row("a", 4, None)]
    got = evidence.verdict(claim(), rows, code="c0")
    assert (got.effects[0].n, got.failed, got.stale) == (4, 1, False)
    assert evidence.verdict(claim(), rows, code="c1").stale
    assert evidence.verdict(claim(), []).status == "no evidence"


def test_needed_seeds_would_really_separate():
    d = [1.0, -1.0, 0.5, -0.4, 0.2]
    n = evidence.needed_seeds(d)
    mean, sd = sum(d) / 5, math.sqrt(sum((x - sum(d) / 5) ** 2 for x in d) / 4)

    def separates(m):
        return stats.t.ppf(0.975, m - 1) * sd / math.sqrt(m) < mean

    assert separates(n) and not separates(n - 1)
    assert evidence.needed_seeds([-1.0, -2.0]) is None


def test_rows_are_appended_once(tmp_path):
    rows = paired([1.0, 1.0])
    assert evidence.append(PAPER, rows, tmp_path) == 4
    assert evidence.append(PAPER, rows, tmp_path) == 0
    assert evidence.append(PAPER, [row("a", 0, 5.0, settings={"lr": 1})], tmp_path) == 1
    assert [r["seed"] for r in evidence.rows(PAPER, tmp_path)] == [0, 0, 1, 1, 0]


def test_a_failed_run_is_a_row_and_may_be_tried_again(tmp_path):
    evidence.append(PAPER, [row("a", 0, None)], tmp_path)
    assert evidence.append(PAPER, [row("a", 0, 1.0)], tmp_path) == 1


def test_an_unfinished_line_is_no_row_and_is_cut_off_by_the_next_write(tmp_path):
    evidence.append(PAPER, [row("a", 0, 1.0)], tmp_path)
    path = evidence.path_of(PAPER, tmp_path)
    with open(path, "ab") as file:
        file.write(b'{"paper": "dcl", "cla')
    assert len(evidence.rows(PAPER, tmp_path)) == 1
    evidence.append(PAPER, [row("a", 1, 1.0)], tmp_path)
    assert [json.loads(line)["seed"] for line in path.read_text().splitlines()] == [0, 1]


def test_a_mangled_row_is_named(tmp_path):
    path = evidence.path_of(PAPER, tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text('{"a": 1}\n<<<<<<< ours\n')
    with pytest.raises(InputError, match=r"dcl.jsonl:2: not a row"):
        evidence.rows(PAPER, tmp_path)


def _write_many(folder, start):
    for seed in range(start, start + 60):
        evidence.append(PAPER, [row("a", seed, float(seed))], folder)


def test_two_writers_do_not_mix(tmp_path):
    jobs = [multiprocessing.get_context("fork").Process(target=_write_many, args=(tmp_path, start)) for start in (0, 30)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    found = evidence.rows(PAPER, tmp_path)
    assert sorted(r["seed"] for r in found) == list(range(90))


def test_a_killed_writer_loses_nothing_and_leaves_no_half_row(tmp_path):
    for delay in (0.05, 0.15, 0.3):
        job = multiprocessing.get_context("fork").Process(target=_write_many, args=(tmp_path, 0))
        job.start()
        time.sleep(delay)
        os.kill(job.pid, signal.SIGKILL)
        job.join()
        before = [r["seed"] for r in evidence.rows(PAPER, tmp_path)]
        assert before == list(range(len(before)))
    _write_many(tmp_path, 0)
    assert [r["seed"] for r in evidence.rows(PAPER, tmp_path)] == list(range(60))


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    evidence.append(PAPER, [row("a", 0, 1.0)], tmp_path)
    before = evidence.path_of(PAPER, tmp_path).read_bytes()
    real = os.write

    def half(fd, data):
        return real(fd, data[:len(data) // 2])

    monkeypatch.setattr(evidence.os, "write", half)
    with pytest.raises(InputError, match="no space left"):
        evidence.append(PAPER, [row("a", 1, 1.0)], tmp_path)
    assert evidence.path_of(PAPER, tmp_path).read_bytes() == before


def test_published_rows_are_whole():
    for paper in papers.papers().values():
        for r in evidence.rows(paper.id):
            assert r["paper"] == paper.id and r["tier"] in ("cpu", "gpu")
            assert (r["value"] is None) == ("error" in r)
            for key in ("claim", "arm", "seed", "metrics", "settings", "tuning", "seconds", "peak_mb", "device", "torch",
                        "code", "data", "commit", "utc"):
                assert key in r, (paper.id, key)
