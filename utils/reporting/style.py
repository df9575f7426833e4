"""How all pictures look: their colors, and how they are saved."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

INK, FAINT, ACCENT, SHADE = "#1f2933", "#8d99a6", "#c2410c", "#fde8d7"
# that the color-blind can tell apart (Okabe and Ito 2008), the darker ones first
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

FORMATS = FigureCanvasBase.get_supported_filetypes()  # endings of names, and what they stand for


def bare(*axes: Axes) -> None:
    """Without the frame's lines above and on the right."""
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write the file and forget the figure."""
    figure.savefig(path, dpi=150)
    plt.close(figure)
