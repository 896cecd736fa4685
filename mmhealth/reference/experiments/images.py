"""Drawings as PNG; needs kaleido, and a Chrome or Chromium on the machine."""

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from mmhealth.reference.experiments.drawings import Drawing

WIDTH = 1200
"""Of an image, in pixels."""
_TITLE = 76
"""Height of the words above the figure, in pixels."""


def write_images(folder: Path, drawings: Sequence[Drawing]) -> str | None:
    """Write ``NAME.png`` of each into ``folder``; where that is not possible, why not."""
    try:
        from kaleido.errors import BrowserFailedError
    except ModuleNotFoundError:
        return "no PNG: kaleido is not installed (pip install 'mmhealth[reproduce]')"
    from plotly.io import write_images as write

    folder.mkdir(parents=True, exist_ok=True)
    try:
        write(
            fig=[_titled(drawing) for drawing in drawings],
            file=[folder / f"{drawing.name}.png" for drawing in drawings],
            width=WIDTH,
            height=[drawing.height + _TITLE for drawing in drawings],
        )
    except (RuntimeError, BrowserFailedError) as error:
        reason = (str(error).split("\n") or [""])[0].strip()[:120]
        return f"no PNG: no usable Chrome or Chromium on this machine ({reason})"
    return None


def _titled(drawing: Drawing) -> go.Figure:
    figure = drawing.draw("light")
    title = {"text": drawing.title, "x": 0.01, "yref": "container", "y": 1, "yanchor": "top"}
    figure.update_layout(
        title=title | {"pad": {"t": 12}, "font": {"size": 17}}, margin={"t": _TITLE}
    )
    return figure
