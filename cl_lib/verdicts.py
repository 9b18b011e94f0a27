"""How a verdict looks in a notebook: one line of words, the paired values, and numbers that the text can quote."""
from IPython.display import HTML, display
from matplotlib import pyplot as plt

from cl_lib import figures
from cl_lib.evidence import Effect, Verdict
from cl_lib.papers import EXACT, MARGIN, Claim

FIDELITY = {"same": "same setting as the paper", "scaled-down": "scaled down", "analogue": "an analogue of the paper's setting"}


def show(claim: Claim, verdict: Verdict, values: dict[str, dict[int, float]], *, draw: bool = True) -> None:
    """Display the verdict of a claim, the figure of its paired values, and glue its numbers for the text."""
    setting = "positive control, no claim of the paper" if claim.control else FIDELITY[claim.fidelity]
    facts = f"{len(verdict.seeds)} seeds, tier {verdict.tier}, {setting}"
    lines = [_exact(claim, verdict)] if claim.kind in EXACT else [_words(claim, e) for e in verdict.effects]
    if verdict.failed:
        lines.append(f"{verdict.failed} runs failed")
    html = (f'<div class="cl-verdict"><span class="cl-badge cl-{verdict.status.replace(" ", "-")}">{verdict.status}</span> '
            f"<b>{claim.name}</b>: {claim.says}<br><small>{'<br>'.join(lines)}<br>{facts}</small></div>")
    plain = f"{claim.name}: {verdict.status}\n" + "\n".join(f"  {line}" for line in [*lines, facts])
    display({"text/html": html, "text/plain": plain}, raw=True)
    if draw and verdict.effects:
        figures.show(draw_effects(claim, verdict, values), alt=f"{claim.says} Verdict: {verdict.status}. {'; '.join(lines)}.")
    _glue(claim, verdict)


def _exact(claim: Claim, verdict: Verdict) -> str:
    if verdict.error is None:
        return "no finite value"
    return f"largest error {verdict.error:.1e}, tolerance {claim.tolerance:.0e}"


def _words(claim: Claim, e: Effect) -> str:
    c = next(c for c in claim.contrasts if (c.arm, c.against) == (e.arm, e.against))
    asked = f"margin {c.margin:g}" if claim.kind in MARGIN else f"at least {c.min_effect:g} asked"
    more = f"; about {e.needed} seeds would separate them" if e.needed else ""
    return (f"{e.arm} against {e.against}, {claim.metric}: better by {e.mean:+.4g} [{e.low:+.4g}, {e.high:+.4g}], "
            f"{asked}: {e.status}{more}")


def draw_effects(claim: Claim, verdict: Verdict, values: dict[str, dict[int, float]]) -> plt.Figure:
    """Left the value of each arm, seeds joined by faint lines; right the paired differences with mean and interval."""
    arms = list(dict.fromkeys(a for e in verdict.effects for a in (e.against, e.arm)))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 1.5 + 0.45 * max(len(arms), len(verdict.effects))),
                                         gridspec_kw={"width_ratios": [5, 4]}, layout="constrained")
    for seed in sorted(set.intersection(*(set(values[a]) for a in arms))):
        left.plot([values[a][seed] for a in arms], range(len(arms)), color="C7", alpha=0.35, linewidth=0.8, zorder=1)
    for y, arm in enumerate(arms):
        got = list(values[arm].values())
        left.scatter(got, [y] * len(got), s=16, alpha=0.7, color=f"C{y % 7}", zorder=2)
        left.plot([sum(got) / len(got)] * 2, [y - 0.25, y + 0.25], color=f"C{y % 7}", linewidth=2.5, zorder=3)
    left.set(yticks=range(len(arms)), yticklabels=arms, ylim=(-0.6, len(arms) - 0.4),
             xlabel=f"{claim.metric} ({claim.better} is better)")
    contrasts = {(c.arm, c.against): c for c in claim.contrasts}
    for y, e in enumerate(verdict.effects):
        c = contrasts[e.arm, e.against]
        bar = -c.margin if claim.kind in MARGIN else c.min_effect
        right.plot([bar, bar], [y - 0.35, y + 0.35], color="C3", linestyle=":", linewidth=1.5)
        right.scatter(e.differences, [y] * e.n, s=12, alpha=0.45, color="C7")
        right.errorbar(e.mean, y, xerr=[[e.mean - e.low], [e.high - e.mean]] if e.n > 1 else None, fmt="o", color="C0",
                       capsize=4, linewidth=2, markersize=6)
    right.axvline(0, color="C7", linewidth=1)
    right.set(yticks=range(len(verdict.effects)), ylim=(-0.6, len(verdict.effects) - 0.4),
              yticklabels=[f"{e.arm}\nvs {e.against}" for e in verdict.effects])
    right.set_xlabel("paired difference (right: as claimed)\n95 % interval; dotted: what was asked", size=9, loc="right")
    return figure


def _glue(claim: Claim, verdict: Verdict) -> None:
    """Make `{glue:text}` of `<claim>.status`, `.mean`, `.low`, `.high` (`.2.mean` for the second contrast) available."""
    from myst_nb import glue

    glue(f"{claim.name}.status", verdict.status, display=False)
    for number, e in enumerate(verdict.effects, 1):
        at = claim.name if number == 1 else f"{claim.name}.{number}"
        for name in ("mean", "low", "high"):
            glue(f"{at}.{name}", float(f"{getattr(e, name):.4g}"), display=False)
    if verdict.error is not None:
        glue(f"{claim.name}.error", float(f"{verdict.error:.1e}"), display=False)
