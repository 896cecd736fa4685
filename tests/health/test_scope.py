from pathlib import Path

import pytest

from mmhealth.errors import PolicyError
from mmhealth.health import Alert
from mmhealth.health.policy import default_policy_text, parse_policy
from mmhealth.health.scope import EVERYTHING, GateScope

RULES = """[rules.grave]
metric = "ess_signal"
below = 0.2
severity = "critical"
[rules.light]
metric = "gini_grad_norm"
above = 0.75
"""


def alert(step: int, resolved: int | None = None, rule: str = "grave") -> Alert:
    return Alert(
        rule=rule,
        metric="ess_signal",
        severity="critical",
        state="firing" if resolved is None else "resolved",
        pending_step=step - 2,
        step=step,
        resolved_step=resolved,
        attempt=0,
        value=0.1,
        worst=0.1,
        threshold=0.2,
        rows=64,
        partial=False,
        meaning="",
        failure_mode="",
        fix="",
    )


@pytest.mark.parametrize(
    ("scope", "fired", "resolved", "counts"),
    [
        (EVERYTHING, 10, None, True),
        (EVERYTHING, 10, 20, False),
        (GateScope(to_step=15), 10, 20, True),
        (GateScope(to_step=9), 10, 20, False),
        (GateScope(to_step=20), 10, 20, False),
        (GateScope(from_step=0), 10, 20, True),
        (GateScope(from_step=19), 10, 20, True),
        (GateScope(from_step=20), 10, 20, False),
        (GateScope(from_step=50), 10, None, True),
        (GateScope(from_step=5, to_step=9), 10, None, False),
        (GateScope(from_step=5, to_step=10), 10, None, True),
        (GateScope(rules=("grave",)), 10, None, True),
        (GateScope(rules=("light",)), 10, None, False),
        (GateScope(ignore=("grave",)), 10, None, False),
    ],
)
def test_an_alert_counts_when_it_fires_in_the_range(
    scope: GateScope, fired: int, resolved: int | None, counts: bool
) -> None:
    assert scope.covers(alert(fired, resolved), last=100) is counts


@pytest.mark.parametrize(
    ("scope", "last", "counts"),
    [
        (GateScope(to_step=20), 10, False),
        (GateScope(to_step=20), 20, True),
        (GateScope(from_step=20), 19, False),
        (GateScope(from_step=5, to_step=20), 10, True),
    ],
)
def test_no_alert_counts_before_the_range_is_reached(
    scope: GateScope, last: int, counts: bool
) -> None:
    assert scope.covers(alert(3), last) is counts


def test_what_the_default_policy_looks_at_is_everything() -> None:
    policy = parse_policy(default_policy_text(), "test")
    assert policy.gate == EVERYTHING
    assert not policy.gate.describe()
    assert policy.can_fail("ess_collapse", "critical")
    assert not policy.can_fail("gini", "warning")


def test_the_gate_table_is_read(tmp_path: Path) -> None:
    gate = "version = 1\n[gate]\nfrom_step = 3\nto_step = 8\nignore = ['light']\n"
    policy = parse_policy(gate + RULES, "test")
    assert policy.gate == GateScope(3, 8, (), ("light",))
    assert policy.gate.describe() == "ignore = light; from_step = 3; to_step = 8"
    assert policy.fail_on == "critical"


@pytest.mark.parametrize(
    ("gate", "line", "why"),
    [
        ("from_step = -1", 3, "must be a step"),
        ("from_step = 1.5", 3, "must be a step"),
        ("to_step = true", 3, "must be a step"),
        ("from_step = 9\nto_step = 8", 3, "from_step lies behind to_step"),
        ("rules = 'grave'", 3, "must be a list of names"),
        ("rules = []", 3, "must be a list of names"),
        ("rules = ['graver']", 3, "'graver' is no rule of this policy; rules: grave, light"),
        ("ignore = [3]", 3, "3 is no rule"),
        ("rules = ['grave']\nignore = ['light']", 4, "exclude each other"),
        ("rules = ['light']", 3, "could never fail"),
        ("ignore = ['grave']", 3, "could never fail"),
        ("for_steps = 3", 3, "unknown key 'for_steps'"),
    ],
)
def test_mistakes_name_their_line(gate: str, line: int, why: str) -> None:
    with pytest.raises(PolicyError, match=why) as error:
        parse_policy(f"version = 1\n[gate]\n{gate}\n{RULES}", "p.toml")
    assert str(error.value).startswith(f"p.toml, line {line}: ")
