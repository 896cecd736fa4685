"""The horizon matrix across runs: one row a run and training regime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from mmhealth.estimators import HorizonMatrix
from mmhealth.health import Monitor
from mmhealth.health.heldout import SampledHorizons, final_horizons


@dataclass(frozen=True, slots=True)
class Horizons:
    """Final held-out evaluations of all runs, and what could not enter."""

    matrices: Mapping[str, HorizonMatrix]
    """By label of the run; runs without a measured cell are not in it."""
    left_out: tuple[str, ...]
    """In words: evaluations that are not in a matrix, and why."""

    @property
    def pooled(self) -> HorizonMatrix:
        """One matrix of all runs; runs of one training regime are added up."""
        return HorizonMatrix.from_rows(
            (cell.regime, cell.eval_horizon, cell.episodes, cell.successes)
            for matrix in self.matrices.values()
            for cell in matrix.cells
        )


def collect_horizons(runs: Sequence[tuple[str, Monitor]]) -> Horizons:
    """The matrix of each labelled run; see `mmhealth.health.heldout.final_horizons`."""
    matrices: dict[str, HorizonMatrix] = {}
    left_out: list[str] = []
    for label, monitor in runs:
        sampled = partial(SampledHorizons(monitor.run).up_to, monitor.timeline.frame)
        found = final_horizons(monitor.run.evaluations, sampled)
        if found.matrix.cells:
            matrices[label] = found.matrix
        left_out += [f"{label}, {reason}" for reason in found.left_out]
    return Horizons(matrices, tuple(left_out))
