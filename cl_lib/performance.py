"""What the library costs beside others: rows of profiles in data/perf/, and the two pages made from them."""
import json
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path

from cl_lib.pages import duration
from cl_lib.papers import ROOT

FOLDER = ROOT / "data" / "perf"
PROFILES = ("losses", "peers", "views", "epoch", "pieces", "evaluation", "kernels")
PACKAGES = ("torch", "lightly", "pytorch-metric-learning", "sentence-transformers", "open_clip_torch", "scikit-learn")
OBJECTIVES = {"nt_xent": "NT-Xent: two views of n items, each of 2n views against all others",
              "clip": "CLIP: n images against n texts, both ways", "info_nce": "InfoNCE: n queries against n keys, one way"}
OURS = ("stream", "stream, two encoders", "stream, one way")
EQUAL = {"float64": 1e-10, "float32": 1e-5}  # a gradient that differs by less is the same but for rounding


def record(profile: str, rows: list[dict], arguments: dict, folder: Path = FOLDER) -> Path:
    """Append the rows of one run of a profile, with machine, versions, time and command; returns the file."""
    head = dict(profile=profile, device=_device(rows), threads_there=os.cpu_count(), python=platform.python_version(),
                versions={p: v for p in PACKAGES if (v := _version(p))}, utc=datetime.now(UTC).isoformat(timespec="seconds"),
                command=" ".join(["python -m cl_lib profile", profile, *(f"-p {k}={json.dumps(v)}" for k, v in arguments.items())]))
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{profile}.jsonl", "a", encoding="utf8") as file:
        file.writelines(json.dumps({**head, **row}) + "\n" for row in rows)
    return folder / f"{profile}.jsonl"


def latest(profile: str, folder: Path = FOLDER) -> list[dict]:
    """The rows of the last recorded run of a profile; none where there was none."""
    path = folder / f"{profile}.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()] if path.exists() else []
    return [r for r in rows if r["utc"] == rows[-1]["utc"]]


def files(folder: Path = FOLDER) -> dict[str, str | bytes]:
    """The two pages and their pictures: path in the sources -> content."""
    found = {p: latest(p, folder) for p in PROFILES}
    out: dict[str, str | bytes] = {"performance.md": _performance(found), "peers.md": _peers(found["peers"])}
    if found["losses"]:
        out["performance-losses.png"] = _curves(found["losses"])
    return out


def _performance(found: dict[str, list[dict]]) -> str:
    lines = ["# Performance", "",
             "What the library's losses, views and evaluation cost, beside other libraries that compute the same. All of it is exact; whether the "
             "results agree is a page of its own: {doc}`peers`. Every number below comes from a recorded run; its command stands under each "
             "table, and measures the same on your machine. Time is the best of some repeats, memory the peak over what the inputs take; each "
             "line ran in a process of its own.", ""]
    for name, title, section in (("losses", "Losses", _losses), ("views", "Views", _views), ("epoch", "One epoch, end to end", _epoch),
                                 ("pieces", "A batch larger than memory", _pieces), ("evaluation", "Nearest neighbours", _evaluation),
                                 ("kernels", "On a GPU", _kernels)):
        lines += [f"## {title}", "", *(section(found[name]) if found[name] else [
            '<span class="cl-badge cl-missing">not measured yet</span>']), "", *_source(name, found[name]), ""]
    return "\n".join(lines)


def _losses(rows: list[dict]) -> list[str]:
    lines = ["`stream` goes over the matrix of similarities in blocks, with a backward pass of its own, and never holds it. *products* are the two matrix "
             "products that no exact form can do without: the floor. *exponentials* is the short form, found in many "
             "repositories, that takes `exp` before it divides. A dash: the form asks for more memory than the machine has.", "",
             "![Seconds and extra memory of each form against the number of pairs, both axes logarithmic. The dense forms' memory grows with the "
             "square of the batch, that of stream hardly at all.](performance-losses.png)", ""]
    for objective, title in OBJECTIVES.items():
        here = [r for r in rows if r["objective"] == objective]
        sizes = sorted({r["pairs"] for r in here})
        heads = ["form", *(f"{n:,} pairs" for n in sizes)]
        body = []
        for name in dict.fromkeys(r["name"] for r in here):
            cells = {r["pairs"]: _cost(r) for r in here if r["name"] == name}
            body.append([f"<b>{name}</b>" if name in OURS else name, *(cells.get(n, "") for n in sizes)])
        lines += [f"**{title}.**", "", table(heads, body, f"Cost of {objective}"), ""]
    return lines


