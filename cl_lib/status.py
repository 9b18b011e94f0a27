"""How the book stands: the last recorded run of each notebook, and the ways to run one that its page offers."""
from collections.abc import Iterable, Mapping
from html import escape

from cl_lib.pages import STALE, Judged, doc, duration
from cl_lib.papers import Notebook, Part

Rows = Mapping[str, list[dict]]  # paper id -> its rows
COLUMNS = ("Notebook", "State", "Papers", "Rows", "Last run", "Time", "Memory", "Machine", "torch", "Code")
PARAMETERS = {"tier": "<code>smoke</code> goes through in seconds and records nothing; <code>cpu</code> is the evidence shown; "
                      "<code>gpu</code> needs a graphics card",
              "seeds": "<code>None</code>: those that each claim asks for; or a list such as <code>[10, 11, 12]</code>",
              "device": "<code>cpu</code>, <code>cuda</code> or <code>mps</code>",
              "papers": "<code>None</code>: all of the notebook; or a list of papers or claims",
              "settings": "replaces settings of every arm, such as <code>{\"batch\": 64}</code>"}


def page(parts: Iterable[Part], judged: Judged, rows: Rows, written: set[str]) -> str:
    """The page that says when each notebook was last run, how long that took, and on what."""
    notebooks = [nb for part in parts for nb in part.notebooks]
    begun = [nb for nb in notebooks if any(p.id in written or rows.get(p.id) for p in nb.papers)]
    body = "".join(_row(nb, judged, rows, written) for nb in begun)
    heads = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    rest = [f"- {doc(nb.title, f'/{nb.part}/{nb.name}')}, {len(nb.papers)} papers" for nb in notebooks if nb not in begun]
    return "\n".join([
        "---", "html_theme.sidebar_secondary.remove: true", "---", "# Status", "",
        "The last recorded run of each notebook. Times add up all rows that count now, tuning included, as if one had followed the "
        "other; the pages show the saved outputs of these runs.", "",
        '<div class="wide" tabindex="0" role="region" aria-label="The last run of each notebook">'
        f'<table class="status"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>', "",
        "`python -m cl_lib run --stale` brings up to date what is stale; see {doc}`rerun`.", "",
        f"## Not written yet: {len(rest)} notebooks", "", *rest, ""])


def _row(nb: Notebook, judged: Judged, rows: Rows, written: set[str]) -> str:
    own = [r for p in nb.papers for r in rows.get(p.id, ())]
    verdicts = [v for p in nb.papers for _, v in judged[p.id]]
    done = sum(p.id in written for p in nb.papers)
    cells = [f'<a href="{nb.part}/{nb.name}.html">{escape(nb.title)}</a>', states(verdicts, own), f"{done} of {len(nb.papers)}"]
    if own:
        seen = {name: ", ".join(sorted({str(r[name]) for r in own})) for name in ("device", "torch")}
        cells += [f"{len(own):,}", max(r["utc"] for r in own)[:16].replace("T", " "), duration(sum(r["seconds"] for r in own)),
                  f"{max(r['peak_mb'] or 0 for r in own):,.0f} MB", escape(seen["device"]), escape(seen["torch"]),
                  f"<code>{(max(own, key=lambda r: r['utc'])['commit'] or '–')[:7]}</code>"]
    else:
        cells += ["–"] * (len(COLUMNS) - len(cells))
    return "<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>"


def states(verdicts: list, rows: list[dict]) -> str:
    """What a reader should know before trusting a chapter: stale claims, failed runs, claims without evidence."""
    failed = sum(r["value"] is None for r in rows)
    open_ = sum(v.tier is None for v in verdicts)
    found = [f"{STALE} {sum(v.stale for v in verdicts)}"] * any(v.stale for v in verdicts)
    found += [f'<span class="cl-badge cl-failed">failed runs</span> {failed}'] * bool(failed)
    found += [f'<span class="cl-badge cl-no-evidence">no evidence</span> {open_}'] * bool(open_)
    return " ".join(found) or '<span class="cl-badge cl-reproduced">up to date</span>'


def run_box(nb: Notebook, rows: Rows, repository: str | None) -> str:
    """What a chapter offers to whoever wants to run it, folded, as HTML; Colab and Binder once the repository has an address."""
    own = [r for p in nb.papers for r in rows.get(p.id, ())]
    took = (f" Its recorded runs took {duration(sum(r['seconds'] for r in own))} on {escape(own[-1]['device'])}, tuning included."
            if own else "")
    ways = [f'<a href="../_sources/{nb.part}/{nb.name}.ipynb" download="{nb.name}.ipynb">Download</a>', *_hosted(nb, repository)]
    names = "".join(f"<dt><code>{name}</code></dt><dd>{meaning}</dd>" for name, meaning in PARAMETERS.items())
    return (f'<details class="run-box"><summary>Run this chapter</summary><p class="ways">{" ".join(ways)}</p>'
            f"<p>All of it from the command line, in the folder of the book.{took}</p>"
            f'<pre tabindex="0">python -m cl_lib run --notebook {nb.name}\njupyter lab {nb.path.as_posix()}</pre>'
            f"<p>Its first cell holds the parameters:</p><dl>{names}</dl>"
            f'<p>More ways, clusters among them: <a href="../rerun.html">Run it yourself</a>.</p></details>')


def _hosted(nb: Notebook, repository: str | None) -> list[str]:
    """Links to services that run a notebook of a public repository."""
    if not repository:
        return ["<small>Colab and Binder need a public address of the repository, which this copy of the book does not name.</small>"]
    name = repository.rstrip("/").removesuffix(".git").partition("github.com/")[2]
    return [f'<a href="https://colab.research.google.com/github/{name}/blob/main/{nb.path.as_posix()}">Colab</a>',
            f'<a href="https://mybinder.org/v2/gh/{name}/HEAD?urlpath=lab/tree/{nb.path.as_posix()}">Binder</a>',
            f'<small>In Colab, first run <code>!git clone --depth 1 {escape(repository)} contrast &amp;&amp; cd contrast &amp;&amp; '
            "pip install -q '.[book]'</code> and <code>%cd contrast</code> in a cell of its own; Binder has everything.</small>"]
