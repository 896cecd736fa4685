"""What-if answers against losses that are really changed and measured again."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth import Recorder, open_run
from mmhealth.errors import RunError
from mmhealth.estimators import ess, gini, top_share
from mmhealth.health import build_timeline
from mmhealth.health.metrics import step_metrics
from mmhealth.health.whatif import METRICS, Answer, Option, WhatIf, what_if
from mmhealth.health.whatif.near_misses import injections
from mmhealth.health.whatif.normalisation import normalisations
from mmhealth.health.whatif.staleness import staleness
from mmhealth.health.whatif.truncation import truncations
from mmhealth.interventions import VarianceConfig, VarianceCorrection, minimum_variance_baseline

SAMPLES = Path(__file__).parents[2] / "sample_logs"
GROUPS, SIZE = 8, 6
ROWS = GROUPS * SIZE


@dataclass
class Batch:
    """Trajectories of a linear softmax policy, and the loss ``mean(-w A log pi)`` over them."""

    policy: np.ndarray
    """(choices, features) logits are ``policy @ x``."""
    observations: list[np.ndarray]
    """(tokens, features) of each row."""
    actions: list[np.ndarray]
    group: np.ndarray
    success: np.ndarray
    reward: np.ndarray
    source: np.ndarray
    log_weight: np.ndarray
    advantage: np.ndarray

    @property
    def length(self) -> np.ndarray:
        return np.array([len(one) for one in self.actions])

    def grad_norms(self, loss_ratio: str = "sequence") -> np.ndarray:
        """Norm of the gradient of each row's term, token by token."""
        norms = []
        for row, (seen, taken) in enumerate(zip(self.observations, self.actions, strict=True)):
            gradient = np.zeros_like(self.policy)
            for x, action in zip(seen, taken, strict=True):
                odds = np.exp(self.policy @ x)
                chosen = np.eye(len(self.policy))[action]
                gradient += np.outer(chosen - odds / odds.sum(), x)
            share = 1 / len(taken) if loss_ratio == "geometric" else 1.0
            weight = math.exp(share * self.log_weight[row])
            norms.append(np.linalg.norm(-weight * self.advantage[row] * gradient / len(self.group)))
        return np.array(norms)

    def columns(self, loss_ratio: str = "sequence", **others: Any) -> dict[str, Any]:
        share = 1 / self.length if loss_ratio == "geometric" else 1.0
        columns = {
            "group_id": self.group,
            "success": self.success,
            "reward": self.reward,
            "source": self.source.tolist(),
            "length": self.length,
            "log_weight": self.log_weight,
            "weight_used": np.exp(share * self.log_weight),
            "advantage": self.advantage,
            "grad_norm": self.grad_norms(loss_ratio),
        } | others
        return {name: column for name, column in columns.items() if column is not None}


