"""Which failure mode a run suffers from: evidence, confidence, rivals, and what to do.

A family of evidence a file; `modes` is the table of modes, `rank` what they add up to.
"""

from mmhealth.health.diagnosis.answer import Diagnosis, Finding, Outcome
from mmhealth.health.diagnosis.modes import MODES, Mode
from mmhealth.health.diagnosis.rank import diagnose, rank
from mmhealth.health.diagnosis.sign import Sign

__all__ = ["MODES", "Diagnosis", "Finding", "Mode", "Outcome", "Sign", "diagnose", "rank"]
