"""The trap of weights that are 1 by construction, weights that fall, and training that stops."""

from typing import Any

import pytest

from mmhealth.health import Alert, Monitor, build_timeline
from mmhealth.integrations.trl import attach
from mmhealth.runlog import open_run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

WILD = {
    "per_device_train_batch_size": 16,
    "num_iterations": 4,
    "learning_rate": 0.05,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "max_steps": 24,
    "epsilon": 100.0,
}


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_by_default_the_weight_ess_says_nothing_and_is_not_100_percent(kind, trainer, tmp_path):
    attached = trainer(kind)
    attachment = attach(attached, tmp_path / "run", strict=True)
    assert attachment.limits[0].startswith("on-policy")
    attached.train()
    timeline = build_timeline(open_run(tmp_path / "run"))
    assert timeline.frame["ess_weight"].to_list() == [None] * 3
    assert all("on-policy" in metrics.reasons["ess_weight"] for _, metrics in timeline.visible())
    assert timeline.frame["ess_contribution"].is_between(0, 1).all()


def test_updates_on_old_rollouts_let_the_ess_fall_and_the_alert_stops_training(trainer, tmp_path):
    attached, heard = trainer("RLOO", **WILD), []

    def hear(alert: Alert, control: Any) -> None:
        heard.append((alert.rule, alert.state, control.should_training_stop))

    attach(attached, tmp_path / "run", stop=True, on_alert=hear, strict=True)
    attached.train()
    run = open_run(tmp_path / "run")
    ess = build_timeline(run).frame["ess_weight"].to_list()
    assert min(ess) < 0.1
    assert ("ess_weight", "firing", False) in heard
    assert attached.state.global_step < 24
    stopped = run.events.filter(run.events["kind"] == "stopped")
    assert stopped["step"].to_list() == [len(run.steps) - 1]
    monitor = Monitor(tmp_path / "run")
    monitor.poll()
    assert "ess_weight" in {alert.rule for alert in monitor.alerts}


def test_an_error_in_on_alert_is_the_caller_s_and_keeps_nothing_from_stopping(trainer, tmp_path):
    attached = trainer("RLOO", **WILD)

    def fail(alert: Alert, _control: Any) -> None:
        raise KeyError(alert.rule)

    attachment = attach(attached, tmp_path / "run", stop=True, on_alert=fail)
    attached.train()
    assert attached.state.global_step < 24
    [loss] = attachment.recorder.summary()["losses"]
    assert loss["kind"] == "callback"
    assert "on_alert raised KeyError" in loss["first"]
    assert not open_run(tmp_path / "run").status().data_lost


def test_an_alert_may_only_be_heard(trainer, tmp_path):
    attached, heard = trainer("RLOO", **WILD), []
    attach(attached, tmp_path / "run", on_alert=lambda alert, _: heard.append(alert), strict=True)
    attached.train()
    assert heard
    assert attached.state.global_step == 24
