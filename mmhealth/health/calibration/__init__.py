"""Calibration: how early rules tell, how often they cry wolf, and which thresholds do better.

Whether and when a run came to harm is read off its held-out success alone (`harm`), never off the
metrics that rules judge; each rule is then played over the runs (`replay`), counted (`scores`), and
its threshold moved until it meets a target (`thresholds`).
"""

from mmhealth.health.calibration.courses import read_courses
from mmhealth.health.calibration.harm import Harm, find_harm
from mmhealth.health.calibration.policy_text import calibrated_toml
from mmhealth.health.calibration.replay import Course, Played, play, read_course
from mmhealth.health.calibration.scores import Score, score
from mmhealth.health.calibration.thresholds import Calibration, Choice, calibrate

__all__ = [
    "Calibration",
    "Choice",
    "Course",
    "Harm",
    "Played",
    "Score",
    "calibrate",
    "calibrated_toml",
    "find_harm",
    "play",
    "read_course",
    "read_courses",
    "score",
]
