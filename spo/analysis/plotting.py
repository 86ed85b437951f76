"""matplotlib as it is shipped: imported without the backend, and without the matplotlibrc file, of whoever runs this.

A notebook sets MPLBACKEND to a module that this environment may lack, and matplotlib reads it, and a `matplotlibrc` in
the working folder, while it is imported: no later choice can undo the error.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def _as_shipped() -> Iterator[None]:
    """Hide the user's settings of matplotlib inside of the block; environment and working folder are put back."""
    hidden = {name: os.environ.pop(name) for name in ("MPLBACKEND", "MATPLOTLIBRC") if name in os.environ}
    try:
        # The matplotlibrc of the working folder comes before all others: here it is the one that matplotlib ships.
        with contextlib.chdir(Path(importlib.util.find_spec("matplotlib").origin).parent / "mpl-data"):
            yield
    finally:
        os.environ.update(hidden)


with _as_shipped():
    import matplotlib
    from matplotlib import font_manager
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import LinearSegmentedColormap, to_hex
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ft2font import FT2Font
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

__all__ = [
    "Axes",
    "Axis",
    "Canvas",
    "FT2Font",
    "FuncFormatter",
    "LinearSegmentedColormap",
    "MaxNLocator",
    "NullLocator",
    "Rectangle",
    "font_manager",
    "matplotlib",
    "to_hex",
    "withStroke",
]
