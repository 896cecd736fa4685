import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from mmhealth.estimators import stall_step, wilson_interval
from mmhealth.figures import RunView, heldout_figure
from mmhealth.health.alerts import Alert
from mmhealth.health.heldout import held_out_course
from mmhealth.health.timeline import SCHEMA


def evaluations(successes, **columns):
    return pl.DataFrame(
        {"step": range(len(successes)), "episodes": 100, "successes": successes} | columns,
        schema_overrides={"episodes": pl.Int64, "successes": pl.Int64},
    )


def ess_alert(step, severity="warning", metric="ess_signal", state="firing"):
    numbers = {"pending_step": step, "resolved_step": None, "attempt": 0, "rows": 8}
    values = {"value": 0.1, "worst": 0.1, "threshold": 0.2, "partial": False}
    words = {"meaning": "", "failure_mode": "", "fix": ""}
    return Alert(
        rule=metric, metric=metric, severity=severity, state=state, step=step,
        **numbers, **values, **words,
    )  # fmt: skip


def view(name, frame, *alerts, number=0):
    return RunView(
        name, pl.DataFrame(schema=SCHEMA), alerts, {}, number, held_out=held_out_course(frame)
    )


RISING = [min(step, 30) for step in range(100)]


@pytest.fixture
def stalling():
    return view("<b>run", evaluations(RISING), ess_alert(20), ess_alert(25, "critical"))


def named(figure, name):
    return [trace for trace in figure.data if trace.name == name]


def words(figure):
    return " | ".join(note.text.replace("<br>", " ") for note in figure.layout.annotations)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_rate_mean_and_band(stalling, theme):
    figure = heldout_figure([stalling], theme=theme)
    json.loads(figure.to_json())
    rate, mean = named(figure, "&lt;b&gt;run")
    assert list(rate.y) == [value / 100 for value in RISING]
    low, high = wilson_interval(30, 100)
    assert f"30 of 100 episodes<br>95 % interval {low:.1%} to {high:.1%}" in rate.text[40]
    expected = [np.mean(rate.y[max(i - 14, 0) : i + 1]) if i >= 14 else np.nan for i in range(100)]
    np.testing.assert_allclose(mean.y, expected)
    assert mean.line.width > rate.line.width
    (band,) = [trace for trace in figure.data if trace.fill == "toself"]
    assert min(band.y) == wilson_interval(0, 100)[0]
    assert max(band.y) == high
    assert [t.name for t in figure.data if t.showlegend] == [
        "ESS alert fires", "&lt;b&gt;run", "learning stalls",
    ]  # fmt: skip


def test_the_stall_and_the_alerts_before_it_are_marked(stalling):
    figure = heldout_figure([stalling])
    stall = stall_step(range(100), [value / 100 for value in RISING])
    (mark,) = named(figure, "learning stalls")
    assert list(mark.x) == [stall]
    text = mark.text[0].replace("<br>", " ")
    assert f"learning stalls at step {stall}, {stall - 20} steps after the first ESS alert" in text
    assert "15-step mean" in text
    assert "0.02 over the next 40" in text
    lines = named(figure, "ESS alert fires")
    assert [set(line.x) for line in lines] == [{20}, {25}]
    assert f"learning stalls, step {stall}" in words(figure)
    assert "ESS alert fires, step 20" in words(figure)
    assert "step 25" not in words(figure)


def test_a_plateau_that_success_has_left_is_no_stall():
    left = [min(step, 30) if step < 90 else min(step - 60, 60) for step in range(150)]
    assert stall_step(range(150), [value / 100 for value in left]) is not None
    assert not named(heldout_figure([view("run", evaluations(left))]), "learning stalls")


def test_only_standing_alerts_on_ess_are_marked():
    other = (ess_alert(5, metric="entropy"), ess_alert(6, state="superseded"))
    figure = heldout_figure([view("r", evaluations([1] * 20), *other)])
    assert not named(figure, "ESS alert fires")
    assert not named(figure, "learning stalls"), "20 steps are too few to see a stall"


def test_without_evaluations_the_figure_says_why():
    bare = view("bare", pl.DataFrame())
    assert words(heldout_figure([])) == "no run is chosen"
    figure = heldout_figure([bare])
    assert not figure.data
    assert words(figure) == "insufficient data: no held-out evaluation is logged"
    beside = heldout_figure([view("r", evaluations([1, 2, 3])), bare])
    assert "bare: insufficient data: no held-out evaluation is logged" in words(beside)
    assert len(named(beside, "r")) == 1, "no mean of fewer than 15 steps"


def test_horizons_that_differ_are_named():
    runs = [
        view(name, evaluations([1, 2], eval_horizon=[horizon] * 2), number=number)
        for number, (name, horizon) in enumerate((("a", 6), ("b", 9)))
    ]
    figure = heldout_figure(runs)
    assert {t.name for t in figure.data if t.showlegend} == {"a at horizon 6", "b at horizon 9"}
    assert {t.name for t in heldout_figure(runs[:1]).data if t.showlegend} == {"a"}


def test_many_runs_are_named_on_hover_only(stalling):
    runs = [replace(stalling, name=f"r{number}", number=number) for number in range(4)]
    figure = heldout_figure(runs)
    assert words(figure) == ""
    assert len(named(figure, "learning stalls")) == 4


def test_ten_thousand_evaluations_are_thinned_and_the_window_is_not():
    rng = np.random.default_rng(0)
    long = view("r", evaluations(rng.integers(0, 100, 10_000).tolist()))
    assert all(len(t.x) <= 2000 for t in heldout_figure([long]).data)
    near = heldout_figure([long], window=(5000, 5100))
    for trace in named(near, "r"):
        assert set(range(5000, 5101)) <= set(trace.x)
    assert near.layout.uirevision == heldout_figure([long]).layout.uirevision
