"""Figures of runs, shared by report and dashboard: frames in, Plotly figures out.

Every figure takes ``theme``. Several runs lie over each other, each in its own colour. What could
not be computed is a gap, and where nothing could the figure says why.
"""

from mmhealth.figures.captions import CAPTIONS, Caption
from mmhealth.figures.decimation import Window
from mmhealth.figures.heldout import heldout_figure
from mmhealth.figures.horizon import horizon_figure
from mmhealth.figures.lorenz import lorenz_figure
from mmhealth.figures.noise import noise_figure
from mmhealth.figures.optional import OPTIONAL, has_data
from mmhealth.figures.runs import RunView
from mmhealth.figures.sources import sources_figure
from mmhealth.figures.style import CONFIG, Theme, empty_figure, run_colour
from mmhealth.figures.timelines import (
    BASES,
    Shown,
    entropy_figure,
    ess_figure,
    gini_figure,
    groups_figure,
    reward_ess_figure,
)

__all__ = [
    "BASES",
    "CAPTIONS",
    "CONFIG",
    "OPTIONAL",
    "Caption",
    "RunView",
    "Shown",
    "Theme",
    "Window",
    "empty_figure",
    "entropy_figure",
    "ess_figure",
    "gini_figure",
    "groups_figure",
    "has_data",
    "heldout_figure",
    "horizon_figure",
    "lorenz_figure",
    "noise_figure",
    "reward_ess_figure",
    "run_colour",
    "sources_figure",
]
