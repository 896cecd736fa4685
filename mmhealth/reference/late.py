"""Reward components that arrive steps after their episode, as ratings do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmhealth.reference.environment import Outcome


@dataclass(kw_only=True, slots=True)
class LateValues:
    """Values of one component, of one step, that became known; arrays are (rows,)."""

    component: str
    """Name of the reward component."""
    step: int
    """Step that sampled the episodes."""
    arrived: int
    """Step in which the values are known."""
    trajectory_id: npt.NDArray[np.int64]
    """Rows of that step."""
    values: npt.NDArray[np.float64]
    """The values."""
    ratings: npt.NDArray[np.float64]
    """(rows, raters) what the raters said; (rows, 0) where nothing is known of them."""
    confidence: npt.NDArray[np.float64]
    """(rows,) how sure they were; (0,) likewise."""


class LateRewards:
    """Keeps what has not arrived yet. Memory: a few numbers for each pending row."""

    def __init__(self) -> None:
        self._pending: list[LateValues] = []

    def known_now(self, outcome: Outcome) -> dict[str, Tensor]:
        """The components, with NaN where a value takes steps to arrive."""
        known = {}
        for name, values in outcome.rewards.items():
            delay = outcome.delay.get(name)
            known[name] = values if delay is None else values.masked_fill(delay > 0, torch.nan)
        return known

    def wait(self, step: int, outcome: Outcome) -> None:
        """Take note of what ``step`` leaves pending."""
        for name, delay in outcome.delay.items():
            ratings, confidence = outcome.ratings.get(name), outcome.confidence.get(name)
            for days in sorted(set(delay[delay > 0].tolist())):
                at = (delay == days).nonzero().flatten()
                self._pending.append(
                    LateValues(
                        component=name,
                        step=step,
                        arrived=step + days,
                        trajectory_id=at.numpy(),
                        values=outcome.rewards[name][at].double().numpy(),
                        ratings=_rows(ratings, at, (len(at), 0)),
                        confidence=_rows(confidence, at, (0,)),
                    )
                )

    def arrived(self, step: int) -> list[LateValues]:
        """What is known since ``step``; it is pending no longer."""
        here = [late for late in self._pending if late.arrived <= step]
        self._pending = [late for late in self._pending if late.arrived > step]
        return here

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        names = LateValues.__slots__
        return {
            "pending": [{name: getattr(late, name) for name in names} for late in self._pending]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave (arrays may have become tensors)."""
        self._pending = []
        for item in state["pending"]:
            values: dict[str, Any] = {
                name: np.asarray(value) if isinstance(value, Tensor) else value
                for name, value in item.items()
            }
            self._pending.append(LateValues(**values))


def _rows(values: Tensor | None, at: Tensor, empty: tuple[int, ...]) -> npt.NDArray[np.float64]:
    return np.zeros(empty) if values is None else values[at].double().numpy()
