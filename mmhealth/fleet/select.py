"""Which runs of a fleet are shown, and in which order."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from mmhealth.errors import SelectionError
from mmhealth.fleet.summary import VERDICTS, RunSummary

_CONDITION = re.compile(
    r"(?P<key>[^=!<>]+?)\s*(?P<sign><=|>=|!=|==?|<|>)\s*(?P<value>.*)", re.DOTALL
)

FIELDS: dict[str, Callable[[RunSummary], Any]] = {
    "verdict": lambda run: run.verdict,
    "name": lambda run: run.name,
    "path": lambda run: run.path,
    "state": lambda run: run.state,
    "rule": lambda run: run.worst and run.worst.rule,
    "metric": lambda run: run.worst and run.worst.metric,
    "value": lambda run: run.worst and run.worst.value,
    "headroom": lambda run: run.worst and run.worst.headroom,
    "trend": lambda run: run.worst and run.worst.trend,
    "crossing": lambda run: run.forecast and run.forecast.steps,
    "mode": lambda run: ", ".join(run.failure_modes) or None,
    "alerts": lambda run: len(run.firing),
    "since": lambda run: min((alert.step for alert in run.firing), default=None),
    "lead": lambda run: run.lead and run.lead.steps,
    "step": lambda run: run.step,
    "commit": lambda run: run.last_commit,
}
"""What a run can be filtered and sorted by, beside its configuration."""

_SIGNS = "=, !=, <, <=, > and >="


@dataclass(frozen=True, slots=True)
class Condition:
    """A filter such as ``verdict=critical,warning``, ``optimizer.lr>=1e-5`` or a word."""

    key: str
    """Empty for a word, which is looked for in `run_text`."""
    sign: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Take a filter apart. Raises SelectionError where there is no value, or no number."""
        match = _CONDITION.fullmatch(text.strip())
        if match is None:
            return cls("", "", (text.strip().lower(),))
        values = tuple(value.strip() for value in match["value"].split(","))
        if not all(values):
            raise SelectionError(
                f"{text!r} has no value: write KEY=VALUE, such as verdict=critical"
            )
        sign = "=" if match["sign"] == "==" else match["sign"]
        if odd := next((value for value in values if value[0] in "=<>"), None):
            raise SelectionError(f"{text!r}: no value begins with {odd[0]!r}; signs are {_SIGNS}")
        if sign not in ("=", "!="):
            for value in values:
                _need_number(value, sign)
        return cls(match["key"].strip(), sign, values)

    def holds(self, value: Any) -> bool:
        """Whether a run's value meets it; what is not known meets only ``!=``."""
        if self.sign in ("=", "!="):
            return any(_equal(value, wanted) for wanted in self.values) == (self.sign == "=")
        return any(_compare(value, self.sign, wanted) for wanted in self.values)


def select_runs(
    runs: Iterable[RunSummary],
    conditions: Sequence[str],
    sort: str = "verdict",
    *,
    reverse: bool = False,
) -> list[RunSummary]:
    """Runs that meet all conditions, sorted; what is not known comes last either way.

    ``sort`` is a key of `FIELDS` or of the configuration; ``verdict`` puts the gravest first, and
    among equals the least headroom. Raises SelectionError for a key that no run knows.
    """
    present = list(runs)
    kept = meeting(present, map(Condition.parse, conditions))
    if sort == "verdict" or not kept:
        return sorted(kept, key=gravity, reverse=reverse)
    get = getter(sort, present)
    known = [run for run in sorted(kept, key=gravity) if _is_known(get(run))]
    unknown = [run for run in sorted(kept, key=gravity) if not _is_known(get(run))]
    return sorted(known, key=lambda run: _order(get(run)), reverse=reverse) + unknown


def meeting(runs: Sequence[RunSummary], conditions: Iterable[Condition]) -> list[RunSummary]:
    """Runs that meet all conditions. Raises SelectionError for a key that no run knows."""
    kept = list(runs)
    for condition in conditions:
        if condition.key:
            get = getter(condition.key, runs)
            kept = [run for run in kept if condition.holds(get(run))]
        else:
            kept = [run for run in kept if condition.values[0] in run_text(run)]
    return kept


def gravity(run: RunSummary) -> tuple[int, bool, float, str]:
    """Sorts the gravest first: by verdict, by whether the worst metric fires, by headroom."""
    worst = run.worst
    if worst is None:
        return VERDICTS.index(run.verdict), True, float("inf"), run.label
    return VERDICTS.index(run.verdict), not worst.firing, worst.headroom, run.label


def run_text(run: RunSummary) -> str:
    """What words are looked for in: label, verdict, reason, failure modes, settings; lower case."""
    pairs = (f"{key}={value}" for key, value in run.config.items())
    return " ".join((run.label, run.verdict, run.why, *run.failure_modes, *pairs)).lower()


def varied_settings(runs: Sequence[RunSummary]) -> list[str]:
    """Keys of the configuration in which readable runs differ: what a sweep is over."""
    configs = [run.config for run in runs if run.verdict != "unreadable"]
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]


def getter(key: str, runs: Sequence[RunSummary]) -> Callable[[RunSummary], Any]:
    """The value of a key: a field, a setting, or a setting by the last part of its name.

    Raises SelectionError for a key that no run knows, and for one that can mean several settings.
    """
    if key in FIELDS:
        return FIELDS[key]
    wanted = key.removeprefix("config.")
    known = dict.fromkeys(name for run in runs for name in run.config)
    names = [wanted] if wanted in known else [n for n in known if n.endswith(f".{wanted}")]
    if len(names) == 1:
        return lambda run: run.config.get(names[0])
    if names:
        raise SelectionError(f"{key!r} can mean {', '.join(names)}: write one of them")
    settings = f", and settings {', '.join(known)}" if known else ""
    raise SelectionError(f"no run has {key!r}: there are {', '.join(FIELDS)}{settings}")


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> float | None:
    """A number, also one that is written as text; flags and NaN are none."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def _need_number(text: str, sign: str) -> float:
    number = _number(text)
    if number is None:
        raise SelectionError(f"{text!r} is not a number: {sign} compares numbers")
    return number


def _equal(value: Any, wanted: str) -> bool:
    if value is None:
        return False
    mine, theirs = _number(value), _number(wanted)
    if mine is not None and theirs is not None:
        return mine == theirs
    return fnmatchcase(str(value).lower(), wanted.lower().replace("[", "[[]"))


def _compare(value: Any, sign: str, wanted: str) -> bool:
    mine, theirs = _number(value), _need_number(wanted, sign)
    if mine is None:
        return False
    return {"<": mine < theirs, ">": mine > theirs, "<=": mine <= theirs, ">=": mine >= theirs}[
        sign
    ]


def _order(value: Any) -> tuple[bool, float, str]:
    number = _number(value)
    return (True, 0.0, str(value)) if number is None else (False, number, "")
