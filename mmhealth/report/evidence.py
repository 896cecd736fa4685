"""Blame and what-if at the steps that matter: where the leading alert fired, and the last judged.

Two steps at most, so that it costs as little for a long run as for a short one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mmhealth.health import Alert, Monitor
from mmhealth.health.alerts import SEVERITIES
from mmhealth.health.bases import BASES, Basis
from mmhealth.health.blame import Blame, Slice, blame
from mmhealth.health.pairs import RULED_OUT
from mmhealth.health.whatif import WhatIf, what_if

STANDS_OUT = 0.1
"""Blame from which on a slice that is not chance is worth a sentence."""
_BASIS_OF: dict[str, Basis] = {
    "gini_grad_norm": "contribution",
    "top5_share": "contribution",
    "weight_khat": "weight",
}


@dataclass(frozen=True, slots=True)
class StepEvidence:
    """Who is to blame at a step, and what would have helped there."""

    step: int
    occasion: str
    """Why this step is looked at."""
    blame: Blame
    what_if: WhatIf

    @property
    def culprits(self) -> list[Slice]:
        """Slices that stand out and that chance does not explain, the most to blame first.

        Only those without which the ESS, as a fraction of the rows left, would be higher.
        """
        now = None if self.blame.whole is None else self.blame.whole.ess_fraction
        return [
            item
            for item in self.blame.slices
            if item.blame >= STANDS_OUT and item.chance <= RULED_OUT
            if now is not None and (item.without.ess_fraction or 0.0) > now
        ]


def leading_alert(alerts: Sequence[Alert]) -> Alert | None:
    """The alert a report begins with; None where there is nothing to lead with.

    Of those that fire (and are no mere info) the gravest, of equal ones the first; where none
    fires, the first critical one that has resolved.
    """
    firing = [alert for alert in alerts if alert.state == "firing" and alert.severity != "info"]
    resolved = [a for a in alerts if a.state == "resolved" and a.severity == "critical"]
    return min(
        firing or resolved,
        key=lambda alert: (-SEVERITIES.index(alert.severity), alert.step),
        default=None,
    )


def basis_of(metric: str) -> Basis | None:
    """The basis that a metric is of; None for one that blame and what-if say nothing about."""
    for basis in BASES:
        if metric.startswith(f"ess_{basis}"):
            return basis
    return _BASIS_OF.get(metric)


def gather_evidence(monitor: Monitor) -> tuple[StepEvidence, ...]:
    """Blame and what-if of a run as far as it is judged, in order of steps.

    Blame is on the basis of the leading alert's metric at both steps; where it has none, on the
    first that is known.
    """
    frame = monitor.timeline.frame
    if frame.is_empty():
        return ()
    leading = leading_alert(monitor.alerts)
    occasions: dict[int, list[str]] = {}
    if leading is not None:
        occasions[leading.step] = [f"{leading.rule} fired"]
    occasions.setdefault(int(frame["step"][-1]), []).append("last judged")
    basis = None if leading is None else basis_of(leading.metric)
    run = monitor.run
    return tuple(
        StepEvidence(
            step, ", ".join(why), blame(run, [step], basis=basis, pairs=False), what_if(run, [step])
        )
        for step, why in sorted(occasions.items())
        if run.step_data(step) is not None
    )
