"""What a drift rule remembers of the values it judged: the baseline, and evidence of a change."""

from dataclasses import dataclass, replace

from mmhealth.estimators import EDetector

_HUGE = 1e100


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """State of a drift rule, a pure fold over its values: `after` returns the next one.

    Values are weighed in units of the baseline and cut on the good side: at the furthest of the
    first values, or as far beyond a reference as the limit is on the other side of it. One that
    lies further on the bad side of the limit than that counts as one that lies as far. An alarm
    starts the evidence anew and lasts until the mean of the ``window`` values after it is back at
    ``recover``; meanwhile nothing is weighed. So the bound of `EDetector` on the expected number of
    alarms is one on alerts, too.
    """

    fraction: float
    """The limit in units of the baseline: below 1 a fall is watched for, above 1 a rise."""
    recover: float
    alpha: float
    window: int
    baseline_steps: int
    first: tuple[float, ...] = ()
    """Values until there are ``baseline_steps``; their mean is the baseline."""
    detector: EDetector | None = None
    recent: tuple[tuple[float, float], ...] = ()
    """The last ``window`` values that were weighed, each with its baseline."""
    drifted: int = 0
    """Values since the alarm, itself included; 0 while there is none."""
    begun: tuple[int, float, float] = (0, 0.0, 0.0)
    """Values since the evidence began (`EDetector.since`), up to the alarm: how many, their sum in
    units of the baseline and cut on the good side only, and the sum of their baselines."""

    def after(self, value: float, reference: float | None = None) -> "Drift":
        """With one more value, held against a reference of this step where one is given."""
        if reference is not None:
            detector = self.detector or self._detector(max(2.0 - self.fraction, 0.0))
            return replace(self, detector=detector)._weigh(value, reference)
        if self.detector is not None:
            return self._weigh(value, self._mean_of_first())
        if len(self.first) == self.baseline_steps:
            return self
        learned = replace(self, first=(*self.first, value))
        if len(learned.first) < self.baseline_steps or (mean := learned._mean_of_first()) <= 0.0:
            return learned
        furthest = (max if self.fraction < 1.0 else min)(learned.first)
        return replace(learned, detector=self._detector(furthest / mean))

    def limit_at(self, reference: float | None = None) -> float | None:
        """What the next value is held against; None while there is no baseline."""
        if reference is None and self.detector is None:
            return None
        return self.fraction * (self._mean_of_first() if reference is None else reference)

    def excused(self) -> "Drift":
        """With a step that another cause explains: it ends an alarm, and is no evidence."""
        return self.anew() if self.drifted else self

    def anew(self) -> "Drift":
        """Without alarm and evidence; the baseline stays."""
        detector = None if self.detector is None else self.detector.restarted()
        return replace(self, detector=detector, drifted=0)

    @property
    def mean(self) -> float | None:
        """What is stated, in the unit of the metric; None when no value was weighed.

        After an alarm the mean since the evidence began, which lies on the bad side; once there are
        ``window`` values after it, and while there is none, the mean of the recent values.
        """
        return self._stated()[0] if self.recent else None

    @property
    def limit(self) -> float | None:
        """What `mean` is held against."""
        return self.fraction * self._stated()[1] if self.recent else None

    def _weigh(self, value: float, baseline: float) -> "Drift":
        assert self.detector is not None
        recent = (*self.recent, (value, baseline))[-self.window :]
        weighed = replace(self, recent=recent)
        if self.drifted:
            back = self.drifted >= self.window and weighed._is_back()
            return replace(weighed, drifted=0 if back else self.drifted + 1)
        held = min(max(value / baseline, -_HUGE), _HUGE)
        detector = self.detector.after(held)
        cut = (min if self.fraction < 1.0 else max)(held, detector.bound)
        _, values, baselines = self.begun if detector.since > 1 else (0, 0.0, 0.0)
        weighed = replace(weighed, begun=(detector.since, values + cut, baselines + baseline))
        if not detector.alarm:
            return replace(weighed, detector=detector)
        return replace(weighed, detector=detector.restarted(), drifted=1)

    def _is_back(self) -> bool:
        mean, baseline = self._of_recent()
        sign = 1.0 if self.fraction < 1.0 else -1.0
        return sign * mean >= sign * self.recover * baseline

    def _stated(self) -> tuple[float, float]:
        """The mean that is stated, and that of its baselines."""
        if not 0 < self.drifted <= self.window:
            return self._of_recent()
        count, values, baselines = self.begun
        return values / count * baselines / count, baselines / count

    def _of_recent(self) -> tuple[float, float]:
        values, baselines = zip(*self.recent, strict=True)
        return sum(values) / len(values), sum(baselines) / len(baselines)

    def _mean_of_first(self) -> float:
        return sum(self.first) / len(self.first)

    def _detector(self, bound: float) -> EDetector:
        return EDetector(limit=self.fraction, bound=bound, alpha=self.alpha)