def make_batch(seed: int = 0, drift: float = 0.6) -> Batch:
    """Two of eight groups are solved, two failed; the loud source has 5 times the reward."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 30, ROWS)
    group = np.repeat(np.arange(GROUPS), SIZE)
    success = rng.random(ROWS) < 0.5
    success[group < 2], success[(group >= 2) & (group < 4)] = True, False
    for mixed in range(4, GROUPS):
        success[mixed * SIZE : mixed * SIZE + 2] = True, False
    source = np.where(group % 3 == 0, "raters", "verifier")
    reward = success * np.where(source == "raters", 5.0, 1.0)
    return Batch(
        policy=rng.normal(size=(3, 4)),
        observations=[rng.normal(size=(n, 4)) for n in length],
        actions=[rng.integers(0, 3, n) for n in length],
        group=group,
        success=success,
        reward=reward,
        source=source,
        log_weight=drift * rng.normal(size=ROWS),
        advantage=reward - np.array([reward[group == one].mean() for one in group]),
    )


def measured(
    batch: Batch, loss_ratio: str = "sequence", of: int = ROWS, rows: Any = slice(None)
) -> dict[str, float]:
    """The metrics of a batch, from scratch."""
    share = 1 / batch.length if loss_ratio == "geometric" else np.ones(len(batch.group))
    weight = np.exp(share * batch.log_weight)[rows]
    norms = batch.grad_norms(loss_ratio)[rows]

    def kish(values: np.ndarray) -> float:
        return float(values.sum() ** 2 / (values**2).sum() / of)

    return {
        "ess_contribution": kish(norms),
        "ess_signal": kish(weight * np.abs(batch.advantage[rows])),
        "ess_weight": kish(weight),
        "gini_grad_norm": float(
            np.abs(norms[:, None] - norms).mean() / (2 * norms.mean()),
        ),
        "top5_share": top_share(norms, 0.05),
    }


def record(path: Path, *steps: dict[str, Any], loss_ratio: str = "sequence") -> Path:
    with Recorder(path, loss_ratio=loss_ratio, strict=True) as recorder:
        for number, columns in enumerate(steps):
            recorder.log_step(number, columns)
    return path


def asked(path: Path, *steps: int, options: list[Option] | None = None) -> WhatIf:
    return what_if(open_run(path), steps or (0,), options)


def answer(result: WhatIf, name: str) -> Answer:
    return next(one for one in result.answers if one.name == name)


def then(found: Answer) -> dict[str, float]:
    return {name: effect.then for name, effect in found.effects.items()}


def corrected(batch: Batch, **divisors: np.ndarray) -> Batch:
    return replace(batch, advantage=batch.advantage / math.prod(divisors.values()))


def sigma(batch: Batch) -> np.ndarray:
    """(rows,) root mean square of each source, topped up to 32 rows with the pooled one."""
    pooled = (batch.advantage**2).mean()
    squares = {}
    for name in set(batch.source):
        own = batch.advantage[batch.source == name] ** 2
        missing = max(32 - len(own), 0)
        squares[name] = (own.sum() + missing * pooled) / (len(own) + missing)
    return np.sqrt([squares[name] for name in batch.source])


def grpo(batch: Batch) -> Batch:
    spread = np.array([batch.advantage[batch.group == one].std() for one in batch.group])
    return replace(batch, advantage=batch.advantage / np.where(spread > 0, spread, 1.0))


def least_variance(batch: Batch) -> Batch:
    score = replace(batch, advantage=np.ones(ROWS)).grad_norms()
    baseline = minimum_variance_baseline(batch.reward, score, batch.group)
    dead = batch.group < 4
    return replace(batch, advantage=np.where(dead, 0.0, batch.reward - baseline))


def truncated(batch: Batch, cap: float) -> Batch:
    return replace(batch, log_weight=np.minimum(batch.log_weight, math.log(cap)))


EXACT: dict[str, Callable[[Batch], Batch]] = {
    "variance_correction": lambda b: corrected(b, sigma=sigma(b), root=np.sqrt(b.length)),
    "source_sigma": lambda b: corrected(b, sigma=sigma(b)),
    "sqrt_length": lambda b: corrected(b, root=np.sqrt(b.length)),
    "group_std": grpo,
    "minimum_variance_baseline": least_variance,
    "truncate_1": lambda b: truncated(b, 1),
    "truncate_2": lambda b: truncated(b, 2),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", EXACT)
def test_exact_answers_are_what_the_changed_loss_measures(
    tmp_path: Path, name: str, seed: int
) -> None:
    batch = make_batch(seed)
    found = answer(asked(record(tmp_path / "r", batch.columns())), name)
    assert (found.kind, found.notes) == ("exact", ())
    assert then(found) == pytest.approx(measured(EXACT[name](batch)), rel=1e-9)
    assert {n: e.logged for n, e in found.effects.items()} == pytest.approx(measured(batch))


@pytest.mark.parametrize("cap", [1.0, 1.2])
def test_truncation_acts_at_the_level_of_the_loss(tmp_path: Path, cap: float) -> None:
    batch = make_batch(drift=6.0)
    run = record(tmp_path / "r", batch.columns("geometric"), loss_ratio="geometric")
    [found] = asked(run, options=truncations((cap,))).answers
    limit = math.log(cap) * batch.length
    changed = replace(batch, log_weight=np.minimum(batch.log_weight, limit))
    assert found.kind == "exact"
    assert then(found) == pytest.approx(measured(changed, "geometric"), rel=1e-9)


def test_truncation_comes_on_top_of_what_the_loss_has_truncated(tmp_path: Path) -> None:
    batch = make_batch()
    loss = truncated(batch, 2)
    columns = loss.columns(log_weight=batch.log_weight)
    result = asked(record(tmp_path / "r", columns))
    assert then(answer(result, "truncate_1")) == pytest.approx(measured(truncated(batch, 1)))
    assert then(answer(result, "truncate_5")) == pytest.approx(measured(loss))


def test_dead_groups_add_nothing_and_their_loss_takes_nothing(tmp_path: Path) -> None:
    batch = make_batch()
    result = asked(record(tmp_path / "r", batch.columns()))
    mixed = batch.group >= 4
    left = answer(result, "drop_dead_groups")
    assert left.kind == "exact"
    assert left.rank is None, "no trajectory becomes effective by leaving others out"
    assert then(left) == pytest.approx(measured(batch, rows=mixed))
    assert left.effects["ess_contribution"].gain == pytest.approx(0, abs=1e-12)
    refilled = answer(result, "refill_dead_groups")
    assert refilled.kind == "estimate"
    assert then(refilled) == pytest.approx(measured(batch, of=mixed.sum(), rows=mixed))
    assert (result.solved_groups, result.failed_groups) == (0.25, 0.25)


def test_leaving_groups_out_is_an_estimate_where_advantages_know_other_groups(
    tmp_path: Path,
) -> None:
    batch = make_batch()
    whole = replace(batch, advantage=batch.reward - batch.reward.mean())
    left = answer(asked(record(tmp_path / "r", whole.columns())), "drop_dead_groups")
    assert left.kind == "estimate"
    assert "not centred within groups" in " ".join(left.notes)


def test_as_logged_is_what_the_timeline_says(tmp_path: Path) -> None:
    run = open_run(record(tmp_path / "r", make_batch(0).columns(), make_batch(1).columns()))
    result = what_if(run, [1])
    [row] = build_timeline(run).frame.filter(step=1).to_dicts()
    for name in METRICS:
        column = f"{name}_update" if name.startswith("ess") else name
        assert result.logged[name].logged == row[column]


def test_fewer_log_weights_are_an_estimate_and_the_weight_ess_is_bounded(tmp_path: Path) -> None:
    batch = make_batch()
    run = record(tmp_path / "r", batch.columns())
    result = asked(run, options=staleness((0.5, 0.0)))
    half = measured(replace(batch, log_weight=batch.log_weight / 2))
    assert then(answer(result, "staleness_0.5")) == pytest.approx(half)
    fresh = answer(result, "staleness_0")
    assert fresh.effects["ess_contribution"].then == pytest.approx(
        measured(replace(batch, log_weight=np.zeros(ROWS)))["ess_contribution"]
    )
    assert "ess_weight" not in fresh.effects, "100 % by construction says nothing"
    assert {one.kind for one in result.answers} == {"estimate"}
    low, high = answer(result, "staleness_0.5").bounds["ess_weight"]
    assert (low, high) == (pytest.approx(measured(batch)["ess_weight"]), 1.0)
    assert all("limits of the weight ESS" in one.assumption for one in result.answers)


def test_limits_that_rest_on_an_assumption_are_no_bound(tmp_path: Path) -> None:
    run = record(tmp_path / "r", {"log_weight": [0.5, -0.5, 0.25, 0.0]})
    half, fresh = asked(run, options=staleness((0.5, 0.0))).answers
    assert (half.kind, list(half.bounds)) == ("estimate", ["ess_weight"])
    assert (fresh.kind, fresh.bounds) == (None, {})
    assert "100 % by construction" in fresh.reasons["ess_weight"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=2, max_size=30), st.floats(0, 1))
def test_fresher_weights_never_have_less_ess(log_weight: list[float], share: float) -> None:
    assert ess(share * np.array(log_weight)) >= ess(log_weight) - 1e-9


def test_injected_near_misses_by_hand(tmp_path: Path) -> None:
    batch = make_batch()
    verifier = np.full(ROWS, "verifier")
    batch = replace(batch, source=verifier, reward=batch.success * 1.0)
    mean = np.array([batch.reward[batch.group == one].mean() for one in batch.group])
    batch = replace(batch, advantage=batch.reward - mean)
    run = record(tmp_path / "r", batch.columns())
    result = asked(run, options=injections((2,)))
    norms, weight = batch.grad_norms(), np.exp(batch.log_weight)
    known = batch.advantage != 0
    score = np.median(norms[known] / (weight * np.abs(batch.advantage))[known])
    for name, dead in (("near_misses_2_failed", 2), ("near_misses_2_one_sided", 4)):
        found = answer(result, name)
        injected = np.full(2 * dead, score)  # |advantage| 1: reward 1 against a mean of 0
        every = np.concatenate([norms[known], injected])
        assert found.kind == "estimate"
        assert found.effects["ess_contribution"].then == pytest.approx(
            every.sum() ** 2 / (every**2).sum() / ROWS
        )
        _, most = found.bounds["ess_contribution"]
        assert most == pytest.approx(measured(batch)["ess_contribution"] + len(injected) / ROWS)
        assert found.effects["ess_contribution"].then <= most


def test_injection_is_predicted_where_the_sample_runs_part() -> None:
    """The same rollouts in both runs; in one of them 6 near misses enter every failed group."""
    baseline, repaired = open_run(SAMPLES / "collapsing"), open_run(SAMPLES / "fixed")
    first = int(repaired.updates.filter(role="injected")["step"].min())
    data = repaired.step_data(first)
    assert data is not None
    row = step_metrics(data, repaired.loss_ratio).values
    found = answer(what_if(baseline, [first], injections((6,))), "near_misses_6_failed")
    effect = found.effects["ess_contribution"]
    assert effect.then == pytest.approx(row["ess_contribution_update"], abs=0.01)
    assert effect.gain > 0.05
    assert found.effects["ess_signal"].then == pytest.approx(row["ess_signal_update"], abs=0.02)


def test_what_an_injected_row_would_weigh_is_bounded_where_it_is_not_known(tmp_path: Path) -> None:
    batch = make_batch()
    found = answer(asked(record(tmp_path / "grpo", grpo(batch).columns())), "near_misses_2_failed")
    assert found.kind == "bound"
    assert found.effects == {}
    assert found.rank is None
    assert "not rewards minus the mean" in found.notes[0]
    before = measured(grpo(batch))["ess_contribution"]
    assert found.bounds == {"ess_contribution": (None, pytest.approx(before + 4 / ROWS))}
    alone = replace(batch, success=np.zeros(ROWS, bool), reward=np.zeros(ROWS))
    alone = replace(alone, advantage=np.zeros(ROWS))
    found = answer(asked(record(tmp_path / "dead", alone.columns())), "near_misses_2_failed")
    assert found.kind == "bound"
    assert "no trajectory succeeded" in found.notes[0]
    assert found.bounds["ess_contribution"] == (None, pytest.approx(2 / SIZE))


def test_failures_into_solved_groups_are_shown_and_not_ranked(tmp_path: Path) -> None:
    run = record(tmp_path / "r", make_batch().columns())
    both = answer(asked(run), "near_misses_2_one_sided")
    assert both.effects["ess_contribution"].gain > 0
    assert both.rank is None
    assert "cost success" in str(both.against)


def test_options_are_ranked_by_the_contribution_ess_they_gain(tmp_path: Path) -> None:
    result = asked(record(tmp_path / "r", make_batch().columns()))
    ranked = [one for one in result.answers if one.rank is not None]
    gains = [one.effects["ess_contribution"].gain for one in ranked]
    assert [one.rank for one in ranked] == list(range(1, len(ranked) + 1))
    assert gains == sorted(gains, reverse=True)
    assert min(gains) > 0
    others = [one for one in result.answers if one.rank is None and one.against is None]
    assert all(one.effects["ess_contribution"].gain < 0.0005 for one in others if one.effects)
    assert result.answers[: len(ranked)] == ranked


@pytest.mark.parametrize(
    ("without", "lost", "reason"),
    [
        ("source", ("variance_correction", "source_sigma"), "source is not logged"),
        ("length", ("variance_correction", "sqrt_length"), "length is not logged"),
        ("group_id", ("group_std", "drop_dead_groups", "refill_dead_groups"), "group_id"),
        ("log_weight", ("truncate_1", "truncate_2", "staleness_0.5"), "log_weight is not logged"),
    ],
)
def test_missing_columns_are_named_and_make_no_number(
    tmp_path: Path, without: str, lost: tuple[str, ...], reason: str
) -> None:
    columns = make_batch().columns(**{without: None})
    result = asked(record(tmp_path / "r", columns))
    for name in lost:
        found = answer(result, name)
        assert (found.kind, found.effects, found.rank, found.bounds) == (None, {}, None, {})
        assert reason in str(found.missing)
    assert any(one.rank for one in result.answers)


def test_values_missing_in_some_rows_are_not_guessed(tmp_path: Path) -> None:
    source = [None, *make_batch().source[1:].tolist()]
    result = asked(record(tmp_path / "r", make_batch().columns(source=source)))
    found = answer(result, "variance_correction")
    assert found.missing == f"source is missing in 1 of {ROWS} sampled rows"


def test_without_gradient_norms_the_signal_ranks(tmp_path: Path) -> None:
    batch = make_batch()
    result = asked(record(tmp_path / "r", batch.columns(grad_norm=None)))
    assert result.ranked_by == "ess_signal"
    assert result.reasons["ess_contribution"] == "grad_norm is not logged"
    found = answer(result, "variance_correction")
    assert found.effects["ess_signal"].then == pytest.approx(
        measured(EXACT["variance_correction"](batch))["ess_signal"]
    )
    assert "ess_contribution" not in found.effects


def test_without_advantages_those_of_the_group_are_an_assumption(tmp_path: Path) -> None:
    batch = make_batch()
    result = asked(record(tmp_path / "r", batch.columns(advantage=None)))
    found = answer(result, "variance_correction")
    assert found.kind == "estimate"
    assert "taken as the reward minus the mean of its group" in found.notes[0]
    assert then(found) == pytest.approx(measured(EXACT["variance_correction"](batch)))
    columns = {name: batch.columns()[name] for name in ("group_id", "reward", "length")}
    result = asked(record(tmp_path / "rewards", columns))
    assert answer(result, "sqrt_length").kind == "estimate"
    assert result.ranked_by == "ess_signal"


def test_nothing_logged_is_insufficient_data_throughout(tmp_path: Path) -> None:
    result = asked(record(tmp_path / "r", {"entropy": [1.0, 2.0]}))
    assert result.logged == {}
    assert set(result.reasons) == set(METRICS)
    assert {(one.kind, one.rank) for one in result.answers} == {(None, None)}
    assert all(one.missing for one in result.answers)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", ["advantage", "grad_norm", "log_weight", "reward"])
def test_rows_that_are_not_finite_are_left_out(tmp_path: Path, column: str, value: float) -> None:
    batch = make_batch()
    values = np.array(batch.columns()[column], np.float64)
    values[[3, 30]] = value
    changes = {column: values}
    if column == "log_weight":
        changes["weight_used"] = np.exp(values)
    result = asked(record(tmp_path / "r", batch.columns(**changes)))
    found = answer(result, "sqrt_length")
    lost = np.isin(np.arange(ROWS), [3, 30]) & (column == "grad_norm")
    expected = measured(EXACT["sqrt_length"](batch), rows=~lost, of=int((~lost).sum()))
    assert found.effects["gini_grad_norm"].then == pytest.approx(expected["gini_grad_norm"])
    for one in result.answers:
        assert one.effects or one.missing or one.bounds
        assert all(math.isfinite(effect.then) for effect in one.effects.values())


def test_on_policy_there_is_nothing_to_truncate(tmp_path: Path) -> None:
    result = asked(record(tmp_path / "r", make_batch(drift=0.0).columns()))
    assert (
        answer(result, "truncate_1").missing
        == "on-policy: no weight differs from 1 by more than rounding"
    )
    assert answer(result, "staleness_0").kind is None


def test_token_losses_have_no_weights_to_truncate_and_can_be_normalised(tmp_path: Path) -> None:
    batch = make_batch(drift=0.0)
    columns = batch.columns(log_weight=None, weight_used=None)
    result = asked(record(tmp_path / "r", columns, loss_ratio="token"))
    assert "token ratios" in str(answer(result, "truncate_1").missing)
    found = answer(result, "variance_correction")
    changed = measured(EXACT["variance_correction"](batch))
    assert found.kind == "exact"
    assert found.effects["ess_contribution"].then == pytest.approx(changed["ess_contribution"])


def test_weights_that_are_not_known_to_be_the_losses_make_an_estimate(tmp_path: Path) -> None:
    batch = make_batch()
    result = asked(record(tmp_path / "a", batch.columns(weight_used=None)))
    assert answer(result, "truncate_1").kind == "estimate"
    assert answer(result, "variance_correction").kind == "exact"
    result = asked(record(tmp_path / "b", batch.columns(weight_at=["after"] * ROWS)))
    assert "after the update" in str(answer(result, "truncate_1").missing)


def test_gradients_of_other_terms_make_an_estimate(tmp_path: Path) -> None:
    batch = make_batch()
    columns = batch.columns(grad_norm=batch.grad_norms() + 0.01)
    found = answer(asked(record(tmp_path / "r", columns)), "sqrt_length")
    assert found.kind == "estimate"
    assert "grad_norm holds other terms" in " ".join(found.notes)
    with Recorder(tmp_path / "kl", strict=True) as recorder:
        recorder.log_step(0, batch.columns(), {"kl_coef": 0.1})
    found = answer(asked(tmp_path / "kl"), "sqrt_length")
    assert found.kind == "estimate"
    assert answer(asked(tmp_path / "kl"), "drop_dead_groups").kind == "exact"


def test_after_an_earlier_update_of_the_step_nothing_is_exact(tmp_path: Path) -> None:
    batch = make_batch()
    columns = batch.columns()
    of_update = ("log_weight", "weight_used", "advantage", "grad_norm")
    with Recorder(tmp_path / "r", strict=True) as recorder, recorder.step(0) as step:
        step.add({n: column for n, column in columns.items() if n not in of_update})
        for update in range(2):
            rows = {"trajectory_id": np.arange(ROWS)}
            step.update(rows | {n: columns[n] for n in of_update}, update=update)
    result = asked(tmp_path / "r")
    assert {one.kind for one in result.answers} == {"estimate"}
    assert "2 updates" in result.notes[0]


def test_swapped_rows_teach_sigma_and_injected_ones_do_not(tmp_path: Path) -> None:
    batch = make_batch()
    columns = batch.columns()
    role = np.full(ROWS, "used", dtype=object)
    role[::SIZE], role[1::SIZE] = "replaced", "injected"
    run = record(tmp_path / "r", columns | {"role": role.tolist()})
    found = answer(asked(run, options=normalisations()), "variance_correction")
    correction, sampled = VarianceCorrection(), role != "injected"
    advantage = correction.normalise(
        batch.advantage, batch.source, batch.length, observed=np.asarray(sampled)
    )
    trained = np.asarray(role != "replaced")
    changed = measured(replace(batch, advantage=advantage), of=int(trained.sum()), rows=trained)
    assert then(found) == pytest.approx(changed)


def test_a_window_is_the_mean_of_its_steps_and_sigma_remembers(tmp_path: Path) -> None:
    batches = [make_batch(seed) for seed in range(3)]
    run = record(tmp_path / "r", *(batch.columns() for batch in batches))
    correction = VarianceCorrection()
    expected = []
    for batch in batches:
        advantage = correction.normalise(batch.advantage, batch.source, batch.length)
        expected.append(measured(replace(batch, advantage=advantage)))
    found = answer(asked(run, 2, 0, 1), "variance_correction")
    for name in METRICS:
        assert found.effects[name].then == pytest.approx(np.mean([one[name] for one in expected]))
        assert found.effects[name].steps == 3
    with pytest.raises(RunError, match="no step 7"):
        asked(run, 7)


def test_a_mean_compares_the_same_steps(tmp_path: Path) -> None:
    batches = [make_batch(0), make_batch(1)]
    run = record(tmp_path / "r", batches[0].columns(source=None), batches[1].columns())
    result = asked(run, 0, 1)
    found = answer(result, "source_sigma").effects["ess_contribution"]
    assert found.steps == 1
    assert found.logged == pytest.approx(measured(batches[1])["ess_contribution"])
    assert result.logged["ess_contribution"].steps == 2


def test_weights_of_one_do_not_stand_in_where_the_run_had_weights(tmp_path: Path) -> None:
    batch = make_batch()
    later = batch.columns(log_weight=None, weight_used=None)
    run = record(tmp_path / "r", batch.columns(), later)
    assert build_timeline(open_run(run)).frame["ess_signal"][1] is None
    assert "was at step 0" in asked(run, 1).reasons["ess_signal"]


def test_steps_that_are_not_complete_are_left_out(tmp_path: Path) -> None:
    columns = make_batch().columns()
    with Recorder(tmp_path / "r", rank=0, world_size=2, attempt=0, strict=True) as recorder:
        recorder.log_step(0, columns)
    run = open_run(tmp_path / "r")
    assert run.complete_steps() == []
    with pytest.raises(RunError, match="no complete step"):
        what_if(run, run.complete_steps())
    with pytest.raises(RunError, match="has no step 1: it has steps 0 to 0"):
        what_if(run, [1])
    assert "step 0 is not complete" in what_if(run, [0]).notes


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_changes_nothing(tmp_path: Path, seed: int) -> None:
    columns = {name: np.asarray(column) for name, column in make_batch().columns().items()}
    order = np.random.default_rng(seed).permutation(ROWS)
    shuffled = {name: column[order] for name, column in columns.items()}
    results = [asked(record(tmp_path / str(i), one)) for i, one in enumerate((columns, shuffled))]
    for left, right in zip(*(result.answers for result in results), strict=True):
        assert (left.name, left.kind, left.rank) == (right.name, right.kind, right.rank)
        assert then(left) == pytest.approx(then(right), rel=1e-12)


@pytest.fixture(scope="module")
def f3(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains the reference trainer's F3, which mixes sources and lengths, with a fix or without."""
    pytest.importorskip("torch")
    from mmhealth.reference import preset, train

    folder = tmp_path_factory.mktemp("f3")

    def make(name: str, steps: int, advantage: str = "group", **fixes: Any) -> Path:
        config = preset("F3", "baseline")
        config = replace(
            config,
            loop=replace(config.loop, advantage=advantage),
            fixes=replace(config.fixes, **fixes),
        )
        if not (folder / name).exists():
            train(
                run_dir=folder / name,
                config=config,
                steps=steps,
                checkpoint_every=0,
                progress=False,
            )
        return folder / name

    return make


