"""Signal-to-noise ratio of the update over steps, and what of it points against the update."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from mmhealth.figures.decimation import Array, Window
from mmhealth.figures.panels import Panel, timeline_figure
from mmhealth.figures.runs import RunView
from mmhealth.figures.style import Theme
from mmhealth.health import Policy

_WIDE = 0.9
"""Part of the steps whose intervals are seen whole: a few wide ones would flatten the curve."""


def noise_figure(
    runs: Sequence[RunView],
    policy: Policy,
    *,
    theme: Theme = "light",
    window: Window | None = None,
) -> go.Figure:
    """Signal-to-noise ratio with its 90 % interval, above the opposing share."""
    snr = _values(runs, "gradient_snr")
    upper = np.quantile(_values(runs, "gradient_snr_high"), _WIDE)
    opposing = _values(runs, "opposing_share")
    panels = (
        Panel(
            "gradient_snr",
            title="signal-to-noise ratio",
            axis={"range": [1.1 * min(0.0, snr.min()), 1.1 * max(1.5, snr.max(), upper)]},
            band=("gradient_snr_low", "gradient_snr_high"),
            told=("noise_scale", "gradient_diversity"),
            notes_on_top=True,
            reference=(1.0, "batch = noise scale"),
        ),
        Panel(
            "opposing_share",
            title="contribution against the update",
            percent=True,
            notes_on_top=True,
            axis={"range": [0, max(0.52, 1.05 * opposing.max())]},
        ),
    )
    return timeline_figure(runs, policy, panels, theme, window)


def _values(runs: Sequence[RunView], metric: str) -> Array:
    """All known values of a metric; 0 where there are none."""
    known = [run.timeline[metric].drop_nulls().to_numpy() for run in runs]
    return np.concatenate([[0.0], *known])
