"""Figures of gradient noise: there only where the data are, from runs of the public recorder."""

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmhealth.figures import OPTIONAL, RunView, has_data, noise_figure, sources_figure
from mmhealth.health import Policy, Rule, build_timeline
from mmhealth.runlog import open_run

POLICY = Policy((Rule(name="snr", metric="gradient_snr", below=0.1, meaning="m", fix="f"),))


def view(path: Any, name: str, number: int = 0) -> RunView:
    timeline = build_timeline(open_run(path))
    return RunView(name, timeline.frame, (), timeline.reasons(), number, sources=timeline.sources)


@pytest.fixture(scope="module")
def noisy(noisy_run):
    return view(noisy_run, "noisy")


@pytest.fixture(scope="module")
def plain(healthy_run):
    return view(healthy_run, "<b>plain", 1)


def lines(figure, axis="y"):
    return [t for t in figure.data if (t.yaxis or "y") == axis and t.fill is None]


def test_they_stand_only_where_some_run_has_the_data(noisy, plain):
    assert [has_data(name, [noisy]) for name in OPTIONAL] == [True, True]
    assert [has_data(name, [plain]) for name in OPTIONAL] == [False, False]
    assert [has_data(name, []) for name in OPTIONAL] == [False, False]
    assert [has_data(name, [plain, noisy]) for name in OPTIONAL] == [True, True]
    assert has_data("ess", [])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_they_are_json_in_both_themes(noisy, plain, theme):
    for figure in (
        noise_figure([noisy, plain], POLICY, theme=theme),
        sources_figure([noisy, plain], theme=theme),
        noise_figure([], POLICY, theme=theme),
        sources_figure([plain], theme=theme),
    ):
        json.loads(figure.to_json())


def test_the_ratio_has_its_interval_its_reference_and_the_policys_line(noisy):
    figure = noise_figure([noisy], POLICY)
    (ratio,) = lines(figure)
    assert list(ratio.y) == noisy.timeline["gradient_snr"].to_list()
    (band,) = [trace for trace in figure.data if trace.fill == "toself"]
    assert band.showlegend is False
    n = len(noisy.timeline)
    assert list(band.y[:n]) == noisy.timeline["gradient_snr_high"].to_list()
    assert list(band.y[n : 2 * n]) == noisy.timeline["gradient_snr_low"].to_list()[::-1]
    assert sorted(shape.y0 for shape in figure.layout.shapes) == [0.1, 1.0]
    assert "batch = noise scale" in [note.text for note in figure.layout.annotations]
    assert "noise_scale " in ratio.text[0]
    assert "noise_scale not known" in ratio.text[-1] or noisy.timeline["noise_scale"][-1]
    (opposing,) = lines(figure, "y2")
    assert list(opposing.y) == noisy.timeline["opposing_share"].to_list()
    assert figure.layout.yaxis2.tickformat == ".0%"
    assert max(opposing.y) < figure.layout.yaxis2.range[1]


def test_a_gap_is_a_gap_of_line_and_band(noisy):
    hole = pl.col("step").is_between(10, 12)
    columns = ("gradient_snr", "gradient_snr_low", "gradient_snr_high")
    frame = noisy.timeline.with_columns(pl.when(~hole).then(pl.col(columns)))
    figure = noise_figure([RunView("r", frame)], POLICY)
    (ratio,) = lines(figure)
    assert np.isnan(np.asarray(ratio.y, float)).sum() == 3
    (band,) = [trace for trace in figure.data if trace.fill == "toself"]
    assert list(band.x).count(None) == 2, "two areas"
    assert not {10, 11, 12} & set(band.x)


def test_a_run_without_cosines_says_so_beside_one_that_has_them(noisy, plain):
    figure = noise_figure([noisy, plain], POLICY)
    assert {trace.name for trace in figure.data} == {"noisy"}
    text = " ".join(note.text.replace("<br>", " ") for note in figure.layout.annotations)
    assert "plain: insufficient data: grad_cosine is not logged" in text


def test_each_source_has_its_share_of_squares_and_of_rows(noisy):
    figure = sources_figure([noisy])
    solid = [trace for trace in figure.data if trace.line.dash == "solid"]
    dotted = [trace for trace in figure.data if trace.line.dash == "dot"]
    assert [trace.name for trace in solid] == ["judge", "verifier"]
    assert [trace.showlegend for trace in dotted] == [False, False]
    judge = noisy.sources.filter(source="judge")
    assert list(solid[0].y) == judge["second_moment_share"].to_list()
    assert set(dotted[0].y) == {0.25}
    assert solid[0].line.color == dotted[0].line.color != solid[1].line.color


def test_of_many_sources_the_largest_are_drawn(noisy):
    many = pl.concat(
        noisy.sources.filter(source="judge").with_columns(
            source=pl.lit(f"s{i}"), second_moment_share=pl.lit(i / 55)
        )
        for i in range(1, 11)
    )
    run = RunView("r", noisy.timeline, sources=many)
    names = [trace.name for trace in sources_figure([run]).data]
    assert list(dict.fromkeys(names)) == ["s10", "s6", "s7", "s8", "s9"]
    both = sources_figure([run, RunView("other", noisy.timeline, sources=many)])
    names = list(dict.fromkeys(trace.name for trace in both.data))
    assert names == ["r: s10", "r: s9", "other: s10", "other: s9"]


def test_without_sources_it_says_so(plain):
    (note,) = sources_figure([plain]).layout.annotations
    assert note.text.startswith("insufficient data")
    (note,) = sources_figure([]).layout.annotations
    assert note.text == "no run is chosen"
