import json
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from mmhealth import Recorder, open_run
from mmhealth.estimators import HorizonMatrix
from mmhealth.figures import (
    BASES,
    CAPTIONS,
    CONFIG,
    RunView,
    entropy_figure,
    ess_figure,
    gini_figure,
    groups_figure,
    horizon_figure,
    lorenz_figure,
    reward_ess_figure,
)
from mmhealth.health import Monitor, Policy, Rule
from mmhealth.health.contribution import step_contribution
from mmhealth.health.timeline import SCHEMA

POLICY = Policy(
    (
        Rule(
            name="ess_signal",
            metric="ess_signal",
            below=0.2,
            recover=0.25,
            for_steps=3,
            severity="critical",
            meaning="A few make the update.",
            fix="Restore contrast.",
        ),
        Rule(name="ess_low", metric="ess_signal", below=0.2, for_steps=3),
        Rule(name="ess_contribution", metric="ess_contribution", below=0.15),
        Rule(name="nonfinite", metric="nonfinite", above=0, severity="critical"),
    )
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A collapsing run and one that logs neither gradient norms nor entropy."""
    rng = np.random.default_rng(0)
    views = []
    for number, name in enumerate(("collapsing", "<b>bare")):
        path = tmp_path_factory.mktemp("runs") / str(number)
        with Recorder(path, strict=True) as recorder:
            for step in range(12):
                live = 64 if step < 6 else 3
                advantage = np.where(np.arange(64) < live, 1.0, 0.0)
                columns = {"reward": rng.random(64), "advantage": advantage}
                if number == 0:
                    columns |= {"grad_norm": advantage + 1e-6, "entropy": np.full(64, 0.5)}
                recorder.log_step(step, columns)
        monitor = Monitor(path, POLICY)
        monitor.poll()
        timeline = monitor.timeline
        view = RunView(name, timeline.frame, tuple(monitor.alerts), timeline.reasons(), number)
        views.append(view)
    return views


def named(figure, name):
    return [trace for trace in figure.data if trace.name == name]


def words(figure):
    return " ".join(note.text.replace("<br>", " ") for note in figure.layout.annotations)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_figure_is_json_and_names_every_run(runs, theme):
    for figure in (
        ess_figure(runs, POLICY, theme=theme),
        reward_ess_figure(runs, theme=theme),
    ):
        json.loads(figure.to_json())
        assert named(figure, "collapsing")
        assert named(figure, "&lt;b&gt;bare"), "names are escaped"


def test_every_figure_has_a_caption_saying_what_good_is():
    assert set(CAPTIONS) == {
        "ess",
        "gini",
        "entropy",
        "reward_ess",
        "groups",
        "heldout",
        "lorenz",
        "horizon",
        "noise",
        "sources",
    }
    for caption in CAPTIONS.values():
        assert caption.title
        assert caption.shows.endswith(".")
        assert caption.good.startswith("Good: ")


def test_no_figure_offers_to_send_itself_away():
    assert CONFIG["displaylogo"] is False
    assert "sendChartToCloud" in CONFIG["modeBarButtonsToRemove"]


def test_ess_has_the_policys_threshold_and_marks_where_alerts_fired(runs):
    figure = ess_figure(runs, POLICY, basis="signal")
    assert [shape.y0 for shape in figure.layout.shapes] == [0.20]
    (label,) = [note for note in figure.layout.annotations if "20 %" in note.text]
    assert label.text == "&lt; 20 %"
    assert "critical alert below 20 %" in label.hovertext.replace("<br>", " ")
    assert label.x == 1, "right of the plot, where no curve is"
    assert label.xanchor == "left"
    assert figure.layout.margin.r > 40
    marks = named(figure, "critical alert fires")
    assert [list(mark.x) for mark in marks] == [[8], [8]]
    assert "ess_signal" in marks[0].text[0]
    assert "Fix:" in marks[0].text[0]


def test_bases_never_share_an_axis(runs):
    figure = ess_figure(runs, POLICY, basis="all")
    tops = [figure.layout[name].domain for name in ("yaxis", "yaxis2", "yaxis3")]
    assert all(low[1] < high[0] for high, low in pairwise(tops))
    for basis in BASES:
        assert f"{basis}: " in words(figure)
    assert sorted(shape.y0 for shape in figure.layout.shapes) == [0.15, 0.20]


def test_rows_of_the_update_are_dashed_and_only_where_they_differ(runs):
    assert not [trace for trace in ess_figure(runs, POLICY).data if trace.line.dash == "dash"]
    run = runs[0]
    other = run.timeline.with_columns(ess_signal_update=pl.lit(0.5))
    figure = ess_figure([RunView("r", other)], POLICY)
    (dashed,) = [trace for trace in figure.data if trace.line.dash == "dash"]
    assert "rows in the update" in dashed.name


def test_a_colour_belongs_to_a_run_whatever_is_shown_beside_it(runs):
    both, alone = gini_figure(runs, POLICY), ess_figure(runs[1:], POLICY)
    assert both.data[0].line.color == ess_figure(runs, POLICY).data[0].line.color
    assert alone.data[0].line.color == ess_figure(runs, POLICY).data[1].line.color


def test_what_is_missing_says_why_and_is_never_zero(runs):
    figure = gini_figure(runs[1:], POLICY)
    assert not figure.data
    assert words(figure) == "insufficient data: grad_norm is not logged"
    assert words(entropy_figure(runs[1:], POLICY)).startswith("insufficient data: entropy")
    assert words(groups_figure(runs, POLICY)).startswith("insufficient data: ")
    mixed = gini_figure(runs, POLICY)
    assert len(named(mixed, "collapsing")) == 1
    assert "bare: insufficient data: grad_norm is not logged" in words(mixed)


def test_gaps_stay_gaps_and_lone_points_are_seen(runs):
    frame = runs[0].timeline.with_columns(
        entropy=pl.when(pl.col("step") % 3 == 0).then(pl.col("entropy"))
    )
    (trace,) = entropy_figure([RunView("r", frame)], POLICY).data
    assert np.isnan(np.asarray(trace.y)).sum() == 8
    assert trace.connectgaps is False
    assert np.asarray(trace.marker.size).max() > 0


def test_no_run_and_no_step_are_said():
    assert words(ess_figure([], POLICY)) == "no run is chosen"
    empty = RunView("r", pl.DataFrame(schema=SCHEMA))
    assert words(ess_figure([empty], POLICY)) == "no step is complete yet"
    assert words(reward_ess_figure([empty])) == "no step is complete yet"


def test_reward_and_ess_have_an_axis_each(runs):
    figure = reward_ess_figure(runs[:1], basis="contribution")
    reward, ess = figure.data
    assert (reward.yaxis, ess.yaxis) == (None, "y2")
    assert figure.layout.yaxis2.tickmode == "auto"
    assert list(reward.x) == list(ess.x)


def test_ten_thousand_steps_are_thinned_and_the_window_is_not(runs):
    row = runs[0].timeline.head(1)
    frame = pl.concat([row] * 10_000).with_columns(step=pl.int_range(10_000, dtype=pl.Int64))
    frame = frame.with_columns(
        entropy=pl.when(pl.col("step") == 4321).then(9.0).otherwise(pl.col("entropy"))
    )
    whole = entropy_figure([RunView("r", frame)], POLICY).data[0]
    assert len(whole.x) <= 1000
    assert 4321 in whole.x
    near = entropy_figure([RunView("r", frame)], POLICY, window=(5000, 5100)).data[0]
    assert set(range(5000, 5101)) <= set(near.x)


def test_zoom_survives_an_update(runs):
    first, later = ess_figure(runs[:1], POLICY), ess_figure(runs, POLICY)
    assert first.layout.uirevision == later.layout.uirevision == "mmhealth"


def test_lorenz_curve_of_a_step(runs, tmp_path):
    with Recorder(tmp_path / "r", strict=True) as recorder:
        recorder.log_step(0, {"grad_norm": [0.0, 0.0, 0.0, 1.0]})
    step = step_contribution(open_run(tmp_path / "r").step_data(0), "sequence")
    figure = lorenz_figure([(runs[0], step)])
    equal, curve = figure.data
    assert equal.name == "all alike"
    assert list(curve.y) == [0, 0, 0, 0, 1]
    assert curve.text[3] == "the largest 25.0% hold 100.0%"
    assert words(lorenz_figure([])) == "no step is complete yet"


def test_horizon_rows_are_regimes_and_unmeasured_cells_are_empty():
    matrices = {
        "a": HorizonMatrix.from_rows([([10], 6, 50, 25), ([10], 10, 50, 50)]),
        "b": HorizonMatrix.from_rows([([6, 10], 6, 50, 0), ([10], 16, 10, 1)]),
    }
    (heat,) = horizon_figure(matrices).data
    assert list(heat.x) == ["6", "10", "16"]
    assert [list(row) for row in heat.z] == [
        [0.5, 1.0, None],
        [None, None, 0.1],
        [0.0, None, None],
    ]
    labels = horizon_figure(matrices).layout.yaxis.ticktext
    assert labels == ("a<br>at 10", "b<br>at 10", "trained at<br>6, 10")
    assert "25 of 50 episodes" in heat.customdata[0][0]
    assert heat.customdata[0][2] == "not measured"
    assert heat.text[0][2] == ""
    assert words(horizon_figure({})).startswith("insufficient data")
