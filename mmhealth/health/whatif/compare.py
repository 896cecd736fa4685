"""Options side by side over one step or the mean of several, ranked by what they gain."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mmhealth.errors import EstimatorInputError, RunError
from mmhealth.health.bases import Level, first_weighted, other_basis
from mmhealth.health.rows import Collector, Missing
from mmhealth.health.whatif.answer import Answer, Effect, WhatIf
from mmhealth.health.whatif.measure import METRICS, measure
from mmhealth.health.whatif.menu import standard_options
from mmhealth.health.whatif.option import KINDS, Kind, Limits, Option
from mmhealth.health.whatif.terms import StepTerms, step_terms
from mmhealth.runlog import Run

_LEAST_GAIN = 0.0005
"""Gain in an ESS, as a fraction of the rows, below which it is none."""


@dataclass(slots=True)
class _Gathered:
    """What the steps say of one option."""

    pairs: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    bounds: dict[str, list[Limits]] = field(default_factory=dict)
    kinds: list[Kind] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    missing: str | None = None
    steps: int = 0
    """Steps at which it has an answer, if only a bound."""


def what_if(run: Run, steps: Sequence[int], options: Sequence[Option] | None = None) -> WhatIf:
    """What options would have made of these steps, which are taken in order.

    Every step keeps the rollouts and parameters of the log. Steps whose rows are reduced are left
    out, which the notes say; of those alone nothing is known, for that reason. Raises RunError for
    a step that the run does not have, or for none.
    """
    if not steps:
        raise RunError(f"{run.path} has no complete step to look at")
    steps = sorted(set(steps))
    reduced = {item.key.step: item.reason for item in run.reduced_steps()}
    gone = {step: reduced[step] for step in steps if step in reduced}
    steps = [step for step in steps if step not in gone] or steps
    options = standard_options() if options is None else options
    logged, found = _Gathered(), [_Gathered() for _ in options]
    weighted_from = first_weighted(run)
    notes = dict.fromkeys(f"step {step}: {why}" for step, why in gone.items())
    rows, groups = 0, []
    for step in steps:
        terms = _terms(run, step, weighted_from)
        rows += len(terms.rows)
        notes |= dict.fromkeys(_notes(terms))
        before = measure(terms, terms.rows, len(terms.rows))
        _pair(logged, before, before)
        groups.append(terms.group_shares())
        for option, gathered in zip(options, found, strict=True):
            _ask(option, terms, before, gathered)
    if steps[0] in gone:
        for gathered in (logged, *found):
            gathered.missing = gone[steps[0]]
            gathered.reasons = dict.fromkeys(gathered.reasons, gathered.missing)
    ranked_by = "ess_contribution" if "ess_contribution" in logged.pairs else "ess_signal"
    answers = [_answer(*pair) for pair in zip(options, found, strict=True)]
    return WhatIf(
        steps=tuple(steps),
        rows=rows / len(steps),
        logged=_effects(logged),
        reasons=logged.reasons,
        answers=_ranked(answers, ranked_by),
        solved_groups=_mean_known([shares[0] for shares in groups]),
        failed_groups=_mean_known([shares[1] for shares in groups]),
        ranked_by=ranked_by,
        notes=tuple(notes),
    )


def _terms(run: Run, step: int, weighted_from: tuple[int, int] | None) -> StepTerms:
    data = run.require_step(step)
    level = Level(run.loss_ratio, data)
    assumes_weights = level.weighs and not level.has_weights
    why = other_basis(weighted_from, data.attempt, step) if assumes_weights else None
    return step_terms(data, run.loss_ratio, why)


def _notes(terms: StepTerms) -> list[str]:
    """What there is to say of a step whatever the option."""
    unfinished = [] if terms.data.complete else [f"step {terms.data.step} is not complete"]
    return [*unfinished, *terms.caveats()]


def _ask(option: Option, terms: StepTerms, before: Collector, gathered: _Gathered) -> None:
    """Put one step to an option."""
    try:
        change = option.change(terms)
    except (Missing, EstimatorInputError) as reason:
        gathered.missing = str(reason)
        return
    gathered.steps += 1
    gathered.notes |= dict.fromkeys(change.notes)
    for name, limits in change.bounds.items():
        gathered.bounds.setdefault(name, []).append(limits)
    if change.rows is None:
        return
    caveats = terms.caveats()
    gathered.kinds.append("estimate" if caveats else change.kind)
    gathered.notes |= dict.fromkeys(caveats)
    of = len(terms.rows) if change.of is None else change.of
    _pair(gathered, before, measure(terms, change.rows, of))


def _pair(gathered: _Gathered, before: Collector, after: Collector) -> None:
    for name in METRICS:
        old, new = before.values[name], after.values[name]
        if old is None or new is None:
            gathered.reasons[name] = before.reasons.get(name) or after.reasons[name]
        else:
            gathered.pairs.setdefault(name, []).append((old, new))


def _answer(option: Option, found: _Gathered) -> Answer:
    effects = _effects(found)
    bounds = {
        name: (_mean_limit([low for low, _ in pairs]), _mean_limit([high for _, high in pairs]))
        for name, pairs in found.bounds.items()
        if len(pairs) == found.steps
    }
    kind: Kind | None = max(found.kinds, key=KINDS.index, default=None)
    missing = None
    if not effects:
        kind = "bound" if bounds else None
        missing = found.missing or next(iter(found.reasons.values()), None)
    return Answer(
        name=option.name,
        title=option.title,
        kind=kind,
        missing=None if bounds else missing,
        assumption=option.assumption,
        price=option.price,
        notes=tuple(found.notes),
        effects=effects,
        reasons={name: why for name, why in found.reasons.items() if name not in effects},
        bounds=bounds,
        against=option.against,
    )


def _effects(found: _Gathered) -> dict[str, Effect]:
    return {
        name: Effect(_mean([old for old, _ in pairs]), _mean([new for _, new in pairs]), len(pairs))
        for name, pairs in found.pairs.items()
    }


def _ranked(answers: list[Answer], basis: str) -> list[Answer]:
    """The largest gain first; those without one after them, as they came."""
    gains = [
        answer
        for answer in answers
        if basis in answer.effects
        and answer.effects[basis].gain > _LEAST_GAIN
        and answer.against is None
    ]
    gains.sort(key=lambda answer: -answer.effects[basis].gain)
    first = [replace(answer, rank=place) for place, answer in enumerate(gains, 1)]
    others = [answer for answer in answers if answer not in gains]
    return first + others


def _mean(values: list[float]) -> float:
    return sum(sorted(values)) / len(values)


def _mean_limit(limits: list[float | None]) -> float | None:
    return None if None in limits else _mean_known(limits)


def _mean_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None
