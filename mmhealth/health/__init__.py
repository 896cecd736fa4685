"""From a run to a judgement: timeline, rules, alerts, verdict."""

from mmhealth.health.alerts import Alert
from mmhealth.health.monitor import Monitor
from mmhealth.health.policy import Policy, default_policy, load_policy
from mmhealth.health.rules import Rule
from mmhealth.health.timeline import Timeline, build_timeline
from mmhealth.health.verdict import Verdict, judge_run

__all__ = [
    "Alert",
    "Monitor",
    "Policy",
    "Rule",
    "Timeline",
    "Verdict",
    "build_timeline",
    "default_policy",
    "judge_run",
    "load_policy",
]
