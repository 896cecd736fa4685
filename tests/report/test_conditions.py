"""Rules in words, one condition each."""

import pytest

from mmhealth.health import Rule, default_policy
from mmhealth.report.conditions import describe_condition, describe_exceptions, describe_recovery


def rule(metric: str = "ess_signal", **more: object) -> Rule:
    return Rule(name="r", metric=metric, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "fires", "resolves"),
    [
        (rule(below=0.2, for_steps=3, recover=0.25, recover_steps=5),
         "ess_signal is below 20 %, 3 steps in a row", "back at 25 % 5 steps in a row"),
        (rule("gini_grad_norm", above=0.75), "gini_grad_norm is above 0.75", "no longer so"),
        (rule("weight_khat", above="weight_khat_limit"),
         "weight_khat is above weight_khat_limit of the step", "no longer so"),
        (rule("entropy", below_baseline=0.1, recover=0.15, mean_of=5),
         "the mean of the last 5 values of entropy is below 10 % of the mean of its first 10 "
         "values", "back at 15 % of the mean of its first 10 values"),
        (rule("entropy", below_baseline=0.1, baseline="reference"),
         "entropy is below 10 % of what the reference run had", "no longer so"),
        (rule(falls_by=0.5, while_rising="reward", window=15),
         "ess_signal falls by 50 % between the means of two windows of 15 steps, while reward "
         "rises", "no longer so"),
        (rule("kl_ref", drifts_above=2.0, recover=1.5, false_alarms_per_1000=2),
         "kl_ref has risen above 200 % of the mean of its first 10 values, by evidence that is "
         "wrong at most 2 times in 1,000 steps",
         "the mean of 10 values is back at 150 % of the mean of its first 10 values"),
        (rule(below=0.2, demand_interval=0.9),
         "ess_signal is below 20 %, with its whole 90 % interval", "no longer so"),
    ],
)  # fmt: skip
def test_condition_and_recovery(given: Rule, fires: str, resolves: str) -> None:
    assert (describe_condition(given), describe_recovery(given)) == (fires, resolves)


def test_exceptions() -> None:
    assert describe_exceptions(rule(below=0.2)) == ""
    assert describe_exceptions(rule(below=0.2, min_rows=32, excuse_solved=True)) == (
        "fewer than 32 rows are no data; excused where solved groups explain it"
    )


def test_every_rule_of_the_default_policy_is_told_with_its_metric() -> None:
    for given in default_policy().rules:
        assert given.metric in describe_condition(given)
        assert describe_recovery(given)