def _cost(r: dict) -> str:
    if r["seconds"] is None:
        return "–"
    return f"{short(r['seconds'])}<br><small>{r['extra_mb']:,.0f} MB</small>"


def short(seconds: float) -> str:
    """Seconds in the unit that a reader wants: 12 ms, 1.4 s, 2 min."""
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s" if seconds < 100 else duration(seconds)


def _views(rows: list[dict]) -> list[str]:
    return ["Two SimCLR views of 32x32 colour pictures (crop, flip, jitter, grey), in batches of 256.", "",
            table(["implementation", "threads", "images a second", "ratio"],
                  [[r["name"], r["threads"], f"{r['images_s']:,.0f}", f"{r['speed_ratio']:.1f}"] for r in rows], "Throughput of views")]


def _epoch(rows: list[dict]) -> list[str]:
    body = []
    for name in dict.fromkeys(r["name"] for r in rows):
        own = [r for r in rows if r["name"] == name]
        seconds = sorted(r["seconds"] for r in own)
        accuracy = [r["knn_accuracy"] for r in own]
        body.append([name, len(own), f"{seconds[len(seconds) // 2]:.1f} s", f"{100 * sum(accuracy) / len(own):.1f} %",
                     f"{100 * min(accuracy):.1f} to {100 * max(accuracy):.1f} %"])
    return ["SimCLR on the training part of the CIFAR-10 slice, from pictures in memory to trained weights: same encoder, batch, optimiser and ranges of "
            "the views; the seconds are the median over seeds.", "",
            table(["implementation", "seeds", "an epoch", "kNN accuracy after it", "over seeds"], body, "An epoch of SimCLR")]


def _pieces(rows: list[dict]) -> list[str]:
    return ["Gradient caching: the batch is encoded in pieces, twice, and the gradient is that of the whole batch.", "",
            table(["batch", "piece", "a step", "extra memory", "time, ratio", "memory, ratio"],
                  [[r["batch"], r["size"], short(r["seconds"]), f"{r['extra_mb']:,.0f} MB", f"{r['time_ratio']:.2f}", f"{r['memory_ratio']:.2f}"]
                   for r in rows], "Cost of encoding in pieces")]


def _evaluation(rows: list[dict]) -> list[str]:
    return ["Labels of test items by their nearest training items; linear probes are scikit-learn's own.", "",
            table(["implementation", "train", "test", "dimensions", "time", "same labels"],
                  [[r["name"], f"{r['train']:,}", f"{r['test']:,}", r["d"], short(r["seconds"]), f"{100 * r['agreement']:.2f} %"] for r in rows],
                  "Cost of nearest neighbours")]


def _kernels(rows: list[dict]) -> list[str]:
    return [table(["form", "pairs", "time", "peak memory", "share of the product rate"],
                  [[r["name"], f"{r['pairs']:,}", *(("–",) * 3 if r["seconds"] is None else
                                                    (short(r["seconds"]), f"{r['peak_mb']:,.0f} MB", f"{100 * r['rate_share']:.0f} %"))]
                   for r in rows], "Cost of the kernels on a GPU")]


