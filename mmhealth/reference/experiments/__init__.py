"""Experiments: do the article's claims hold in the reference trainer?

Arms (what is trained) -> runs (one JSON file each) -> claims (criteria and verdicts) -> figures and
report.
"""

from mmhealth.reference.experiments.arms import FIGURES, Arm, arms_of
from mmhealth.reference.experiments.claims import CLAIMS, Claim, Criterion, Verdict, judge
from mmhealth.reference.experiments.report import write_report
from mmhealth.reference.experiments.reproduce import Plan, Reproduction, reproduce
from mmhealth.reference.experiments.results import Result, Results
from mmhealth.reference.experiments.words import print_short

__all__ = [
    "CLAIMS",
    "FIGURES",
    "Arm",
    "Claim",
    "Criterion",
    "Plan",
    "Reproduction",
    "Result",
    "Results",
    "Verdict",
    "arms_of",
    "judge",
    "print_short",
    "reproduce",
    "write_report",
]
