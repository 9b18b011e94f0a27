"""Evidence: rows appended as soon as they are known, and the verdicts that a rule computes from them."""
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from scipy import stats

from cl_lib import papers
from cl_lib.errors import InputError
from cl_lib.papers import EXACT, ROOT, Claim, Contrast

RESULTS = ROOT / "data" / "results"
LEVEL = 0.95
NEEDED_AT_MOST = 1000
REPRODUCED, PARTLY, CONTRADICTED = "reproduced", "partly", "contradicted"
NOT_SEPARATED, NO_EVIDENCE = "not separated", "no evidence"
STATUSES = (REPRODUCED, PARTLY, CONTRADICTED, NOT_SEPARATED, NO_EVIDENCE)
KEY = ("claim", "arm", "seed", "tier", "code")


@dataclass(frozen=True)
class Effect:
    """One contrast, measured: paired differences over seeds, signed so that positive is as claimed."""
    arm: str
    against: str
    mean: float
    low: float
    high: float
    n: int
    needed: int | None  # seeds at which the interval would leave 0, were mean and spread to stay
    status: str
    differences: tuple[float, ...]


@dataclass(frozen=True)
class Verdict:
    """What the rows say of a claim."""
    status: str
    tier: str | None = None
    seeds: tuple[int, ...] = ()
    effects: tuple[Effect, ...] = ()
    error: float | None = None  # identity and bound: the largest one
    failed: int = 0  # runs that ended in an error or a number that is not finite
    stale: bool = False
    seconds: float = 0.0
    utc: str | None = None

    def __str__(self) -> str:
        if self.status == NO_EVIDENCE:
            return self.status
        if self.error is not None:
            text = f"{self.status}: largest error {self.error:.1e} over {len(self.seeds)} seeds"
        else:
            text = f"{self.status}: " + "; ".join(
                f"{e.arm} against {e.against} {e.mean:+.4g} [{e.low:+.4g}, {e.high:+.4g}], {e.n} seeds"
                + (f", {e.needed} would separate" if e.status == NOT_SEPARATED and e.needed else "")
                for e in self.effects)
        return text + (f"; {self.failed} runs failed" if self.failed else "") + ("; stale" if self.stale else "")


def path_of(paper_id: str, results: Path = RESULTS) -> Path:
    """Where the rows of a paper stand."""
    return results / papers.paper(paper_id).notebook / f"{paper_id}.jsonl"


def rows(paper_id: str, results: Path = RESULTS) -> list[dict]:
    """All rows of a paper, oldest first; an unfinished last line (a crash while writing) is not a row."""
    path = path_of(paper_id, results)
    if not path.exists():
        return []
    out = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            out.append(json.loads(line))
        except ValueError:
            raise InputError(f"{path}:{number}: not a row of JSON; restore the file from version control") from None
    return out


def append(paper_id: str, new: Iterable[dict], results: Path = RESULTS) -> int:
    """Append rows, each with one write under a lock, and return how many were new.

    A row whose (claim, arm, seed, tier, code) and settings already stand there with a value is left out, so two
    runs at once do not mix. Raises: InputError when the folder cannot be written or the disk is full.
    """
    path = path_of(paper_id, results)
    added = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), mode=0o666):
            known = {identity(r) for r in rows(paper_id, results) if r["value"] is not None}
            with open(path, "ab") as file:
                _mend(path, file)
                for row in new:
                    if identity(row) in known:
                        continue
                    _write(file, json.dumps(row, allow_nan=False).encode() + b"\n")
                    known.add(identity(row))
                    added += 1
    except OSError as error:
        raise InputError(f"{path}: cannot write evidence: {error.strerror or error}") from None
    return added


def identity(row: dict) -> tuple:
    """What makes a row that row."""
    return (*(row[k] for k in KEY), json.dumps(row["settings"], sort_keys=True))


def _mend(path: Path, file) -> None:
    """Cut off an unfinished last line, left by a crash in the middle of a write."""
    size = path.stat().st_size
    if size:
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)


def _write(file, line: bytes) -> None:
    start = os.fstat(file.fileno()).st_size
    try:
        written = os.write(file.fileno(), line)
        if written < len(line):
            raise OSError(28, "no space left on device")
        os.fsync(file.fileno())
    except OSError:
        os.ftruncate(file.fileno(), start)
        raise


