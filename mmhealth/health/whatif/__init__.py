"""What a logged step would have looked like under an intervention, from the log alone.

One intervention's arithmetic a file; `terms` is what they all change, `compare` puts them side by
side. Nothing is replayed: rollouts and parameters are those of the log.
"""

from mmhealth.health.whatif.answer import Answer, Effect, WhatIf
from mmhealth.health.whatif.compare import what_if
from mmhealth.health.whatif.measure import METRICS
from mmhealth.health.whatif.menu import standard_options
from mmhealth.health.whatif.option import Change, Kind, Option
from mmhealth.health.whatif.terms import StepTerms

__all__ = [
    "METRICS",
    "Answer",
    "Change",
    "Effect",
    "Kind",
    "Option",
    "StepTerms",
    "WhatIf",
    "standard_options",
    "what_if",
]
