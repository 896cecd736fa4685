from dataclasses import dataclass

import pytest

from mmhealth.interventions import EssAdaptive, EssAdaptiveConfig


@dataclass(frozen=True)
class Alert:
    rule: str
    state: str
    step: int
    resolved_step: int | None = None


def controller() -> EssAdaptive:
    return EssAdaptive(EssAdaptiveConfig(rule="ess_signal", hold=3, kl_coef=0.5))


def active_steps(control: EssAdaptive, until: int = 30) -> list[int]:
    return [step for step in range(until) if control.active(step)]


def test_sleeps_until_its_alert_fires():
    control = controller()
    control.on_alert(Alert("entropy", "firing", 4))
    assert active_steps(control) == []
    assert control.kl_coef(5) == 0.0


def test_acts_from_the_step_after_the_alert():
    control = controller()
    control.on_alert(Alert("ess_signal", "firing", 4))
    assert active_steps(control, 9) == [5, 6, 7, 8]
    assert control.kl_coef(4) == 0.0
    assert control.kl_coef(5) == 0.5


def test_holds_on_after_the_alert_resolved():
    control = controller()
    control.on_alert(Alert("ess_signal", "firing", 4))
    control.on_alert(Alert("ess_signal", "resolved", 4, 10))
    assert active_steps(control) == [11, 12, 13]


def test_an_alert_that_returns_during_the_hold_keeps_it_on():
    control = controller()
    control.on_alert(Alert("ess_signal", "firing", 4))
    control.on_alert(Alert("ess_signal", "resolved", 4, 10))
    control.on_alert(Alert("ess_signal", "firing", 12))
    assert active_steps(control, 20) == list(range(13, 20))


@pytest.mark.parametrize("seen", range(4))
def test_replayed_alerts_change_nothing_after_a_restart(seen):
    alerts = [
        Alert("ess_signal", "firing", 4),
        Alert("ess_signal", "resolved", 4, 10),
        Alert("ess_signal", "firing", 20),
    ]
    whole = controller()
    for alert in alerts:
        whole.on_alert(alert)
    before = controller()
    for alert in alerts[:seen]:
        before.on_alert(alert)
    restarted = controller()
    restarted.load_state_dict(before.state_dict())
    for alert in alerts:
        restarted.on_alert(alert)
    assert restarted.state_dict() == whole.state_dict()
    assert active_steps(restarted) == active_steps(whole)


def test_a_superseded_alert_is_ignored():
    control = controller()
    control.on_alert(Alert("ess_signal", "superseded", 4))
    assert active_steps(control) == []


def test_an_alert_that_is_taken_back_switches_off_at_once():
    control = controller()
    control.on_alert(Alert("ess_signal", "firing", 4))
    control.on_alert(Alert("ess_signal", "superseded", 3))
    assert control.active(5)
    control.on_alert(Alert("ess_signal", "superseded", 4))
    assert active_steps(control) == []
    control.on_alert(Alert("ess_signal", "firing", 6))
    assert active_steps(control, 9) == [7, 8]


def test_an_alert_that_came_and_went_between_polls_starts_the_hold():
    control = controller()
    control.on_alert(Alert("ess_signal", "resolved", 4, 10))
    assert active_steps(control) == [11, 12, 13]


def fading_controller() -> EssAdaptive:
    control = EssAdaptive(EssAdaptiveConfig(hold=3, kl_coef=0.5, half_life=2))
    control.on_alert(Alert("ess_signal", "firing", 4))
    control.on_alert(Alert("ess_signal", "resolved", 4, 10))
    return control


def test_with_a_half_life_the_coefficient_fades_after_the_hold():
    control = fading_controller()
    assert [control.kl_coef(step) for step in (11, 13, 15, 17)] == [0.5, 0.5, 0.25, 0.125]
    assert [control.fading(step) for step in (5, 13, 14)] == [False, False, True]
    assert active_steps(control, 40) == list(range(11, 27))
    assert control.kl_coef(26) > 0.01 * 0.5 > 0.5 * 0.5 ** (14 / 2)
    assert control.kl_coef(27) == 0


def test_an_alert_that_returns_while_it_fades_restores_it():
    control = fading_controller()
    control.on_alert(Alert("ess_signal", "firing", 17))
    assert control.kl_coef(18) == 0.5
    assert not control.fading(18)
    control.on_alert(Alert("ess_signal", "resolved", 17, 19))
    assert [control.kl_coef(step) for step in (22, 24)] == [0.5, 0.25]


def test_a_restart_while_it_fades_changes_nothing():
    control, restarted = fading_controller(), EssAdaptive(EssAdaptiveConfig(hold=3, half_life=2))
    restarted.load_state_dict(control.state_dict())
    assert [restarted.kl_coef(s) for s in range(40)] == [control.kl_coef(s) for s in range(40)]


def test_a_negative_half_life_is_refused():
    with pytest.raises(ValueError, match="half_life"):
        EssAdaptiveConfig(half_life=-1)
