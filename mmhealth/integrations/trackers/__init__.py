"""Per-step health metrics where people look: trackers of experiments, Prometheus."""

from mmhealth.integrations.trackers.forwarding import Forwarded, forward, forwarding
from mmhealth.integrations.trackers.steps import HealthStep, HealthSteps, latest_health
from mmhealth.integrations.trackers.tracker import Target, Tracker, parse_target

__all__ = [
    "Forwarded",
    "HealthStep",
    "HealthSteps",
    "Target",
    "Tracker",
    "forward",
    "forwarding",
    "latest_health",
    "parse_target",
]
