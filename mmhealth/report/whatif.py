"""What-if answers as JSON and on a terminal."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmhealth._version import __version__
from mmhealth.health.whatif import METRICS, Answer, WhatIf
from mmhealth.report.indent import indent
from mmhealth.runlog import Run

SCHEMA = 1
"""Raised when a key is removed or changes its meaning; new keys may come at any time."""

_HEADS = {
    "ess_contribution": "contrib",
    "ess_signal": "signal",
    "ess_weight": "weight",
    "gini_grad_norm": "Gini",
    "top5_share": "top 5%",
}
_UNIT = {
    "ess_contribution": "contribution ESS",
    "ess_signal": "signal ESS",
    "ess_weight": "weight ESS",
}


def whatif_as_dict(result: WhatIf, run: Run) -> dict[str, Any]:
    """Answers as plain data; what is not known is not there, with its reason beside it."""
    return {
        "schema": SCHEMA,
        "mmhealth": __version__,
        "run": {"name": run.name, "id": run.id, "path": str(run.path)},
        "loss_ratio": run.loss_ratio,
        "grad_norm": run.about.get("grad_norm") or None,
        "steps": list(result.steps),
        "rows": result.rows,
        "ranked_by": result.ranked_by,
        "logged": {
            name: {"value": effect.logged, "steps": effect.steps}
            for name, effect in result.logged.items()
        },
        "reasons": result.reasons,
        "solved_groups": result.solved_groups,
        "failed_groups": result.failed_groups,
        "notes": list(result.notes),
        "options": [answer_as_dict(answer) for answer in result.answers],
    }


def print_whatif(result: WhatIf, run: Run, console: Console) -> None:
    """Print the answers; plain text where the console is not a terminal."""
    first, last = result.steps[0], result.steps[-1]
    steps = (
        f"step {first}" if first == last else f"mean of {len(result.steps)} steps, {first}-{last}"
    )
    console.print(
        Text.assemble((run.name, "bold"), f"  {steps}, {result.rows:g} rows in an update")
    )
    console.print(indent(describe_best(result)))
    console.print()
    console.print(_table(result))
    silent = [answer for answer in result.answers if not answer.effects]
    if silent:
        console.print(Text("\nNo number", style="bold"))
        for answer in silent:
            console.print(indent(f"{answer.title}: {describe_silence(answer)}"))
    unknown = {name: why for name, why in result.reasons.items() if name not in result.logged}
    for name, why in unknown.items():
        console.print(indent(f"{name}: insufficient data: {why}"))
    console.print(Text("\nGrounds", style="bold"))
    for line in describe_grounds(result):
        console.print(indent(line))


def describe_best(result: WhatIf) -> str:
    """The answer to which option gains most, in a sentence."""
    unit = _UNIT[result.ranked_by]
    why = ""
    if result.ranked_by != "ess_contribution":
        reason = result.reasons.get("ess_contribution", "not known")
        why = f" (contribution: insufficient data: {reason})"
    best = result.answers[0] if result.answers and result.answers[0].rank else None
    if best is None:
        known = any(result.ranked_by in answer.effects for answer in result.answers)
        return (f"nothing here raises the {unit}" if known else "insufficient data") + why
    effect = best.effects[result.ranked_by]
    return (
        f"largest gain in {unit}: {best.title}, {effect.logged:.1%} to {effect.then:.1%} "
        f"({best.kind}){why}"
    )


def _table(result: WhatIf) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("ESS, Gini and share would be", no_wrap=True)
    for metric in METRICS:
        table.add_column(_HEADS[metric], justify="right", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    now = {name: effect.logged for name, effect in result.logged.items()}
    table.add_row("", "as logged", *_cells(now), "")
    for answer in result.answers:
        if answer.effects:
            values = {name: effect.then for name, effect in answer.effects.items()}
            rank = str(answer.rank or "")
            table.add_row(rank, answer.title, *_cells(values), str(answer.kind))
    return table


def _cells(values: dict[str, float]) -> Iterable[str]:
    for metric in METRICS:
        if metric not in values:
            yield "-"
        elif metric == "gini_grad_norm":
            yield f"{values[metric]:.3f}"
        else:
            yield f"{values[metric]:.1%}"


def describe_silence(answer: Answer) -> str:
    """Why there is no number, or the bounds that are known instead."""
    if not answer.bounds:
        return f"insufficient data: {answer.missing}"
    limits = "; ".join(f"{_UNIT[name]} {_limits(*pair)}" for name, pair in answer.bounds.items())
    return f"{limits} (bound): {'; '.join(answer.notes)}"


def _bounds(answer: Answer) -> list[str]:
    return [f"{_UNIT[name]} {_limits(*pair)}" for name, pair in answer.bounds.items()]


def _limits(low: float | None, high: float | None) -> str:
    """Limits in words; they hold as long as all other rows are as logged."""
    least = "" if low is None else f"at least {low:.1%}"
    most = "" if high is None else f"at most {high:.1%}"
    return " and ".join(filter(None, (least, most)))


def describe_grounds(result: WhatIf) -> Iterable[str]:
    """In sentences what every number rests on, and those of the ranked options on top of it."""
    yield (
        "ESS are fractions of the rows of the update as logged. Rollouts and parameters are those "
        "of the log: nothing is said of the steps that would have followed."
    )
    if result.solved_groups is not None and result.failed_groups is not None:
        shares = f"{result.solved_groups:.0%} of the groups are solved"
        shares = f"{shares}, {result.failed_groups:.0%} failed."
        why = " With binary rewards solved ones have nothing left to contribute."
        yield shares + (why if result.solved_groups else "")
    yield from (f"{note[0].upper()}{note[1:]}." for note in result.notes)
    for answer in result.answers:
        steps = max((effect.steps for effect in answer.effects.values()), default=0)
        if 0 < steps < len(result.steps):
            yield f"{answer.title}: known at {steps} of {len(result.steps)} steps."
    alike: dict[tuple[str, ...], list[Answer]] = {}
    for answer in result.answers:
        if answer.rank or (answer.against and answer.effects):
            own = [note for note in answer.notes if note not in result.notes]
            against = f"Not ranked: {answer.against}." if answer.against else ""
            grounds = f"({answer.kind}): {'; '.join([answer.assumption, *own])}."
            alike.setdefault((grounds, f"Price: {answer.price}.", against), []).append(answer)
    for sentences, answers in alike.items():
        titles = "; ".join(answer.title for answer in answers)
        yield " ".join([titles, *filter(None, sentences)])
        yield from (f"  {answer.title}: {limit}" for answer in answers for limit in _bounds(answer))


def answer_as_dict(answer: Answer) -> dict[str, Any]:
    """One option as plain data."""
    effects = {
        name: {**asdict(effect), "gain": effect.gain} for name, effect in answer.effects.items()
    }
    bounds = {name: {"low": low, "high": high} for name, (low, high) in answer.bounds.items()}
    return {
        "name": answer.name,
        "title": answer.title,
        "rank": answer.rank,
        "kind": answer.kind or "insufficient data",
        "missing": answer.missing,
        "assumption": answer.assumption,
        "notes": list(answer.notes),
        "price": answer.price,
        "against": answer.against,
        "metrics": effects,
        "reasons": answer.reasons,
        "bounds": bounds,
    }
