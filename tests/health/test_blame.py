"""Blame over real run directories, against the timeline, against loops, and on planted slices."""

import math
from pathlib import Path

import numpy as np
import pytest

from mmhealth import Recorder, open_run
from mmhealth.errors import RunError
from mmhealth.health import build_timeline
from mmhealth.health.blame import LISTED, blame, last_steps
from mmhealth.health.pairs import RULED_OUT

SAMPLE = Path(__file__).parents[2] / "sample_logs" / "collapsing"


def recorded(path, *steps, **recorder):
    with Recorder(path, strict=True, **recorder) as rec:
        for step, columns in enumerate(steps):
            rec.log_step(step, columns)
    return open_run(path)


def ess_of(values):
    return sum(values) ** 2 / sum(x * x for x in values)


def gini_of(values):
    n, total = len(values), sum(values)
    return sum(abs(a - b) for a in values for b in values) / (2 * n * total)


def top_of(values, fraction=0.05):
    left, taken = fraction * len(values), 0.0
    for value in sorted(values, reverse=True):
        taken += min(max(left, 0), 1) * value
        left -= 1
    return taken / sum(values)


def check_metrics(found, values):
    assert found.rows == len(values)
    assert found.ess == pytest.approx(ess_of(values), rel=1e-9)
    assert found.ess_fraction == pytest.approx(ess_of(values) / len(values), rel=1e-9)
    assert found.gini == pytest.approx(gini_of(values), abs=1e-9)
    assert found.top5_share == pytest.approx(top_of(values), rel=1e-9)


def test_every_slice_against_loops(tmp_path):
    rng = np.random.default_rng(0)
    norms = rng.lognormal(0, 1, 60)
    columns = {
        "source": rng.choice(["a", "b", "c"], 60).tolist(),
        "turns": rng.integers(2, size=60),
    }
    run = recorded(tmp_path / "r", {**columns, "grad_norm": norms})
    found = blame(run, [0])
    assert (found.basis, found.reason, found.steps) == ("contribution", None, (0,))
    assert found.columns == {"source": 3, "turns": 2}
    assert found.largest_share == pytest.approx(max(norms) ** 2 / sum(norms**2))
    check_metrics(found.whole, norms.tolist())
    for item in found.slices:
        inside = np.array([str(value) == item.slice for value in columns[item.column]])
        assert item.rows == inside.sum()
        assert item.share_of_rows == pytest.approx(inside.mean())
        assert item.share_of_sum == pytest.approx(norms[inside].sum() / norms.sum())
        assert item.share_of_sum_sq == pytest.approx((norms[inside] ** 2).sum() / (norms**2).sum())
        top = np.sort(norms)[-3:]
        assert item.share_of_top == pytest.approx(
            norms[inside & (norms >= top[0])].sum() / top.sum()
        )
        excess = max(item.share_of_sum_sq - item.share_of_rows, 0)
        sure = min(math.log(max(item.chance, 1e-9)) / math.log(RULED_OUT), 1)
        assert item.blame == pytest.approx(excess * sure)
        check_metrics(item.without, norms[~inside].tolist())


@pytest.mark.parametrize("basis", ["contribution", "signal", "weight"])
@pytest.mark.parametrize("steps", [[100], range(150, 160)])
def test_what_the_slices_of_a_column_hold_sums_to_the_whole(basis, steps):
    found = blame(open_run(SAMPLE), steps, basis=basis)
    for column, count in found.columns.items():
        parts = [item for item in found.slices if item.column == column]
        if count > LISTED:
            assert len(parts) == LISTED
            continue
        assert sum(item.rows for item in parts) == found.whole.rows
        for name in ("share_of_rows", "share_of_sum", "share_of_sum_sq", "share_of_top"):
            assert sum(getattr(item, name) for item in parts) == pytest.approx(1, rel=0, abs=1e-12)
        total = math.fsum(item.gini_part for item in parts)
        assert total == pytest.approx(found.whole.gini, rel=0, abs=1e-12)


def check_against_timeline(run, step):
    row = build_timeline(run).frame.row(step, named=True)
    for basis in ("contribution", "signal", "weight"):
        whole = blame(run, [step], basis=basis).whole
        assert (whole and whole.ess_fraction) == pytest.approx(row[f"ess_{basis}"], rel=1e-12)
    whole = blame(run, [step], basis="contribution").whole
    assert whole.gini == pytest.approx(row["gini_grad_norm"], rel=1e-12)
    assert whole.top5_share == pytest.approx(row["top5_share"], rel=1e-12)


