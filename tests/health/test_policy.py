from pathlib import Path

import pytest

from mmhealth.errors import PolicyError
from mmhealth.health import default_policy, load_policy
from mmhealth.health.policy import default_policy_text, parse_policy

RULE = """version = 1
[rules.mine]
metric = "ess_signal"
"""
REWARD = RULE.replace("ess_signal", "reward")


def test_the_default_policy_covers_the_article() -> None:
    policy = default_policy()
    watched = {rule.metric for rule in policy.rules}
    assert {
        "ess_weight",
        "ess_signal",
        "ess_contribution",
        "gini_grad_norm",
        "entropy",
        "dead_group_share",
        "weight_khat",
        "nonfinite",
        "log_ratio_p95_tool",
        "data_gap",
    } <= watched
    assert policy.rule("ess_signal").below == policy.rule("ess_collapse").below == 0.20
    assert policy.rule("ess_collapse").severity == "critical"
    assert policy.rule("gini").above == 0.75
    assert policy.rule("silent_collapse").while_rising == "reward"
    assert all(r.meaning and r.failure_mode and r.fix for r in policy.rules)


def test_a_policy_round_trips_through_a_file(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(default_policy_text())
    assert load_policy(file).rules == default_policy().rules
    with pytest.raises(PolicyError, match=r"missing\.toml: cannot be read"):
        load_policy(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("version = 1\n[rules\nx = 1", 2, "not valid TOML"),
        ("version = 2\n", 1, "version = 1 is needed"),
        ("version = 1\n", None, "no .rules.NAME. table"),
        ("version = 1\nwatch = 3\n", 2, "unknown key 'watch'"),
        (RULE + "beneath = 0.2\n", 4, "unknown key 'beneath'"),
        (RULE + "below = 'low'\n", 4, "below must be a number"),
        (RULE + "below = true\n", 4, "below must be a number"),
        (RULE + "below = 20\n", 4, "between 0 and 1"),
        (RULE + "below = 0.0\n", 4, "can never tell"),
        (RULE + "above = 1.0\n", 4, "can never tell"),
        (RULE + "below = 0.2\nrecover = 1.5\n", 5, "can never be reached"),
        (RULE + "above = 0.5\nrecover = -0.1\n", 5, "can never be reached"),
        (REWARD + "below = nan\n", 4, "below must be a finite number, not nan"),
        (REWARD + "above = inf\n", 4, "above must be a finite number, not inf"),
        (REWARD + "below = 0.2\nrecover = inf\n", 5, "recover must be a finite number, not inf"),
        (RULE + "below = 0.2\nabove = 0.5\n", 5, "exactly one of"),
        (RULE, 2, "exactly one of"),
        (RULE + "below = 0.2\nfor_steps = 0\n", 5, "at least 1"),
        (RULE + "below = 0.2\nfor_steps = 1.5\n", 5, "whole number"),
        (RULE + "below = 0.2\nrecover = 0.1\n", 5, "at or above"),
        (RULE + "below = 0.2\nseverity = 'bad'\n", 5, "severity must be one of"),
        (RULE + "above = 'no_column'\n", 4, "no timeline column"),
        (RULE + "falls_by = 1.5\n", 4, "between 0 and 1"),
        (RULE + "drifts_below = 1.0\n", 4, "between 0 and 1"),
        (RULE + "drifts_above = 0.8\n", 4, "above 1"),
        (RULE + "drifts_above = inf\n", 4, "above 1"),
        (RULE + "drifts_above = 1.5\nrecover = 1.6\n", 5, "at or below"),
        (RULE + "drifts_below = 0.8\nrecover = 0.7\n", 5, "at or above"),
        (RULE + "drifts_below = 0.8\nfalse_alarms_per_1000 = 0\n", 5, "between 0 and 1000"),
        (RULE + "drifts_below = 0.8\nfalse_alarms_per_1000 = nan\n", 5, "between 0 and 1000"),
        (RULE + "drifts_below = 0.8\nmean_of = 3\n", 5, "not with drifts_below"),
        (RULE + "below = 0.2\nmean_of = 0\n", 5, "at least 1"),
        (RULE + "above = 'ess_weight'\nmean_of = 3\n", 5, "cannot go with a column"),
        (RULE + "below = 0.2\nfalse_alarms_per_1000 = 1\n", 5, "goes with drifts_below"),
        (RULE + "below = 0.2\nbaseline = 'first'\n", 5, "goes with below_baseline"),
        (RULE + "drifts_below = 0.8\nbaseline = 'last'\n", 5, "one of first, reference"),
        (RULE + "drifts_below = 0.8\nbaseline = 'reference'\n", 5, "no reference = RUN"),
        ("version = 1\nreference = 3\n" + RULE[12:] + "below = 0.2\n", 2, "a run directory"),
        ("version = 1\n[rules.mine]\nbelow = 0.2\n", 2, "lacks the key 'metric'"),
        ("version = 1\n[rules.mine]\nmetric = 'ess'\nbelow = 0.2\n", 3, "no timeline column"),
        ("version = 1\n[gate]\nfail_on = 'x'\n" + RULE[12:] + "below = 0.2\n", 3, "fail_on"),
    ],
)
def test_mistakes_name_their_line(text: str, line: int | None, why: str) -> None:
    with pytest.raises(PolicyError, match=why) as error:
        parse_policy(text, "p.toml")
    assert str(error.value).startswith("p.toml")
    if line is not None:
        assert f"line {line}" in str(error.value)
