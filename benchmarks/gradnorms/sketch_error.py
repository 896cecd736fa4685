"""How far sketched norms, and what is made of them, are from exact ones."""

import copy
from dataclasses import dataclass

import numpy as np

from gradnorms import ours
from gradnorms.workload import Workload
from mmhealth.estimators import ess, gini

SIZES = (8, 16, 32, 64)
PROMISED = ("a", "b", "c")
"""Workloads that the bars are for."""
NORM_BARS = {16: 0.18, 64: 0.09}
GINI_BARS = {16: 0.03, 64: 0.02}


@dataclass
class Errors:
    """Of one sketch size on one workload, root mean square over trajectories and seeds."""

    workload: str
    size: int
    norm: float
    """Relative, of a trajectory's norm."""
    worst: float
    """Largest of those."""
    gini: float
    """Relative, of the batch's Gini coefficient."""
    ess: float
    """Relative, of the batch's contribution ESS."""


def measure(workload: Workload, seeds: int) -> list[Errors]:
    """Raises `gradnorms.arm.UnableError` while mmhealth has no sketch."""
    exact = _norms(workload, None, 0)
    found = []
    for size in SIZES:
        drawn = [_norms(workload, size, seed) for seed in range(seeds)]
        relative = np.array([norms / exact - 1 for norms in drawn])
        found.append(
            Errors(
                workload.name,
                size,
                _rms(relative),
                float(np.abs(relative).max()),
                _rms(np.array([gini(n) for n in drawn]) / gini(exact) - 1),
                _rms(np.array([ess(np.log(n)) for n in drawn]) / ess(np.log(exact)) - 1),
            )
        )
    return found


def _norms(workload: Workload, size: int | None, seed: int) -> np.ndarray:
    prepare = ours.exact("") if size is None else ours.sketch(size, seed)
    norms = prepare(workload, copy.deepcopy(workload.model)).run()
    assert norms is not None
    return norms.double().cpu().numpy()


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
