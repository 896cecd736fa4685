"""A sign: how strongly the log speaks for one failure mode, and in which words."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mmhealth.health.diagnosis.record import WINDOW, Record, window_means
from mmhealth.health.rows import Array


@dataclass(frozen=True, slots=True)
class Sign:
    """What one family of evidence says of one mode."""

    strength: float
    """The mode's statistic over its threshold: 1 is on the border, 0 nothing at all."""
    since: int | None = None
    """Step from which on it shows; None where it does not."""
    evidence: tuple[str, ...] = ()
    """Sentences with numbers and steps."""
    rivals: Mapping[str, str] = field(default_factory=dict)
    """By mode, what the log says of it as another reading of the same."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The window of steps in which a statistic is worst."""

    value: float
    first: int
    last: int

    @property
    def words(self) -> str:
        """``steps 20 to 29``."""
        return f"steps {self.first} to {self.last}"


def worst(record: Record, values: Array, width: int = WINDOW) -> Stretch | None:
    """The window whose mean is largest; None where no window has enough known values."""
    means = window_means(values, width)
    if np.isnan(means).all():
        return None
    end = int(np.nanargmax(means))
    steps = record.steps
    return Stretch(float(means[end]), int(steps[max(end - width + 1, 0)]), int(steps[end]))


def onset(record: Record, values: Array, threshold: float, width: int = WINDOW) -> int | None:
    """First step at ``threshold`` or beyond in the first window whose mean is so."""
    beyond = np.flatnonzero(window_means(values, width) >= threshold)
    if not beyond.size:
        return None
    start = max(int(beyond[0]) - width + 1, 0)
    inside = np.flatnonzero(np.nan_to_num(values[start:], nan=-np.inf) >= threshold)
    return int(record.steps[start + int(inside[0])])
