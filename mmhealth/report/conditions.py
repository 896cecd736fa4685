"""What a rule asks for, in words: when it fires, when its alert resolves, what is no data."""

from mmhealth.health import Rule
from mmhealth.report.words import percent, show_value


def describe_condition(rule: Rule) -> str:
    """When a rule fires, with its threshold and persistence."""
    mean = f"the mean of the last {rule.mean_of} values of " if rule.mean_of > 1 else ""
    words = f"{mean}{rule.metric} {_beyond(rule)}"
    if rule.demand_interval is not None:
        words += f", with its whole {percent(rule.demand_interval)} interval"
    if rule.while_failing:
        words += ", while more than half of the groups fail in all trajectories"
    if rule.for_steps > 1:
        words += f", {rule.for_steps} steps in a row"
    return words


def describe_recovery(rule: Rule) -> str:
    """When an alert of the rule resolves."""
    times = f" {rule.recover_steps} steps in a row" if rule.recover_steps > 1 else ""
    if rule.recover is None or rule.falls_by is not None:
        return f"no longer so{times}"
    drift = rule.drift_fraction is not None
    mean = f"the mean of {rule.window} values is " if drift else ""
    return f"{mean}back at {_level(rule, rule.recover)}{times}"


def describe_exceptions(rule: Rule) -> str:
    """Which steps count as no data or are excused; empty where there are none."""
    parts = []
    if rule.min_rows > 1:
        parts.append(f"fewer than {rule.min_rows} rows are no data")
    if rule.excuse_solved:
        parts.append("excused where solved groups explain it")
    return "; ".join(parts)


def _beyond(rule: Rule) -> str:
    if isinstance(rule.above, str):
        return f"is above {rule.above} of the step"
    if rule.falls_by is not None:
        rising = rule.while_rising or "reward"
        return (
            f"falls by {percent(rule.falls_by)} between the means of two windows of {rule.window} "
            f"steps, while {rising} rises"
        )
    if rule.drift_fraction is not None:
        moved = "fallen below" if rule.drifts_below is not None else "risen above"
        alarms = f"{rule.false_alarms_per_1000:g}"
        return (
            f"has {moved} {_level(rule, rule.drift_fraction)}, by evidence that is wrong at most "
            f"{alarms} time{'' if alarms == '1' else 's'} in 1,000 steps"
        )
    for side, threshold in (("below", rule.below), ("above", rule.above)):
        if threshold is not None:
            return f"is {side} {_level(rule, threshold)}"
    assert rule.below_baseline is not None
    return f"is below {_level(rule, rule.below_baseline)}"


def _level(rule: Rule, value: float) -> str:
    """A value on the scale of the rule's threshold."""
    if rule.below_baseline is None and rule.drift_fraction is None:
        return show_value(rule.metric, value)
    of = f"the mean of its first {rule.baseline_steps} values"
    if rule.baseline == "reference":
        of = "what the reference run had"
    return f"{percent(value)} of {of}"
