import io
import json
import re
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from mmhealth import Recorder
from mmhealth.health import Monitor
from mmhealth.report import (
    FleetComparison,
    audit_runs,
    compare_with_fleet,
    dump_json,
    fleet_as_dict,
    print_fleet,
)
from mmhealth.report.compare_text import describe_place
from mmhealth.report.fleet_comparison import Place

DOC = Path(__file__).parents[2] / "docs" / "compare.md"
FAST = settings(deadline=None, derandomize=True, max_examples=60)
VALUES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=2, max_size=12)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, batch: Any) -> list[Path]:
    """The more groups are mixed the higher the number of the run; the last is the longest."""
    folder = tmp_path_factory.mktemp("fleet")

    def record(number: int, mixed: float) -> Path:
        path = folder / f"run-{number}"
        config = {"lr": 0.1 if number else 0.3, "seed": number}
        with Recorder(path, strict=True, config=config) as recorder:
            for step in range(20 if number == 4 else 12):
                recorder.log_step(step, batch(step, mixed=mixed))
            recorder.log_evaluation(11, episodes=100, successes=20 * number + 10, eval_horizon=8)
        return path

    return [record(number, mixed) for number, mixed in enumerate((0.1, 0.4, 0.6, 0.8, 1.0))]


def compared(*paths: Path, **more: Any) -> FleetComparison:
    return compare_with_fleet(audit_runs([Monitor(path) for path in paths]), **more)


def placed(comparison: FleetComparison, name: str) -> Place | None:
    return next(metric.place for metric in comparison.metrics if metric.name == name)


def test_a_metric_has_its_place_among_the_fleet(runs: list[Path]) -> None:
    lowest, *others = runs
    place = placed(compared(lowest, *others), "ess_signal")
    assert place is not None
    assert (len(place.fleet), place.below, place.above, place.rank) == (4, 0, 4, 0.0)
    middle = placed(compared(runs[2], *(run for run in runs if run != runs[2])), "ess_signal")
    assert middle is not None
    assert (middle.below, middle.above, middle.rank) == (2, 2, 0.5)
    assert middle.value == pytest.approx(0.625, rel=0.1)


def test_the_fleet_is_seen_at_the_steps_of_the_run(runs: list[Path]) -> None:
    comparison = compared(runs[4], *runs[:4])
    assert comparison.steps == tuple(range(10, 20))
    metric = next(metric for metric in comparison.metrics if metric.name == "ess_signal")
    assert metric.place is None, "the others know two of these ten steps"
    assert metric.reason == "0 of the fleet know it at these steps, 2 are needed"
    assert placed(compared(runs[4], *runs[:4], last=16), "ess_signal") is not None


def test_means_are_compared_over_the_steps_that_both_know(tmp_path: Path) -> None:
    """All have the entropy of the step number, each at other steps: none lies above another."""

    def record(name: str, known: range) -> Path:
        with Recorder(tmp_path / name, strict=True) as recorder:
            for step in range(10):
                entropy = {"entropy": [float(step)] * 2} if step in known else {}
                recorder.log_step(step, {"reward": [1.0, 0.0], **entropy})
        return tmp_path / name

    run = record("run", range(8))
    others = [record("early", range(6)), record("late", range(2, 10))]
    place = placed(compared(run, *others), "entropy")
    assert place is not None
    assert (place.value, place.fleet, place.beside) == (3.5, (2.5, 4.5), (2.5, 4.5))
    assert (place.below, place.above, place.rank) == (0, 0, 0.5)
    half = record("half", range(5))
    apart = compared(half, *others, record("other half", range(5, 10)))
    metric = next(metric for metric in apart.metrics if metric.name == "entropy")
    assert metric.place is None
    assert metric.reason == "1 of the fleet know it at these steps, 2 are needed"


def test_what_the_run_does_not_know_has_the_reason(runs: list[Path]) -> None:
    comparison = compared(*runs)
    metric = next(m for m in comparison.metrics if m.name == "log_ratio_p95_tool")
    assert (metric.place, metric.reason) == (None, "token log-ratios are not logged")


