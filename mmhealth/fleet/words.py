"""What is known of a run of a fleet, in words as short as a cell of a table."""

from mmhealth.fleet.headroom import WorstMetric
from mmhealth.fleet.summary import RunSummary
from mmhealth.report.words import show_value

UNKNOWN = "–"


def worst_words(worst: WorstMetric) -> str:
    """The metric, its value, and on which side of its threshold it is."""
    value, threshold = (show_value(worst.metric, v) for v in (worst.value, worst.threshold))
    sign = "<" if worst.value < worst.threshold else ">" if worst.value > worst.threshold else "="
    return f"{worst.metric} {value} {sign} {threshold}"


def headroom_words(worst: WorstMetric) -> str:
    """How far from the threshold, such as ``3.1x``; empty where that is no number."""
    room = worst.headroom
    return "" if room in (0.0, float("inf")) else f"{room:.2g}x" if room < 1000 else "> 1000x"


def trend_words(run: RunSummary) -> str:
    """Where the worst metric is going, and what is forecast."""
    parts: list[str] = []
    if run.worst is not None and run.worst.trend != "unknown":
        parts.append(run.worst.trend)
    if run.forecast is not None:
        parts.append(f"{run.forecast.rule} in {run.forecast.steps}")
    return ", ".join(parts)


def firing_words(run: RunSummary) -> str:
    """The step since which an alert fires, and how many rules fire."""
    rules = {alert.rule for alert in run.firing}
    if not rules:
        return ""
    count = f"{len(rules)} rule{'' if len(rules) == 1 else 's'}"
    return f"{min(alert.step for alert in run.firing)} ({count})"


def lead_words(run: RunSummary) -> str:
    """Steps from the first alert to the stall of held-out success."""
    return "" if run.lead is None else f"{run.lead.steps:+d}"


def ago(then: float | None, now: float) -> str:
    """How long ago, in the largest unit that says something."""
    if then is None:
        return UNKNOWN
    seconds = max(now - then, 0.0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
