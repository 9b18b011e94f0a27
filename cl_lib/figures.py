"""How the book's figures look, and the one way they are shown; importing this module sets the style."""
from base64 import b64encode
from io import BytesIO

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from cl_lib.errors import InputError

INK, QUIET, PAPER = "#1f2933", "#8a94a0", "#ffffff"
BLUE, ORANGE, GREEN, PURPLE, OCHRE, SKY = "#0067ac", "#d1500f", "#00845f", "#a64d88", "#b87b00", "#3d95c9"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, OCHRE, SKY, INK, QUIET)  # each 3:1 or more on PAPER; C7 is for what stands back
MAP, DIVERGING = "magma", "RdBu_r"                  # magnitudes; signed quantities around zero
DPI = 144

STYLE = {
    "figure.facecolor": PAPER, "savefig.facecolor": PAPER, "axes.facecolor": PAPER,
    "figure.figsize": (7.2, 3.2), "figure.dpi": 96, "savefig.dpi": DPI, "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 10.5, "axes.labelsize": 10,
    "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.fontsize": 9, "axes.titlelocation": "left",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": QUIET, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.prop_cycle": plt.cycler(color=CYCLE),
    "axes.grid": True, "grid.color": "#e4e8ec", "grid.linewidth": 0.8, "axes.axisbelow": True,
    "lines.linewidth": 1.8, "lines.markersize": 5, "legend.frameon": False,
    "image.cmap": MAP, "image.interpolation": "nearest",
}
plt.rcParams.update(STYLE)


def show(fig: Figure, *, alt: str, colors: int = 64) -> None:
    """Show `fig` once, as a small PNG that carries `alt`: what the figure shows, for those who cannot see it.

    The page gives `alt` to screen readers; a terminal prints it. The figure is closed. A notebook has to stay small,
    so the picture keeps `colors` of its colours, at most 256: 64 do for lines and bars, colour maps need more.

    Raises: InputError for an `alt` that is too short to say anything.
    """
    if len(alt.split()) < 5:
        raise InputError(f"alt must say in a sentence what the figure shows, not {alt!r}")
    file = BytesIO()
    fig.savefig(file, format="png")
    width = round(fig.get_figwidth() * 96)
    plt.close(fig)
    display({"image/png": b64encode(_small(file, colors)).decode(), "text/plain": alt}, raw=True,
            metadata={"image/png": {"alt": alt, "width": width}})


def sketch() -> None:
    """Show figures from now on in few pixels, for tier smoke: they are drawn to see that they can be."""
    plt.rcParams["savefig.dpi"] = DPI / 4


def bare(axes) -> None:
    """Strip `axes` (one, or an array of them) of ticks, grid and frame: for pictures."""
    for ax in getattr(axes, "flat", [axes]):
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)


def _small(png: BytesIO, colors: int) -> bytes:
    """The same picture in fewer colours, about a quarter of the bytes."""
    file = BytesIO()
    Image.open(png).convert("RGB").quantize(colors, method=Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE).save(
        file, format="png", optimize=True)
    return file.getvalue()
