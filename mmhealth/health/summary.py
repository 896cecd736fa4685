"""What was measured of a step before its rows were reduced, as a timeline asks for it."""

from collections.abc import Collection

from mmhealth.health.metrics import StepMetrics, with_bases
from mmhealth.health.needs import ALL
from mmhealth.health.step_intervals import Demand
from mmhealth.health.stepcache import metrics_from_json
from mmhealth.runlog.reduced import ReducedStep


def summarised_metrics(
    reduced: ReducedStep,
    text: str,
    demanded: Collection[Demand],
    wanted: Collection[str] | None,
    *,
    readings: bool = False,
) -> StepMetrics:
    """The metrics that are wanted, or all, the intervals that are demanded, and with ``readings``
    what a diagnosis reads.

    ``text`` is what `mmhealth.health.stepcache.metrics_to_json` made of all metrics. What it does
    not hold is unknown, since the rows are gone.
    """
    held = metrics_from_json(text)
    names: Collection[str] = ALL if wanted is None else with_bases(wanted, demanded)
    unknown = dict.fromkeys(sorted(set(names) - held.values.keys()))
    dropped = ALL.difference(names)
    return StepMetrics(
        {n: v for n, v in held.values.items() if n not in dropped} | unknown,
        {n: why for n, why in held.reasons.items() if n not in dropped}
        | dict.fromkeys(unknown, reduced.reason),
        {n: rows for n, rows in held.rows.items() if n not in dropped},
        held.updates if _OF_UPDATES.issubset(names) else [],
        held.sources if wanted is None else [],
        has_weights=held.has_weights,
        assumes_weights=held.assumes_weights,
        intervals={d: held.intervals.get(d, reduced.reason) for d in sorted(demanded)},
        reading=held.reading if readings else None,
    )


_OF_UPDATES = frozenset({"ess_weight", "ess_signal", "ess_contribution"})