def test_rules_say_how_many_of_the_fleet_fired(runs: list[Path], collapsing_run: Path) -> None:
    comparison = compared(runs[3], runs[0], runs[4], collapsing_run)
    rule = next(item for item in comparison.rules if item.rule.name == "ess_collapse")
    assert (rule.fired, rule.median_first_alert) == (2, 7.0), "at steps 4 and 10"
    assert rule.course.first_alert is None
    assert comparison.verdicts == {"critical": 2, "healthy": 1}


def test_held_out_success_has_its_place(runs: list[Path], healthy_run: Path) -> None:
    found = compared(*runs, healthy_run).held_out
    assert found is not None
    assert (found.step, found.eval_horizon, found.share.rate) == (11, 8, 0.1)
    assert found.place.fleet == (0.3, 0.5, 0.7, 0.9)
    assert compared(healthy_run, *runs).held_out_reason == "no held-out evaluation is logged"
    alone = compared(runs[0], healthy_run, runs[1])
    assert alone.held_out is None
    assert alone.held_out_reason == (
        "at step 11: 1 of the fleet know it at these steps, 2 are needed"
    )


def test_settings_that_few_share_are_named(runs: list[Path]) -> None:
    config = {item.key: item for item in compared(*runs).config}
    assert set(config) == {"lr", "seed"}
    assert (config["lr"].value, config["lr"].usual, config["lr"].shared) == (0.3, 0.1, 0)
    assert "lr" not in {item.key for item in compared(*reversed(runs)).config}


def test_a_fleet_needs_a_run(healthy_run: Path) -> None:
    with pytest.raises(ValueError, match="at least one run beside"):
        compared(healthy_run)


@FAST
@given(st.sampled_from([0.0, 0.25, 0.5, 1.0]), VALUES)
def test_rank_and_quantiles_agree_with_a_slow_count(value: float, fleet: list[float]) -> None:
    place = Place(value, tuple(sorted(fleet)))
    slow = [1.0 if other < value else 0.5 if other == value else 0.0 for other in fleet]
    assert place.rank == pytest.approx(sum(slow) / len(slow))
    low, *inner, high = place.quantiles()
    assert (low, high) == (min(fleet), max(fleet))
    assert inner == pytest.approx(quantiles(fleet, n=4, method="inclusive"))


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "lower than all 3"), (2.0, "higher than all 3"), (0.4, "above 1 of 3")],
)
def test_a_place_in_words(value: float, words: str) -> None:
    assert describe_place(Place(value, (0.1, 0.5, 1.0))) == words
    assert describe_place(Place(0.5, (0.5, 0.5, 0.5))) == "above 0 of 3, equal to 3"


def test_it_is_printed_in_80_columns(runs: list[Path]) -> None:
    out = io.StringIO()
    print_fleet(compared(*runs, left_out=["x is not a run"]), Console(file=out, width=80))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "CRITICAL  run-0" in text
    assert "Fleet of 4: 4 healthy" in text
    assert "left out: x is not a run" in text
    assert re.search(r"ess_signal +0\.1\d+ .* lower than all 4", text)
    assert "lower than all 4" in text[text.index("Held-out") :]
    assert re.search(r"lr +0\.3 +0\.1 +0 of 4", text)


def keys(content: Any) -> set[str]:
    """All keys but the names of metrics and verdicts."""
    if isinstance(content, list):
        return set().union(*(keys(item) for item in content))
    if not isinstance(content, dict) or "healthy" in content:
        return set()
    found = set().union(*(keys(value) for value in content.values()))
    return found if "ess_signal" in content else found | set(content)


def test_every_key_of_the_json_is_documented(runs: list[Path]) -> None:
    content = json.loads(dump_json(fleet_as_dict(compared(*runs))), parse_constant=pytest.fail)
    assert content["metrics"]["ess_signal"]["place"]["rank"] == 0.0
    assert content["held_out"]["place"]["fleet"] == 4
    assert content["config"]
    named = set(re.findall(r"`([a-z_0-9]+)`", DOC.read_text(encoding="utf-8")))
    assert keys(content) <= named