FIXES: dict[str, dict[str, Any]] = {
    "variance_correction": {"variance": VarianceConfig()},
    "source_sigma": {"variance": VarianceConfig(by_length=False)},
    "sqrt_length": {"variance": VarianceConfig(by_source=False)},
    "group_std": {"advantage": "group_std"},
    "minimum_variance_baseline": {"minimum_variance": True},
}


@pytest.mark.parametrize("name", FIXES)
def test_the_first_step_of_a_real_run_is_predicted(f3: Callable[..., Path], name: str) -> None:
    """With one seed the first step samples the same rollouts with the fix and without."""
    found = answer(asked(f3("baseline", 3), 0), name)
    run = open_run(f3(name, 3 if name == "variance_correction" else 1, **FIXES[name]))
    row = build_timeline(run).frame.row(0, named=True)
    assert found.kind == "exact"
    for metric in ("ess_contribution", "ess_signal", "gini_grad_norm", "top5_share"):
        assert found.effects[metric].then == pytest.approx(row[metric], abs=1e-4)


def test_the_first_rounds_of_the_variance_correction_are_predicted(f3: Callable[..., Path]) -> None:
    """Policies part from the second step on, slowly."""
    found = answer(asked(f3("baseline", 3), 0, 1, 2), "variance_correction")
    changed = open_run(f3("variance_correction", 3, **FIXES["variance_correction"]))
    logged = build_timeline(changed).frame["gini_grad_norm"].mean()
    assert found.effects["gini_grad_norm"].then == pytest.approx(logged, abs=0.03)
    assert found.effects["gini_grad_norm"].gain < -0.1


def test_metrics_agree_with_their_estimators() -> None:
    norms = make_batch().grad_norms()
    assert measured(make_batch())["gini_grad_norm"] == pytest.approx(gini(norms))
