"""What the reader zoomed to, kept over updates.

dcc.Graph (since dash 4.2) copies a zoom into its own figure, and Plotly's ``uirevision`` then takes
it for ours and forgets it with the next one. So the browser says what is zoomed, and every figure
is made with it.
"""

from typing import Any

import plotly.graph_objects as go

from mmhealth.figures import Window

FigureZoom = dict[str, Any]
"""Of one figure: axis name -> (low, high), and perhaps ``dragmode``."""
Zoom = dict[str, FigureZoom]
"""By figure; see ``keepZoom`` in assets/mmhealth.js."""


def window_of(zoom: Zoom | None, figure: str) -> Window | None:
    """The range of steps that is looked at; None: all."""
    shown = (zoom or {}).get(figure, {}).get("xaxis")
    return None if shown is None else (float(shown[0]), float(shown[1]))


def apply_zoom(figure: go.Figure, zoom: FigureZoom | None) -> go.Figure:
    """The figure, zoomed. Axes drop what Plotly remembers of them whenever their zoom changes."""
    shown = zoom or {}
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        window = shown.get(axis.plotly_name)
        axis.uirevision = repr(window)
        if window is not None and axis.visible is not False:
            axis.update(range=window, autorange=False)
    if "dragmode" in shown:
        figure.layout.dragmode = shown["dragmode"]
    return figure