def _peers(rows: list[dict]) -> str:
    from cl_lib.profiling.peers import NOTES

    lines = ["---", "html_theme.sidebar_secondary.remove: true", "---", "# Peers", "",
             "Other libraries compute many of the same losses. Are they the same? For each function, temperature and precision: the largest difference between "
             "the peer's gradient and ours, over the largest entry of the gradient of the positive term. In float64 anything below 1e-10 is "
             "rounding, in float32 anything below 1e-5. What it all costs is on the page {doc}`performance`.", ""]
    if not rows:
        return "\n".join([*lines, '<span class="cl-badge cl-missing">not measured yet</span>', "", *_source("peers", rows), ""])
    columns = sorted({(r["dtype"], r["tau"]) for r in rows}, key=lambda c: (c[0] != "float64", c[1]))
    cells = {(r["peer"], r["function"], r["dtype"], r["tau"]): r for r in rows}
    body = [[f"{peer}<br><code>{escape(name)}</code><br><small>{escape(NOTES[peer, name])}</small>",
             *(_difference(cells[peer, name, *c]) for c in columns)]
            for peer, name in dict.fromkeys((r["peer"], r["function"]) for r in rows)]
    finite = [r for r in rows if r["gradient_difference"] is not None]
    apart = [r for r in finite if r["gradient_difference"] > EQUAL[r["dtype"]]]
    lines += [f"{len(rows) - len(apart) - (len(rows) - len(finite))} of {len(rows)} comparisons agree, {len(apart)} differ, {len(rows) - len(finite)} "
              "have no finite result on the peer's side.", "",
              table(["function", *(f"{d}<br>τ&nbsp;=&nbsp;{t:g}" for d, t in columns)], body, "Differences of gradients"), "",
              "The short form with `exp` overflows in float32 once 1 / τ passes about 88: it returns no number. All others subtract the largest "
              "term first, or use a bound, and so do ours.", ""]
    return "\n".join([*lines, *_source("peers", rows), ""])


def _difference(r: dict) -> str:
    d = r["gradient_difference"]
    if d is None:
        return '<span class="cl-badge cl-contradicted">not finite</span>'
    status = "reproduced" if d <= EQUAL[r["dtype"]] else "contradicted"
    return f'<span class="cl-badge cl-{status}">{d:.0e}</span>'


def table(heads: Iterable[str], body: Iterable[Iterable], label: str) -> str:
    """An HTML table that scrolls by itself where the page is narrow."""
    head = "".join(f'<th scope="col">{h}</th>' for h in heads)
    rows = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in body)
    return (f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}"><table class="status"><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>")


def _source(profile: str, rows: list[dict]) -> list[str]:
    if not rows:
        return [f"Measure it: `python -m cl_lib profile {profile} --record`."]
    r = rows[0]
    versions = ", ".join(f"{p} {v}" for p, v in r["versions"].items())
    return [f"<small>{escape(r['device'])}, {r['utc'][:10]}; {escape(versions)}.</small>", "", "```bash", r["command"], "```"]


def _curves(rows: list[dict]) -> bytes:
    from cl_lib import figures

    plt = figures.plt
    fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.6))
    own = [r for r in rows if r["objective"] == "nt_xent" and r["seconds"] is not None]
    for i, name in enumerate(dict.fromkeys(r["name"] for r in own)):
        line = sorted((r["pairs"], r["seconds"], max(r["extra_mb"], 1)) for r in own if r["name"] == name)
        style = dict(color=figures.CYCLE[i % len(figures.CYCLE)], marker="o", linewidth=3 if name in OURS else 1.4, label=name)
        axes[0].plot([x[0] for x in line], [x[1] for x in line], **style)
        if name != "products":
            axes[1].plot([x[0] for x in line], [x[2] for x in line], **style)
    for axis, label in zip(axes, ("seconds, forward and backward", "extra memory, MB"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="pairs in the batch", ylabel=label)
        axis.set_xscale("log", base=2)
    axes[0].legend()
    file = BytesIO()
    fig.savefig(file, format="png", metadata={"Software": None})
    plt.close(fig)
    return file.getvalue()


def _device(rows: list[dict]) -> str:
    if "device" in rows[0]:
        return rows[0]["device"]
    cpu = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")] if cpu.exists() else []
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
