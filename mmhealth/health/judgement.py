"""What a rule's condition says of one step."""

from dataclasses import dataclass
from typing import Literal

from mmhealth.estimators import PopulationInterval

Reading = Literal["breached", "solved", "between", "recovered", "no data"]
"""``between``: neither beyond the threshold nor beyond the recovery threshold; or not decided."""

PATIENCE = 5
"""Steps without data in a row that a count of breached steps outlives."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a condition says of one step."""

    reading: Reading
    value: float | None = None
    threshold: float | None = None
    interval: PopulationInterval | None = None
    """Of the population, where the rule demands it."""
    why: str = ""
    """Why the interval, or its absence, leaves it undecided whether the population is beyond the
    threshold; empty where it does not."""
