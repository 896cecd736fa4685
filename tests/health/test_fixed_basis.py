"""The signal basis never changes within a run."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder, open_run
from mmhealth.health import Timeline, build_timeline
from mmhealth.health.blame import blame
from mmhealth.health.whatif import what_if

HEAVY = {"advantage": [1.0] * 64, "log_weight": [9.0] + [0.0] * 63}
BARE = {"advantage": [1.0] * 64}
ANOTHER_BASIS = "log_weight is not logged here, and was at step {}"


def record(path: Path, steps: list[dict[str, Any]], **recorder: Any) -> Timeline:
    with Recorder(path, **recorder) as rec:
        for step, columns in enumerate(steps):
            rec.log_step(step, columns)
    return build_timeline(open_run(path))


def test_a_hole_in_the_weights_is_not_filled_with_ones(tmp_path: Path) -> None:
    hole = HEAVY | {"log_weight": [9.0, None] + [0.0] * 62}
    timeline = record(tmp_path, [HEAVY, hole, HEAVY])
    first, second, third = timeline.frame["ess_signal"]
    assert first == third == pytest.approx(1 / 64, rel=0.1)
    assert second is None
    for metric in ("ess_signal", "ess_signal_update", "ess_signal_nominal", "ess_weight"):
        assert timeline.reason(1, metric) is not None
    assert timeline.reason(1, "ess_signal") == "log_weight is missing in 1 of 64 sampled rows"


@pytest.mark.parametrize("loss_ratio", ["sequence", "geometric", "token", "none"])
def test_without_weights_all_count_one(tmp_path: Path, loss_ratio: str) -> None:
    null = BARE | {"log_weight": [None] * 64}
    timeline = record(tmp_path, [BARE, null], loss_ratio=loss_ratio)
    assert timeline.frame["ess_signal"].to_list() == [1, 1]


@pytest.mark.parametrize("loss_ratio", ["token", "none"])
def test_weights_that_the_loss_does_not_use_do_not_enter(tmp_path: Path, loss_ratio: str) -> None:
    timeline = record(tmp_path, [HEAVY, BARE], loss_ratio=loss_ratio)
    assert timeline.frame["ess_signal"].to_list() == [1, 1]


def test_geometric_weights_need_the_length(tmp_path: Path) -> None:
    timeline = record(tmp_path, [HEAVY], loss_ratio="geometric")
    assert timeline.reason(0, "ess_signal") == "length is not logged"


def test_steps_after_the_first_weights_cannot_go_without(tmp_path: Path) -> None:
    timeline = record(tmp_path, [BARE, HEAVY, BARE])
    assert timeline.frame["ess_signal"][0] == 1
    assert timeline.frame["ess_signal"][2] is None
    for metric in ("ess_signal", "ess_signal_update"):
        assert str(timeline.reason(2, metric)).startswith(ANOTHER_BASIS.format(1))
    assert timeline.updates["ess_signal"][2] is None
    assert timeline.frame["ess_signal_ceiling"][2] == 1


def test_an_older_reason_stays(tmp_path: Path) -> None:
    timeline = record(tmp_path, [HEAVY, {"grad_norm": [1.0] * 64}])
    assert timeline.reason(1, "ess_signal") == "advantage is not logged"


@pytest.mark.parametrize("seed", range(4))
def test_polls_and_the_order_of_ranks_make_no_difference(tmp_path: Path, seed: int) -> None:
    """Rank 1 logs weights and lags behind rank 0, which never does; complete, they have holes."""
    rng = np.random.default_rng(seed)
    weighs = {(rank, step): rng.random() < 0.2 for rank in (0, 1) for step in range(12)}
    order = [(0, step) for step in range(12)]
    for step in range(12):
        behind = order.index((0, step))
        order.insert(int(rng.integers(behind + 1, len(order) + 1)), (1, step))
    order.sort(key=lambda item: item[0] * 3 + item[1])
    recorders = [Recorder(tmp_path, rank=rank, world_size=2, attempt=0) for rank in (0, 1)]
    live = Timeline(open_run(tmp_path))
    for rank, step in order:
        recorders[rank].log_step(step, HEAVY if weighs[rank, step] else BARE)
        if rng.random() < 0.5:
            live.update()
            fresh = build_timeline(open_run(tmp_path))
            assert live.frame.equals(fresh.frame)
            assert live.reasons() == fresh.reasons()
    for recorder in recorders:
        recorder.close()


@pytest.mark.parametrize("hidden", [HEAVY, BARE])
def test_weights_of_an_attempt_that_is_hidden_fix_the_basis_for_all_who_ask(
    tmp_path: Path, hidden: dict[str, Any]
) -> None:
    record(tmp_path, [hidden, HEAVY, HEAVY])
    timeline = record(tmp_path, [BARE, BARE, BARE], start_step=0)
    run = open_run(tmp_path)
    first = 0 if hidden is HEAVY else 1
    for step in range(3):
        why = timeline.reason(step, "ess_signal")
        assert str(why).startswith(ANOTHER_BASIS.format(first))
        assert blame(run, [step], basis="signal").reason == why
        assert what_if(run, [step]).reasons["ess_signal"] == why


def test_weights_that_come_late_change_the_steps_after_them(tmp_path: Path) -> None:
    """Rank 1 brings the first weights to step 2 after steps up to 9 were judged."""
    zero, one = (Recorder(tmp_path, rank=rank, world_size=2, attempt=0) for rank in (0, 1))
    live = Timeline(open_run(tmp_path))
    for step in range(10):
        zero.log_step(step, BARE)
    live.update()
    judged = live.frame["ess_signal"].to_list()
    assert judged == [1] * len(judged)
    for step in range(10):
        one.log_step(step, HEAVY if step == 2 else BARE)
        changed = live.update()
        assert changed is not None
        assert changed.step <= max(step, 2)
    fresh = build_timeline(open_run(tmp_path))
    assert live.frame.equals(fresh.frame)
    known = [value is not None for value in live.frame["ess_signal"]]
    assert known == [True, True] + [False] * 8
    assert all(a >= b for a, b in pairwise(known))
    zero.close()
    one.close()