def test_the_whole_is_what_the_timeline_says(tmp_path, batch):
    check_against_timeline(open_run(SAMPLE), 100)
    columns = batch(1) | {"grad_norm": np.where(np.arange(64) == 9, np.nan, batch(1)["grad_norm"])}
    check_against_timeline(recorded(tmp_path / "nan", columns), 0)
    assert blame(open_run(tmp_path / "nan"), [0]).nonfinite == 1
    with Recorder(tmp_path / "roles") as rec, rec.step(0) as s:
        s.add({"trajectory_id": range(8), "source": list("aaaabbbb")})
        s.add({"trajectory_id": range(8, 12)}, role="injected")
        rows = {"grad_norm": [1.0, 2.0, 3.0, 4.0], "advantage": [1.0, -1.0, 2.0, 1.0]}
        rows["log_weight"] = [0.1, 0.2, 0.3, -math.inf]
        s.update({"trajectory_id": range(4)} | rows)
        s.update({"trajectory_id": range(8, 12)} | rows, role="injected")
    run = open_run(tmp_path / "roles")
    check_against_timeline(run, 0)
    found = blame(run, [0])
    assert found.whole.rows == 8
    [idle] = [item for item in found.slices if (item.column, item.slice) == ("source", "b")]
    assert (idle.rows, idle.share_of_sum, idle.gini_part) == (4, 0, 0)
    assert idle.without.ess_fraction == pytest.approx(2 * found.whole.ess_fraction)
    assert idle.without.gini == found.whole.gini


