"""ESS-adaptive control: alerts in, a temporary KL coefficient out.

After Challapally, *Engineering and algorithmic interventions for multimodal post-training at
Microsoft scale* (2026): when the effective sample size falls below a fifth of the batch, restore
contrast with near misses and slow the policy down until the estimator has recovered. Cost: none to
speak of. Bias: while it is active the policy is pulled towards the one it is anchored to.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

from mmhealth.interventions.arrays import not_negative

_FADED = 0.01
"""Share of the coefficient below which a decaying intervention ends."""


class AlertLike(Protocol):
    """What the controller reads of an alert."""

    @property
    def rule(self) -> str:
        """Name of the rule."""

    @property
    def state(self) -> str:
        """``firing``, ``resolved`` or ``superseded`` (hidden by a restart or taken back)."""

    @property
    def step(self) -> int:
        """Step at which it fired."""

    @property
    def resolved_step(self) -> int | None:
        """Step at which it resolved; None while it fires."""


@dataclass(kw_only=True, slots=True)
class EssAdaptiveConfig:
    """When the intervention acts, and how strongly."""

    rule: str = "ess_signal"
    """Rule whose alerts switch it on and off."""
    hold: int = 10
    """Steps it stays active after the alert has resolved (hysteresis)."""
    kl_coef: float = 0.5
    """KL coefficient while it is active, in loss units per nat."""
    half_life: float = 0.0
    """Steps in which the coefficient halves after the hold, until 1 % is left; 0 = off at once."""

    def __post_init__(self) -> None:
        not_negative(self.half_life, "half_life")


class EssAdaptive:
    """Active from the step after its alert fires until ``hold`` steps after the alert resolves.

    With a ``half_life`` the coefficient then decays, and an alert that fires meanwhile brings it
    back to its full value in the step after.

    ``monitor.subscribe(controller.on_alert)`` connects it. A change that is not newer than the last
    one seen is ignored, so a monitor that replays a run after a restart changes nothing. When the
    alert that switched it on is superseded it switches off at once.
    """

    def __init__(self, config: EssAdaptiveConfig | None = None) -> None:
        self.config = config or EssAdaptiveConfig()
        self._firing = False
        self._changed: int | None = None

    def on_alert(self, alert: AlertLike) -> None:
        """Take note of an alert; those of other rules are ignored."""
        if alert.rule != self.config.rule:
            return
        if alert.state == "superseded":
            if self._firing and alert.step == self._changed:
                self._firing, self._changed = False, None
            return
        firing = alert.state == "firing"
        at = alert.step if firing or alert.resolved_step is None else alert.resolved_step
        if self._changed is not None and at <= self._changed:
            return
        self._firing, self._changed = firing, at

    def active(self, step: int) -> bool:
        """Whether the intervention acts in ``step``."""
        return self._strength(step) > 0

    def fading(self, step: int) -> bool:
        """Whether it acts in ``step`` with a coefficient that has begun to decay."""
        return 0 < self._strength(step) < 1

    def kl_coef(self, step: int) -> float:
        """KL coefficient of ``step``: 0 while inactive."""
        return self.config.kl_coef * self._strength(step)

    def state_dict(self) -> dict[str, object]:
        """State for a checkpoint: plain values only."""
        return {"firing": self._firing, "changed": self._changed, "config": asdict(self.config)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restore what `state_dict` gave; the configuration stays the one given at construction."""
        changed = state["changed"]
        self._firing = bool(state["firing"])
        self._changed = changed if isinstance(changed, int) else None

    def _strength(self, step: int) -> float:
        """Share of the full coefficient at ``step``."""
        if self._changed is None or step <= self._changed:
            return 0.0
        late = step - self._changed - self.config.hold
        if self._firing or late <= 0:
            return 1.0
        left = 0.5 ** (late / self.config.half_life) if self.config.half_life else 0.0
        return left if left >= _FADED else 0.0
