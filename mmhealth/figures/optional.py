"""Figures that stand on a page only where some run has what they show."""

from collections.abc import Sequence

from mmhealth.figures.runs import RunView
from mmhealth.figures.sources import sources_shown

OPTIONAL = ("noise", "sources")


def has_data(name: str, runs: Sequence[RunView]) -> bool:
    """Whether the figure with this caption belongs on the page; all but `OPTIONAL` always do."""
    if name == "noise":
        metrics = ("gradient_snr", "opposing_share")
        return any(run.timeline[metric].count() for run in runs for metric in metrics)
    return name != "sources" or any(sources_shown(run) for run in runs)