def interval(differences: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % t interval of paired differences; an infinite one from fewer than two."""
    n = len(differences)
    mean = sum(differences) / n
    if n < 2:
        return mean, -math.inf, math.inf
    half = _half_width(_spread(differences, mean), n)
    return mean, mean - half, mean + half


def _spread(differences: list[float], mean: float) -> float:
    return math.sqrt(sum((d - mean) ** 2 for d in differences) / (len(differences) - 1))


def _half_width(spread: float, n: int) -> float:
    return float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * spread / math.sqrt(n)


def needed_seeds(differences: list[float]) -> int | None:
    """The smallest number of seeds whose interval would exclude 0 at the mean and spread seen; None over 1,000."""
    mean = sum(differences) / len(differences)
    if len(differences) < 2 or mean <= 0:
        return None
    spread = _spread(differences, mean)
    return next((n for n in range(2, NEEDED_AT_MOST + 1) if _half_width(spread, n) < mean), None)


def effect(claim: Claim, contrast: Contrast, a: dict[int, float], b: dict[int, float]) -> Effect | None:
    """The contrast over the seeds that both arms have; None when there is none."""
    seeds = sorted(set(a) & set(b))
    if not seeds:
        return None
    d = [claim.sign * (a[s] - b[s]) for s in seeds]
    mean, low, high = interval(d)
    if claim.kind == "no_worse":
        status = REPRODUCED if low > -contrast.margin else CONTRADICTED if high < -contrast.margin else NOT_SEPARATED
    elif claim.kind == "equivalent":
        m = contrast.margin
        outside = high < -m or low > m
        status = REPRODUCED if -m < low and high < m else CONTRADICTED if outside else NOT_SEPARATED
    elif low > 0:
        status = REPRODUCED if mean >= contrast.min_effect else PARTLY
    else:
        status = CONTRADICTED if high < 0 else NOT_SEPARATED
    needed = needed_seeds(d) if status == NOT_SEPARATED else None
    return Effect(contrast.arm, contrast.against, mean, low, high, len(d), needed, status, tuple(d))


def values(claim: Claim, evidence: Iterable[dict], tier: str) -> dict[str, dict[int, float]]:
    """arm -> seed -> value of a claim at a tier, the newest row of each counting."""
    out: dict[str, dict[int, float]] = {}
    for r in evidence:
        if r["claim"] == claim.name and r["tier"] == tier:
            arm = out.setdefault(r["arm"], {})
            arm.pop(r["seed"], None)
            if r["value"] is not None:
                arm[r["seed"]] = r["value"]
    return out


def newest(claim: Claim, evidence: Iterable[dict], tier: str) -> list[dict]:
    """The newest row of each arm and seed."""
    return list({(r["arm"], r["seed"]): r for r in evidence if r["claim"] == claim.name and r["tier"] == tier}.values())


def verdict(claim: Claim, evidence: list[dict], *, code: str | None = None, tier: str | None = None) -> Verdict:
    """The verdict that the rule of the protocols page gives; `code`, the present hash, tells whether it is stale."""
    if tier is None:
        tiers = {r["tier"] for r in evidence if r["claim"] == claim.name}
        tier = "gpu" if "gpu" in tiers and "cpu" not in tiers else "cpu"
    current = newest(claim, evidence, tier)
    if not current:
        return Verdict(NO_EVIDENCE)
    found = values(claim, evidence, tier)
    facts = dict(
        tier=tier, seeds=tuple(sorted({r["seed"] for r in current})), failed=sum(r["value"] is None for r in current),
        stale=code is not None and any(r["code"] != code for r in current),
        seconds=sum(r["seconds"] for r in current), utc=max(r["utc"] for r in current))
    if claim.kind in EXACT:
        errors = [abs(v) for arm in found.values() for v in arm.values()]
        if not errors:
            return Verdict(NO_EVIDENCE, **facts)
        status = REPRODUCED if max(errors) <= claim.tolerance and not facts["failed"] else CONTRADICTED
        return Verdict(status, error=max(errors), **facts)
    effects = [effect(claim, c, found.get(c.arm, {}), found.get(c.against, {})) for c in claim.contrasts]
    got = [e.status if e else NO_EVIDENCE for e in effects]
    if all(g == REPRODUCED for g in got):
        status = REPRODUCED
    elif CONTRADICTED in got:
        status = CONTRADICTED
    elif REPRODUCED in got or PARTLY in got:
        status = PARTLY
    else:
        status = NO_EVIDENCE if set(got) == {NO_EVIDENCE} else NOT_SEPARATED
    return Verdict(status, effects=tuple(e for e in effects if e), **facts)
