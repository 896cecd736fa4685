"""Reward signals are introduced in the order of their measured reliability.

The open problem of Challapally (2026), "automating the split by reward variance and confidence
signals", solved in the plainest way: the reliability of a batch of a signal is the agreement of
its raters (ICC(1), see `agreement`) times their mean confidence, whichever of the two is known,
smoothed over batches. With one verifiable signal and one preference that is ready at step w the
weights are those of `StagedObjectives` with its warmup ending at w.

Cost: a few numbers a signal; one pass over each batch of ratings. Bias: reliability is not
validity. Raters who agree on the wrong thing, or a judge that is sure of itself, pass.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmhealth.interventions.agreement import intraclass_correlation
from mmhealth.interventions.arrays import FloatArray, as_numpy, fraction, not_negative, vector
from mmhealth.interventions.composition import compose


@dataclass(kw_only=True, slots=True)
class ReliabilityConfig:
    """When a signal is trusted."""

    ready: float = 0.6
    """Smoothed reliability from which a signal may enter."""
    ramp_steps: int = 20
    """Steps over which it then enters linearly; 0 = at once."""
    decay: float = 0.9
    """Weight of the past in the mean over batches, each informative batch counting as one."""
    min_ratings: int = 32
    """Ratings (of rows rated at least twice) or confidences that a batch needs to say anything."""
    min_batches: int = 3
    """Informative batches before a signal may enter."""
    drop: float = 0.0
    """Reliability below which a signal that is in is withdrawn again; 0 = never."""
    drop_batches: int = 10
    """Informative batches in a row that must lie below ``drop``."""

    def __post_init__(self) -> None:
        fraction(self.ready, "ready")
        not_negative(self.ramp_steps, "ramp_steps")
        fraction(self.decay, "decay", below_one=True)
        fraction(self.drop, "drop")
        if self.drop > self.ready:
            raise ValueError(f"drop must not exceed ready, got {self.drop} and {self.ready}")


@dataclass(slots=True)
class _Measured:
    mean: float | None = None
    batches: int = 0
    low: int = 0


class ReliabilitySchedule:
    """Weights of reward signals that enter one after another, the most reliable first.

    A signal enters in the step after its reliability became ``ready``, or once those before it are
    in with full weight. While it ramps, the weights go linearly from the final weights of the
    signals that are in, normalised, to those with it. The first takes full weight at once. Until
    then every weight is 0 and `compose` gives NaN: declare a signal ``verifiable`` (deterministic:
    reliability 1, in from step 0), or observe rollouts before training.

    Args:
        signals: final weight of each signal, above 0; only their ratios matter.
        config: when a signal is trusted.
        verifiable: names of the signals that need no measuring.

    Raises ValueError for weights that are not above 0 and for names that are not signals.
    """

    def __init__(
        self,
        signals: Mapping[str, float],
        config: ReliabilityConfig | None = None,
        *,
        verifiable: Collection[str] = (),
    ) -> None:
        if not signals or not all(0 < weight < np.inf for weight in signals.values()):
            raise ValueError(f"signals: expected weights above 0, got {dict(signals)}")
        self.signals = dict(signals)
        self.config = config or ReliabilityConfig()
        self._verifiable = frozenset(self._known(name) for name in verifiable)
        self._measured = {name: _Measured() for name in signals if name not in self._verifiable}
        self._entered = {name: (0, 0) for name in signals if name in self._verifiable}
        self._clock = -1

    def observe(
        self,
        step: int,
        name: str,
        ratings: npt.ArrayLike | None = None,
        confidence: npt.ArrayLike | None = None,
    ) -> None:
        """Take note of a batch of a signal, whenever it arrives and whatever rows it is about.

        Args:
            step: now, or when the rows were sampled; -1 before training. What is observed changes
                weights after the latest step told, never before.
            name: the signal.
            ratings: (rows, raters), NaN where a rating has not arrived.
            confidence: (rows,) in [0, 1], NaN where unknown.

        A batch with too few ratings or confidences, or whose ratings are all equal, changes
        nothing. A negative agreement counts as 0. Raises ValueError for an unknown or verifiable
        name, when neither is given, and for values out of range.
        """
        if self._known(name) in self._verifiable:
            raise ValueError(f"name: {name!r} is declared verifiable; there is nothing to measure")
        reliability = self._reliability_of(ratings, confidence)
        self._entered = {
            n: t for n, t in self._plan().items() if t[0] <= step or n in self._entered
        }
        self._clock = max(self._clock, step)
        if reliability is None:
            return
        signal, decay = self._measured[name], self.config.decay
        past = reliability if signal.mean is None else signal.mean
        signal.mean = decay * past + (1 - decay) * reliability
        signal.batches += 1
        signal.low = signal.low + 1 if signal.mean < self.config.drop else 0
        if signal.low >= self.config.drop_batches:
            self._entered.pop(name, None)

    def weights(self, step: int) -> dict[str, float]:
        """Weights at ``step``, summing to 1, or all 0 while no signal is in."""
        begun = {name: times for name, times in self._plan().items() if times[0] <= step}
        ramping = [name for name, (_, full) in begun.items() if full > step]
        settled = [name for name in begun if name not in ramping]
        if not settled:
            return self._shares(ramping)
        weights = self._shares(settled)
        for name in ramping:
            start, full = begun[name]
            done = (step - start) / (full - start)
            target = self._shares([*settled, name])
            weights = {n: (1 - done) * weights[n] + done * target[n] for n in weights}
        return weights

    def compose(self, step: int, components: Mapping[str, npt.ArrayLike]) -> FloatArray:
        """Reward (rows,) of the components (rows,); NaN = pending, see `composition.compose`."""
        return compose(self.weights(step), components)

    def reliability(self, name: str) -> float | None:
        """Smoothed reliability in [0, 1]; None while nothing is known of it."""
        return 1.0 if self._known(name) in self._verifiable else self._measured[name].mean

    def introduced(self, name: str) -> int | None:
        """Step at which the signal enters or entered, as far as is known now; None: not yet."""
        times = self._plan().get(self._known(name))
        return None if times is None else times[0]

    def floor_active(self, step: int) -> bool:
        """Whether the entropy floor belongs to this step: until all signals are fully in."""
        plan = self._plan()
        return any(name not in plan or plan[name][1] > step for name in self.signals)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: plain values only."""
        measured = {n: [s.mean, s.batches, s.low] for n, s in self._measured.items()}
        entered = {name: list(times) for name, times in self._entered.items()}
        return {"clock": self._clock, "measured": measured, "entered": entered}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; signals and configuration stay those of construction."""
        self._clock = int(state["clock"])
        for name, (mean, batches, low) in state["measured"].items():
            self._measured[name] = _Measured(mean, int(batches), int(low))
        self._entered = {name: (int(a), int(b)) for name, (a, b) in state["entered"].items()}

    def _plan(self) -> dict[str, tuple[int, int]]:
        """When each signal enters and has its full weight, as far as is known now."""
        plan = dict(self._entered)
        ready = {n: s.mean for n, s in self._measured.items() if n not in plan and self._ready(s)}
        for name in sorted(ready, key=lambda n: -(ready[n] or 0.0)):
            start = max([self._clock + 1, *(full for _, full in plan.values())])
            plan[name] = (start, start + (self.config.ramp_steps if plan else 0))
        return plan

    def _ready(self, signal: _Measured) -> bool:
        enough = signal.batches >= self.config.min_batches
        return enough and signal.mean is not None and signal.mean >= self.config.ready

    def _shares(self, names: list[str]) -> dict[str, float]:
        total = sum(self.signals[name] for name in names)
        return {n: w / total if n in names else 0.0 for n, w in self.signals.items()}

    def _known(self, name: str) -> str:
        if name not in self.signals:
            raise ValueError(f"name: {name!r} is no signal; known: {sorted(self.signals)}")
        return name

    def _reliability_of(
        self, ratings: npt.ArrayLike | None, confidence: npt.ArrayLike | None
    ) -> float | None:
        if ratings is None and confidence is None:
            raise ValueError("ratings, confidence: give at least one of them")
        reliability = 1.0
        if confidence is not None:
            known = vector(confidence, "confidence", pending=True)
            known = known[~np.isnan(known)]
            if (known < 0).any() or (known > 1).any():
                raise ValueError("confidence: values outside [0, 1]")
            if len(known) < max(self.config.min_ratings, 1):
                return None
            reliability *= float(known.mean())
        if ratings is not None:
            agreement = intraclass_correlation(ratings)
            given = (~np.isnan(as_numpy(ratings).astype(np.float64))).sum(1)
            if agreement is None or given[given >= 2].sum() < self.config.min_ratings:
                return None
            reliability *= max(agreement, 0.0)
        return reliability