def random_columns(rng, rows):
    """Columns of random kinds that say nothing of the norms."""
    prompts = np.repeat(np.arange(rows // 8), 8)
    columns = {"group_id": prompts}
    for name in rng.choice(["source", "flag", "turns", "x", "length", "task"], 4, replace=False):
        count = int(rng.integers(2, 7))
        columns[str(name)] = {
            "source": rng.choice(list("abcdef"[:count]), rows),
            "flag": rng.random(rows) < rng.uniform(0.1, 0.9),
            "turns": rng.integers(0, count, rows),
            "x": rng.normal(size=rows),
            "length": rng.integers(1, 2000, rows),
            "task": np.array(list("uvwxyz"))[rng.integers(0, count, rows // 8)][prompts],
        }[name]
    return columns


def random_slice(rng, columns):
    """A column and the rows of one of its slices: 8 rows to half of them, 3 prompts or more."""
    while True:
        name = str(rng.choice(list(columns)))
        values = columns[name]
        if name == "length":
            values = np.floor(np.log2(values))
        if name == "x":
            values = np.searchsorted(
                np.sort(values)[len(values) // 4 - 1 :: len(values) // 4], values
            )
        inside = values == rng.choice(values)
        prompts = len(set(columns["group_id"][inside]))
        if 8 <= inside.sum() <= len(inside) / 2 and (prompts >= 3 or name == "group_id"):
            return name, inside


def test_a_planted_slice_is_named_first_in_100_of_100(tmp_path):
    rng = np.random.default_rng(0)
    steps, planted = [], []
    for _ in range(100):
        columns = random_columns(rng, 128)
        name, inside = random_slice(rng, columns)
        tail = np.where(inside, rng.lognormal(math.log(6), 0.4, 128), 1.0)
        steps.append(columns | {"grad_norm": rng.lognormal(0, 0.5, 128) * tail})
        planted.append((name, inside))
    run = recorded(tmp_path / "r", *steps)
    assert {name for name, _ in planted} >= {"group_id", "source", "turns", "x", "length", "task"}
    for step, (name, inside) in enumerate(planted):
        first, *_ = blame(run, [step]).slices
        assert (first.column, first.rows) == (name, inside.sum()), step
        squares = steps[step]["grad_norm"] ** 2
        assert first.share_of_sum_sq == pytest.approx(squares[inside].sum() / squares.sum())
        assert first.without.ess_fraction > 0.6


def test_noise_blames_nobody(tmp_path):
    rng = np.random.default_rng(1)
    steps = [random_columns(rng, 128) | {"grad_norm": rng.lognormal(0, 1, 128)} for _ in range(40)]
    run = recorded(tmp_path / "r", *steps)
    found = [blame(run, [step]) for step in range(40)]
    assert not any(item.pairs for item in found)
    assert sum(item.slices[0].chance < 0.05 for item in found) <= 1
    assert np.median([item.slices[0].blame for item in found]) < 0.05


def test_noise_that_is_alike_within_groups_blames_no_column_that_is(tmp_path):
    """Both have a group effect; the column is the same in a group, or but for some of its rows."""
    rng = np.random.default_rng(0)
    groups, steps = np.repeat(np.arange(32), 8), []
    for _ in range(30):
        norms = rng.lognormal(0, 0.8, 32)[groups] * rng.lognormal(0, 0.2, 256)
        same = rng.choice(list("abcd"), 32)[groups]
        one_off = np.where(np.arange(256) == 0, np.where(same == "a", "b", "a"), same)
        mostly = np.where(rng.random(256) < 0.1, rng.choice(list("abcd"), 256), same)
        columns = {"group_id": groups, "source": same, "one_off": one_off, "mostly": mostly}
        steps.append(columns | {"grad_norm": norms})
    run = recorded(tmp_path / "r", *steps)
    for column in ("source", "one_off", "mostly"):
        found = [blame(run, [step], by=[column]).slices for step in range(30)]
        assert sum(min(item.chance for item in slices) <= RULED_OUT for slices in found) <= 1
        assert np.mean([slices[0].blame for slices in found]) < 0.05


def test_a_slice_that_is_nearly_alike_within_groups_is_blamed_all_the_same(tmp_path):
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(32), 8)
    source = rng.choice(list("abcd"), 32)[groups]
    source[0] = "a" if source[0] != "a" else "b"
    norms = rng.lognormal(0, 0.4, 32)[groups] * np.where(source == "c", 8.0, 1.0)
    columns = {"group_id": groups, "source": source, "grad_norm": norms}
    first, *_ = blame(recorded(tmp_path / "r", columns), [0]).slices
    assert (first.column, first.slice) == ("source", "c")
    assert first.chance <= RULED_OUT


def test_one_trajectory_or_one_group_that_holds_nearly_everything_is_no_slice(tmp_path):
    rng = np.random.default_rng(2)
    columns = {"group_id": np.repeat(range(16), 4), "flag": rng.random(64) < 0.5}
    columns["source"] = np.repeat(["a", "b", "c", "d"], 16)
    one = columns | {"grad_norm": np.where(np.arange(64) == 5, 50.0, 1.0)}
    group = columns | {"grad_norm": np.where(columns["group_id"] == 3, 50.0, 1.0)}
    run = recorded(tmp_path / "r", one, group)
    found = blame(run, [0])
    assert found.slices[0].blame < 0.05
    assert found.largest_share > 0.95
    first, second, *_ = blame(run, [1]).slices
    assert (first.column, first.slice) == ("group_id", "3")
    assert first.blame > 0.9
    assert second.blame < 0.1, "a source is dealt in whole groups"


def test_a_pair_is_listed_where_neither_column_explains_it(tmp_path):
    rng = np.random.default_rng(3)
    columns = {"a": rng.choice(list("pq"), 256), "b": rng.choice(list("uvw"), 256)}
    columns["c"] = rng.choice(list("xyz"), 256)
    a, b = columns["a"] == "p", columns["b"] == "u"
    noise = rng.lognormal(0, 0.3, 256)
    both = columns | {"grad_norm": noise * np.where(a & b, 8, 1)}
    either = columns | {"grad_norm": noise * np.where(a, 8, 1)}
    copied = either | {"b": columns["a"]}
    run = recorded(tmp_path / "r", both, either, copied)
    [pair] = blame(run, [0]).pairs
    assert (pair.columns, pair.slices) == (("a", "b"), ("p", "u"))
    assert pair.rows == (a & b).sum()
    squares = both["grad_norm"] ** 2
    held = [squares[x].sum() * (a & b).sum() / x.sum() / squares.sum() for x in (a, b)]
    assert pair.explained == pytest.approx(max(held))
    assert pair.share_of_sum_sq == pytest.approx(squares[a & b].sum() / squares.sum())
    assert pair.without.ess_fraction > 0.8
    assert blame(run, [1]).pairs == []
    assert blame(run, [2]).pairs == []


def test_a_window_is_one_batch_and_leaves_out_what_it_does_not_know(tmp_path):
    rows = {"group_id": [0, 0, 1, 1], "source": list("abab")}
    norms = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]
    steps = [rows | {"grad_norm": values, "advantage": [1.0] * 4} for values in norms]
    run = recorded(tmp_path / "r", *steps, rows | {"advantage": [9.0] * 4})
    found = blame(run, [2, 1, 0])
    assert (found.basis, found.steps) == ("contribution", (0, 1))
    assert found.left_out == {2: "grad_norm is not logged"}
    check_metrics(found.whole, norms[0] + norms[1])
    of_step = {item.slice: item for item in found.slices if item.column == "step"}
    check_metrics(of_step["0"].without, norms[1])
    groups = {item.slice: item for item in found.slices if item.column == "group_id"}
    check_metrics(groups["1, step 0"].without, [1.0, 2.0, *norms[1]])
    assert blame(run, [2]).basis == "signal"


def test_the_order_of_the_rows_changes_nothing(tmp_path):
    rng = np.random.default_rng(4)
    columns = random_columns(rng, 64) | {"grad_norm": rng.lognormal(0, 1, 64)}
    order = rng.permutation(64)
    run = recorded(tmp_path / "r", columns, {name: x[order] for name, x in columns.items()})
    first, second = blame(run, [0]), blame(run, [1])
    assert (first.whole, first.slices, first.pairs) == (second.whole, second.slices, second.pairs)


@pytest.mark.parametrize(
    ("columns", "loss_ratio", "basis", "why"),
    [
        ({"reward": [1.0, 0.0]}, "none", None, "no sampled rows"),
        ({"advantage": [1.0, 2.0]}, "none", "contribution", "grad_norm is not logged"),
        ({"advantage": [1.0, 2.0]}, "none", "weight", "no importance ratio"),
        ({"log_weight": [1.0, 2.0]}, "token", "weight", "token ratios"),
        ({"log_weight": [0.0, 0.0]}, "sequence", "weight", "on-policy"),
        ({"grad_norm": [1.0, None]}, "none", "contribution", "missing in 1 of 2"),
        ({"grad_norm": [math.nan, math.inf]}, "none", "contribution", "2 of 2 rows are not finite"),
        ({"grad_norm": [0.0, 0.0], "advantage": [1.0, 2.0]}, "none", None, "all values are zero"),
    ],
)
def test_insufficient_data_has_its_reason(tmp_path, columns, loss_ratio, basis, why):
    found = blame(recorded(tmp_path / "r", columns, loss_ratio=loss_ratio), [0], basis=basis)
    assert found.whole is None
    assert not found.slices
    assert why in found.reason


def test_what_is_left_without_a_slice_may_be_insufficient(tmp_path):
    columns = {"source": ["a", "b", "b"], "grad_norm": [1.0, 0.0, 0.0]}
    first, _ = blame(recorded(tmp_path / "r", columns), [0]).slices
    assert (first.slice, first.without.ess) == ("a", 0)
    assert first.without.gini is first.without.top5_share is None
    assert "all values are zero" in first.without.reasons["gini"]


def test_the_signal_basis_does_not_change_within_a_run(tmp_path):
    weighted = {"advantage": [1.0, 2.0], "log_weight": [0.1, 0.2]}
    run = recorded(tmp_path / "r", weighted, {"advantage": [1.0, 2.0]})
    found = blame(run, [1], basis="signal")
    assert found.reason == build_timeline(run).reason(1, "ess_signal")


def test_columns_asked_for_and_those_that_are_not_there(tmp_path):
    run = recorded(tmp_path / "r", {"source": list("ab"), "turns": [1, 2], "grad_norm": [1.0, 2.0]})
    found = blame(run, [0], by=["turns", "modality"])
    assert {item.column for item in found.slices} == {"turns"}
    assert found.skipped == {"modality": "not logged"}


def test_the_last_steps_are_complete_and_a_step_that_is_not_is_marked(tmp_path):
    for rank in range(2):
        with Recorder(tmp_path / "r", rank=rank, world_size=2, attempt=0) as rec:
            for step in range(4 - rank):
                rec.log_step(step, {"source": list("ab"), "grad_norm": [1.0, 2.0 + rank]})
    run = open_run(tmp_path / "r")
    assert last_steps(run, 2) == [1, 2]
    assert last_steps(run, 9) == [0, 1, 2]
    found = blame(run, [2, 3])
    assert found.incomplete == (3,)
    assert found.columns == {"rank": 2, "source": 2, "step": 2}
    with pytest.raises(RunError, match="has no step 7: it has steps 0 to 3"):
        blame(run, [7])


def test_a_run_without_steps(tmp_path):
    run = recorded(tmp_path / "r")
    assert last_steps(run) == []
    assert blame(run, []).reason == "no step is logged"
