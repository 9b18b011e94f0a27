"""The command line: list, show, run, verify, report, export, profile, pretrain."""
import argparse
import importlib
import inspect
import json
import math
import os
import re
import sys
from collections import Counter
from pathlib import Path

from cl_lib import evidence, papers
from cl_lib.errors import InputError, unknown

EXAMPLES = """\
examples:
  python -m cl_lib list                               every paper, and how its claims stand
  python -m cl_lib show dcl                           one paper: idea, departures, claims with their intervals
  python -m cl_lib run dcl simcse                     measure what is missing or stale, show the verdicts
  python -m cl_lib run dcl --seeds 10-14              repeat it with seeds of your own (kept apart, in runs/)
  python -m cl_lib run dcl --seeds 10-14 -p batch=64  ... and another setting
  python -m cl_lib run --all --workers 8              everything, on a local Dask cluster
  python -m cl_lib run --all --scheduler tcp://host:8786
  python -m cl_lib verify                             recompute every verdict from the rows
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cl_lib", description="Contrastive Learning, Reproduced: run its papers, check its claims.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    one = commands.add_parser("list", help="every paper and how its claims stand")
    one.add_argument("words", nargs="*", help="only papers whose id, title, idea or notebook holds all of these words")
    one.set_defaults(call=_list)
    one = commands.add_parser("show", help="one paper: idea, departures, claims, verdicts")
    one.add_argument("paper")
    one.set_defaults(call=_show)
    one = commands.add_parser("run", help="reproduce papers: measure, record, show the verdicts", epilog=EXAMPLES,
                              formatter_class=argparse.RawDescriptionHelpFormatter)
    one.add_argument("papers", nargs="*", help="papers or single claims, such as dcl or dcl.small-batch")
    one.add_argument("--notebook", action="append", default=[], help="all written papers of this notebook")
    one.add_argument("--all", action="store_true", help="all written papers")
    one.add_argument("--stale", action="store_true", help="papers without evidence, or whose code has moved since")
    one.add_argument("--tier", default="cpu", help="smoke (seconds, no evidence), cpu (default) or gpu")
    one.add_argument("--seeds", help="such as 0-4 or 3,5,8; default: what each claim asks for")
    one.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps")
    one.add_argument("-p", "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings",
                     help="replace a setting of every arm, such as -p batch=64")
    one.add_argument("--results", type=Path, help="folder for the rows; default data/results, or runs/results "
                     "when seeds or settings are your own")
    one.add_argument("--workers", type=int, help="several papers at once, on a local Dask cluster of this many processes")
    one.add_argument("--scheduler", help="address of a running Dask scheduler, such as tcp://10.0.0.1:8786")
    one.set_defaults(call=_run)
    one = commands.add_parser("verify", help="recompute every verdict from the rows; fails on a broken row")
    one.set_defaults(call=_verify)
    one = commands.add_parser("report", help="build the book as a site")
    one.add_argument("--lenient", action="store_true", help="do not treat warnings as errors")
    one.add_argument("--repository", help="public address of the repository, https://github.com/owner/name: pages then offer "
                     "Colab and Binder; default: repository.url in _config.yml")
    one.set_defaults(call=_report)
    one = commands.add_parser("export", help="one chapter as a single file that needs no network and no other file")
    one.add_argument("notebook")
    one.set_defaults(call=_export)
    one = commands.add_parser("profile", help="time and memory on this machine, beside other libraries")
    one.add_argument("what", help="losses, peers, views, epoch, pieces (of a batch), evaluation or kernels (on a GPU)")
    one.add_argument("-p", "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings",
                     help="an argument of the profile, such as -p threads=1")
    one.add_argument("--record", action="store_true", help="keep the rows in data/perf/, for the pages on performance and peers")
    one.set_defaults(call=_profile)
    one = commands.add_parser("pretrain", help="make one of the book's small language models again")
    one.add_argument("model", help="mini-bert, mini-gpt or mini-gpt-small")
    one.add_argument("--steps", type=int, help="default: as many as the bundled model had")
    one.add_argument("--out", type=Path, help="folder for weights, tokenizer and curve; default runs/pretrained")
    one.set_defaults(call=_pretrain)
    options = parser.parse_args(arguments)
    try:
        return options.call(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stopped; what is finished is kept, the same command goes on from here", file=sys.stderr)
        return 130


def _verdicts(paper: papers.Paper) -> dict[str, evidence.Verdict]:
    from cl_lib import experiment

    rows = evidence.rows(paper.id) if paper.claims else []
    code = experiment.current_code(paper) if paper.claims else None
    return {c.id: evidence.verdict(c, rows, code=code) for c in paper.claims}


def _list(options) -> int:
    words = [w.lower() for w in options.words]
    shown = 0
    for part in papers.book():
        for notebook in part.notebooks:
            found = [p for p in notebook.papers
                     if all(w in f"{p.id} {p.title} {p.idea} {notebook.name} {part.name}".lower() for w in words)]
            if found:
                print(f"\n{part.name}/{notebook.name}: {notebook.title}")
            for p in found:
                counts = Counter(v.status for v in _verdicts(p).values())
                state = ", ".join(f"{n} {s}" for s, n in counts.items()) or "not written yet"
                print(f"  {p.id:<24} {f'{p.authors} {p.year}: {p.title}'[:86]:<86}  {state}")
                shown += 1
    print(f"\n{shown} papers")
    return 0


def _show(options) -> int:
    p = papers.paper(options.paper)
    print(f"{p.id}: {p.title}\n{p.authors}, {p.venue or 'venue unknown'} {p.year}"
          + (f", arXiv {p.arxiv}" if p.arxiv else "") + (f", code {p.code}" if p.code else ""))
    print(f"\nIdea: {p.idea}")
    if p.headline:
        print(f"\nThe paper reports: {p.headline['says']}")
    for departure in p.departures:
        print(f"  differs: {departure}")
    print(f"\nNotebook: {papers.notebook(p.notebook).path}\n" if p.claims else "\nNot written yet.")
    for claim, verdict in zip(p.claims, _verdicts(p).values(), strict=True):
        print(f"{claim.name} ({claim.kind}, {claim.fidelity}, {claim.where})\n  {claim.says}\n  {verdict}\n")
    return 0


def _run(options) -> int:
    from cl_lib import experiment, runs

    names = list(dict.fromkeys(_names(options)))
    seeds, settings = parse_seeds(options.seeds), parse_settings(options.settings)
    if options.workers is not None and options.workers < 1:
        raise InputError(f"workers must be at least 1, not {options.workers}")
    own = seeds is not None or bool(settings)
    results = options.results or (runs.SCRATCH / "results" if own else evidence.RESULTS)
    published = results.resolve() == evidence.RESULTS
    if published and settings:
        raise InputError(f"{results} holds the published evidence; runs with other settings need another folder")
    jobs = runs.plan(names, tier=options.tier, seeds=seeds, device=options.device, settings=settings, results=results,
                     workers=None)
    save = published and options.tier != "smoke" and not own and not any(job.claims for job in jobs)
    with runs.progress_bar() as progress:
        done = runs.run(jobs, workers=options.workers, scheduler=options.scheduler, save=save, progress=progress,
                        on_done=lambda d: print(f"{d.job.name}: {d.error or 'done'} ({d.seconds:.0f} s)", file=sys.stderr))
    failed = sum(d.error is not None for d in done)
    if options.tier == "smoke":
        print(f"tier smoke: {failed} of {len(done)} runs failed" if failed else "tier smoke: everything ran; it records nothing")
    else:
        summary(names, results, options.tier, seeds, settings, experiment)
        if not published:
            print(f"rows: {results}")
    return 1 if failed else 0


def _names(options) -> list[str]:
    from cl_lib import experiment, runs

    names = list(options.papers)
    for n in options.notebook:
        names += [p.id for p in papers.notebook(n).papers if p.claims]
    if options.all:
        names += [p.id for p in papers.papers().values() if p.claims and experiment.current_code(p)]
    if options.stale:
        names += (found := runs.stale())
        if not found:
            print("nothing is stale")
    if not names and not options.stale:
        raise InputError("name a paper, or give --notebook, --all or --stale; `python -m cl_lib list` shows the papers")
    return names


def summary(names, results, tier, seeds, settings, experiment) -> None:
    """The table at the end of a run: claim, arms, mean and interval, verdict, seconds; beside it what is published."""
    own = results.resolve() != evidence.RESULTS
    print()
    for name in names:
        paper = papers.paper(name.partition(".")[0])
        code = experiment.current_code(paper)
        for claim in [papers.claim(name)] if "." in name else paper.claims:
            rows = [r for r in evidence.rows(paper.id, results) if r["claim"] == claim.name
                    and (seeds is None or r["seed"] in seeds) and (not settings or _has(r["settings"], settings))]
            verdict = evidence.verdict(claim, rows, code=code, tier=tier)
            print(f"{claim.name}  [{verdict.seconds:.0f} s]\n    {claim.says}\n    {verdict}")
            if own:
                print(f"    published: {evidence.verdict(claim, evidence.rows(paper.id), code=code, tier=tier)}")


def _has(settings: dict, wanted: dict) -> bool:
    """Whether these settings, or those that a derived row was made of, carry the wanted values."""
    parts = settings["at"] if "at" in settings else [settings]
    return all(s.get(k, v) == v for s in parts for k, v in wanted.items())


def _verify(options) -> int:
    counts, late = Counter(), []
    for paper in papers.papers().values():
        for claim, verdict in zip(paper.claims, _verdicts(paper).values(), strict=True):
            print(f"{claim.name:<40} {verdict}")
            counts[verdict.status] += 1
            late += [claim.name] if verdict.stale else []
    written = sum(bool(p.claims) for p in papers.papers().values())
    print(f"\n{written} of {len(papers.papers())} papers; claims: "
          + (", ".join(f"{counts[s]} {s}" for s in evidence.STATUSES if counts[s]) or "none"))
    if late:
        print(f"stale: {', '.join(late)}")
    return 0


def _report(options) -> int:
    from cl_lib import report

    report.build(strict=not options.lenient, repository=options.repository)
    return 0


def _export(options) -> int:
    from cl_lib import export

    print(export.chapter(papers.notebook(options.notebook)))
    return 0


def _profile(options) -> int:
    from cl_lib import performance

    if options.what not in performance.PROFILES:
        raise unknown("profile", options.what, performance.PROFILES)
    profile = getattr(importlib.import_module(f"cl_lib.profiling.{options.what}"), options.what)
    settings, known = parse_settings(options.settings), inspect.signature(profile).parameters
    for name in settings:
        if name not in known:
            raise unknown(f"argument of {options.what}", name, known)
    rows = profile(**settings)
    names = list(rows[0])
    cells = [names, *([_cell(r.get(n)) for n in names] for r in rows)]
    widths = [max(len(c[i]) for c in cells) for i in range(len(names))]
    for c in cells:
        print("  ".join(text.ljust(w) for text, w in zip(c, widths, strict=True)).rstrip())
    if options.record:
        print(f"recorded in {os.path.relpath(performance.record(options.what, rows, settings))}")
    return 0


def _pretrain(options) -> int:
    from cl_lib import pretraining
    from cl_lib.datasets import sources

    weights = pretraining.pretrain(options.model, steps=options.steps, out=options.out, say=lambda line: print(line, file=sys.stderr))
    print(f"{os.path.relpath(weights)}: sha256 {sources.checksum(weights)}")
    return 0


def _cell(value) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def parse_seeds(text: str | None) -> list[int] | None:
    """`0-4`, `3,5,8` or a mixture as a list. Raises: InputError for anything else, or a seed given twice."""
    if text is None:
        return None
    seeds = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", piece)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise InputError(f"--seeds {text!r} is not a list of seeds; write 0-4 or 3,5,8")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(seeds)) != len(seeds):
        raise InputError(f"--seeds {text!r} names a seed twice")
    return seeds


def parse_settings(pairs: list[str]) -> dict:
    """NAME=VALUE pairs; a value that reads as JSON (1e-3, true, [1, 2]) is taken as such, any other as text."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip().isidentifier():
            raise InputError(f"-p {pair!r} is not NAME=VALUE, such as -p batch=64")
        try:
            settings[name.strip()] = json.loads(value)
        except ValueError:
            settings[name.strip()] = value
    return settings


if __name__ == "__main__":
    sys.exit(main())
