"""One adaptive normalisation layer that watches ESS and variance structure together.

What Challapally (2026) would build today in place of the second and third intervention. The scale
of each advantage comes from `VarianceCorrection`; the signal ESS of what it leaves switches an
`EssAdaptive` control, without a monitor. The layer sees the estimator as it will be used: an ESS
that is low only because one source is loud is cured by the scale and raises no alarm.

Cost: two numbers a source; a few passes over the batch. Bias: that of `VarianceCorrection`; and
while it is active, that of the anchor and of replayed near misses. A solved task has a low signal
ESS too, and the layer has no way to tell: it then anchors a policy that has nothing to learn.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mmhealth.estimators import ess, signal_log_weights
from mmhealth.interventions.adaptive import EssAdaptive, EssAdaptiveConfig
from mmhealth.interventions.arrays import FloatArray, as_numpy, fraction, mask, vector
from mmhealth.interventions.variance import VarianceConfig, VarianceCorrection


@dataclass(kw_only=True, slots=True)
class UnifiedConfig:
    """When the layer acts, and how strongly."""

    variance: VarianceConfig = field(default_factory=VarianceConfig)
    """How advantages are scaled."""
    below: float = 0.2
    """Signal ESS, as a fraction of rows, below which a step is a breach."""
    recover: float = 0.25
    """Signal ESS from which it has recovered."""
    for_steps: int = 3
    """Breaches in a row that switch it on."""
    hold: int = 10
    """Steps at full strength after recovery."""
    half_life: float = 5.0
    """Steps in which the KL coefficient then halves, until 1 % is left; 0 = off at once."""
    kl_coef: float = 0.5
    """KL coefficient at full strength, in loss units per nat."""

    def __post_init__(self) -> None:
        fraction(self.below, "below")
        fraction(self.recover, "recover")
        if self.recover < self.below:
            raise ValueError(f"recover must be at least below: {self.recover} < {self.below}")
        if self.for_steps < 1:
            raise ValueError(f"for_steps must be at least 1, got {self.for_steps}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalised:
    """What the layer says of one step."""

    advantage: FloatArray
    """Advantages to train on, (rows,)."""
    ess_before: float
    """Signal ESS of the advantages as given, fraction of rows; 0 where all are 0."""
    ess_after: float
    """Signal ESS of those to train on: what the log's ``ess_signal`` will show."""
    active: bool
    """Whether the layer acts in this step."""
    kl_coef: float
    """Coefficient of the KL divergence to the sampling policy in this step's loss."""
    replay: bool
    """Whether to swap near misses into one-sided groups: active and not yet fading."""


@dataclass(frozen=True, slots=True)
class _Alert:
    rule: str
    state: str
    step: int
    resolved_step: int | None = None


class AdaptiveNormalisation:
    """Scales advantages, and says how strongly to anchor and whether to replay in this step."""

    def __init__(self, config: UnifiedConfig | None = None) -> None:
        self.config = config or UnifiedConfig()
        self.variance = VarianceCorrection(self.config.variance)
        self._control = EssAdaptive(
            EssAdaptiveConfig(
                hold=self.config.hold,
                kl_coef=self.config.kl_coef,
                half_life=self.config.half_life,
            )
        )
        self._step = 0
        self._breaches = 0
        self._fired: int | None = None

    def normalise(
        self,
        advantage: npt.ArrayLike,
        source: npt.ArrayLike,
        length: npt.ArrayLike,
        log_weight: npt.ArrayLike | None = None,
        *,
        observed: npt.ArrayLike | None = None,
    ) -> Normalised:
        """Take a step's rows into account and answer for this step; call it once a step.

        Args:
            advantage: (rows,).
            source: (rows,) labels.
            length: (rows,) tokens, above 0.
            log_weight: (rows,) raw log importance weights in nats; none = on policy.
            observed: (rows,) bool, the rows that sigma and both ESS are taken over; default all.
                Leave out rows from a reserve, so that the layer does not judge its own repair.

        For rows that come later and for further updates use ``variance.normalise`` with nothing
        observed. Raises ValueError as it does, for log weights of observed rows that are NaN or
        +inf, and where no row is observed.
        """
        values = vector(advantage, "advantage")
        learn = mask(observed, "observed", len(values))
        if not learn.any():
            raise ValueError("observed: no rows; leave out steps without any")
        logs = np.zeros_like(values) if log_weight is None else as_numpy(log_weight)
        if logs.shape != values.shape:
            raise ValueError(f"log_weight: shape {logs.shape} for {len(values)} rows")
        before = _signal_ess(logs[learn], values[learn])
        scaled = self.variance.normalise(values, source, length, observed=learn)
        after = _signal_ess(logs[learn], scaled[learn])
        self._watch(after)
        return Normalised(
            advantage=scaled,
            ess_before=before,
            ess_after=after,
            active=self.active,
            kl_coef=self.kl_coef,
            replay=self.replay,
        )

    @property
    def active(self) -> bool:
        """Whether the layer acts, as decided at the latest step; False before the first."""
        return self._control.active(self._step)

    @property
    def kl_coef(self) -> float:
        """Coefficient of the anchor, as decided at the latest step."""
        return self._control.kl_coef(self._step)

    @property
    def replay(self) -> bool:
        """Whether to replay near misses, as decided at the latest step."""
        return self.active and not self._control.fading(self._step)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: plain values only."""
        return {
            "variance": self.variance.state_dict(),
            "control": self._control.state_dict(),
            "step": self._step,
            "breaches": self._breaches,
            "fired": self._fired,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; the configuration stays that of construction."""
        self.variance.load_state_dict(state["variance"])
        self._control.load_state_dict(state["control"])
        self._step = int(state["step"])
        self._breaches = int(state["breaches"])
        self._fired = None if state["fired"] is None else int(state["fired"])

    def _watch(self, share: float) -> None:
        """Begin a step, fire and resolve; an alert dated one step back acts in the present one."""
        self._step += 1
        rule, before = self._control.config.rule, self._step - 1
        self._breaches = self._breaches + 1 if share < self.config.below else 0
        if self._fired is None and self._breaches >= self.config.for_steps:
            self._fired = before
            self._control.on_alert(_Alert(rule, "firing", before))
        elif self._fired is not None and share >= self.config.recover:
            self._control.on_alert(_Alert(rule, "resolved", self._fired, before))
            self._fired = None


def _signal_ess(logs: npt.NDArray[Any], advantage: FloatArray) -> float:
    return ess(signal_log_weights(logs, advantage)) / len(advantage)
