"""Change of a mean, watched for without end: a Shiryaev-Roberts e-detector by betting.

Shin, Ramdas and Rinaldo (2023), "E-detectors: a nonparametric framework for sequential change
detection", arXiv:2203.03532. A value x, cut at ``bound``, pays y = (limit - x) / (bound - limit),
which is at least -1, and no more than 1. While the mean of the next value, given all before, is
never below ``limit``, E[1 + b y | past] <= 1 for every bet 0 <= b <= 1: nobody gains by betting on
a fall, and paying out less than was won only lowers the mean. With
R = (R before + 1) (1 + b y), averaged over a fixed grid of bets, R - t is a supermartingale (t
values taken in), and so is R + N / alpha - t when R starts anew at 0 only where it has reached
1 / alpha, where N counts how often it did. It does so, with an alarm, as soon as besides the mean
of some last values is at ``limit`` or below. Hence, under that hypothesis:

- for every stopping time T, the expected number of alarms up to T is at most alpha E[T], whenever
  and for whatever reason one stops or looks;
- no value makes the evidence R more than 2 (R + 1): a wild one raises no alarm unless R was at
  least 1 / (2 alpha) - 1 before;
- within n values the probability of any alarm is at most n alpha, and the mean run length up to
  the first alarm is at least 1 / alpha.

Values need be neither independent nor alike in distribution. What is not promised: that no alarm
ever comes in an endless run; how soon a real fall is seen; and anything about a process that
wanders slowly, for while its mean given the past lies below ``limit`` the hypothesis is false,
whatever its mean over all time.
"""

from dataclasses import dataclass, replace

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import finite

BETS = tuple(2.0**-k for k in range(7))
"""Bets, log-spaced from all to 1/64 of what can be lost; each has the weight 1/7. The best bet is
about the mean of y over its mean square."""


@dataclass(frozen=True, slots=True)
class EDetector:
    """Evidence that the mean of a stream has fallen below, or risen above, ``limit``.

    ``bound`` is the far side of what values can be, or a number fixed in advance at which those
    beyond are cut (the hypothesis is then about the cut values): above ``limit`` it makes the
    detector watch for a fall, below ``limit`` for a rise. Immutable: `after` returns the next one.
    """

    limit: float
    bound: float
    alpha: float
    """Bound on the expected false alarms a value, in (0, 1)."""
    wealth: tuple[float, ...] = (0.0,) * len(BETS)
    """R of each bet: the sum, over all values at which a change could have begun, of what one unit
    staked there has become. Before the last value below 7 / alpha, or where no last values won
    anything at most the number of values, so float64 holds it."""
    since: int = 0
    """Values since the evidence began: the last ones whose payoffs have the largest sum."""
    won: float = 0.0
    """That sum; below 0 only where no last values won anything together."""

    def __post_init__(self) -> None:
        finite([self.limit, self.bound], "limit and bound")
        if self.bound == self.limit:
            raise EstimatorInputError(f"bound: {self.bound} is the limit, nothing can be lost")
        if not 0.0 < self.alpha < 1.0:
            raise EstimatorInputError(f"alpha: {self.alpha} is not in (0, 1)")

    @property
    def evidence(self) -> float:
        """The mixture of R over all bets, at least 0."""
        return sum(self.wealth) / len(BETS)

    @property
    def alarm(self) -> bool:
        """Whether the evidence has reached 1 / alpha, and not by waiting only: some last values
        together lie at or beyond the limit. Then go on with `restarted`."""
        return self.evidence >= 1.0 / self.alpha and self.won >= 0.0

    def after(self, value: float) -> "EDetector":
        """The detector with one more value. Raises EstimatorInputError where it is not finite."""
        payoff = (self.limit - float(finite(value, "value"))) / (self.bound - self.limit)
        payoff = min(max(payoff, -1.0), 1.0)
        wealth = tuple(
            (before + 1.0) * (1.0 + bet * payoff)
            for before, bet in zip(self.wealth, BETS, strict=True)
        )
        since = self.since + 1 if self.won >= 0.0 else 1
        return replace(self, wealth=wealth, since=since, won=max(self.won, 0.0) + payoff)

    def restarted(self) -> "EDetector":
        """The same detector without any evidence."""
        return EDetector(self.limit, self.bound, self.alpha)
