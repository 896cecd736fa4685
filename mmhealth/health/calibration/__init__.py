"""Calibration: how early rules tell, how often they cry wolf, and which thresholds do better.

Whether and when a run came to harm is read off its held-out success alone (`harm`), never off the
metrics that rules judge; each rule is then played over the runs (`replay`), counted (`scores`), and
its threshold moved until it meets a target (`thresholds`).
"""

from mmhealth.health.calibration.harm import Harm, find_harm
from mmhealth.health.calibration.policy_text import calibrated_toml
from mmhealth.health.calibration.replay import Course, alarms, read_course
from mmhealth.health.calibration.scores import Score, score_pack, score_rule
from mmhealth.health.calibration.thresholds import Calibration, Choice, calibrate

__all__ = [
    "Calibration",
    "Choice",
    "Course",
    "Harm",
    "Score",
    "alarms",
    "calibrate",
    "calibrated_toml",
    "find_harm",
    "read_course",
    "score_pack",
    "score_rule",
]
