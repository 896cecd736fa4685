"""What a step is measured by: one number each, out of the step's log."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mmhealth.estimators import ess, gini, signal_log_weights, top_share
from mmhealth.reference.steplog import StepLog

Array = npt.NDArray[Any]
TOP = 0.05
"""Share of the rows whose share of all gradient norms is ``top_share``."""


class Series:
    """Numbers of one run over its steps; None where a number is not known.

    ``ess_*`` are fractions of the rows they are taken over. *Signal* and *contribution* are those
    of a step's first update, *weight* that of its last: on fresh rollouts the first has no weights.
    ``ess_signal_update`` is of the rows in the update, with the weight that the loss multiplied.
    """

    def __init__(self) -> None:
        self.columns: dict[str, list[float | None]] = {"step": []}
        self.evaluations: list[dict[str, int]] = []

    def add(self, log: StepLog) -> None:
        """Measure a step."""
        values = measure(log)
        steps = len(self.columns["step"])
        for name in values.keys() - self.columns.keys():
            self.columns[name] = [None] * steps
        for name, column in self.columns.items():
            value = log.step if name == "step" else values.get(name)
            column.append(value if value is None else float(f"{value:.7g}"))
        self.evaluations += [
            {
                "step": log.step,
                "horizon": evaluation.horizon,
                "episodes": evaluation.episodes,
                "successes": evaluation.successes,
            }
            for evaluation in log.evaluations
        ]


def measure(log: StepLog) -> dict[str, float | None]:
    """The numbers of a step by name; those that its environment does not have are left out."""
    role = np.asarray(log.trajectories["role"])
    sampled, trained = role != "injected", role != "replaced"
    first = {name: np.asarray(values) for name, values in log.updates[0].items()}
    last = {name: np.asarray(values) for name, values in log.updates[-1].items()}
    signal = signal_log_weights(first["log_weight"], first["advantage"])
    multiplied = signal_log_weights(np.log(first["weight_used"]), first["advantage"])
    norms = first["grad_norm"][trained]
    logs = np.full(norms.shape, -np.inf)
    np.log(norms, out=logs, where=norms > 0)
    some = bool((norms > 0).any())
    values: dict[str, float | None] = {
        "ess_signal": _fraction(signal[sampled]),
        "ess_signal_update": _fraction(multiplied[trained]),
        "ess_weight": _fraction(last["log_weight"][sampled]),
        "ess_contribution": _fraction(logs),
        "gini": gini(norms) if some else None,
        "top_share": top_share(norms, TOP) if some else None,
        "decisions": float(_rows(log, "token_count", sampled).sum()),
    }
    for name, column in _MEANS.items():
        if column in log.trajectories:
            values[name] = _mean(_rows(log, column, sampled))
    values |= _behaviour(log, sampled)
    return values | {name: log.scalars[name] for name in _SCALARS}


_MEANS = {
    name: name
    for name in ("reward", "entropy", "strategic_entropy", "quality", "refused", "subagents")
} | {"sampled_success": "success", "needless_subagents": "needless"}
"""Name to column of the trajectories table: means over the sampled rows."""
_SCALARS = ("kl_coef", "active", "injected", "reserve_bytes")


def _behaviour(log: StepLog, sampled: Array) -> dict[str, float | None]:
    """Compliance: share of episodes without a violation. Retreat: serial or refused."""
    values: dict[str, float | None] = {}
    if "violated" in log.trajectories:
        violated = _mean(_rows(log, "violated", sampled))
        values["compliance"] = None if violated is None else 1 - violated
    if "serial" in log.trajectories:
        serial, refused = (_rows(log, name, sampled) for name in ("serial", "refused"))
        values["retreat"] = _mean(np.maximum(serial, refused))
    return values


def _rows(log: StepLog, column: str, chosen: Array) -> Array:
    """A column of the chosen rows as float64; null is NaN."""
    values = log.trajectories[column]
    numbers: Callable[..., Array] = np.asarray
    return numbers([np.nan if value is None else value for value in values], np.float64)[chosen]


def _mean(values: Array) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _fraction(log_weights: Array) -> float:
    """ESS as a fraction of the rows; 0 where no row has a weight."""
    return ess(log_weights) / len(log_weights)
