"""What is read step by step, against the same computed from all rows of the run at once."""

import math
import shutil

import numpy as np
import polars as pl
import pytest

from mmhealth import Recorder, estimators, open_run
from mmhealth.engines import SerialEngine
from mmhealth.health import Monitor, stepcache, windows
from mmhealth.health.diagnosis import diagnose
from mmhealth.health.diagnosis.record import open_record
from mmhealth.schema import SAMPLED_ROLES

CLOSE = 1e-12
"""Relative difference that the order of a sum may make; none is known that it does."""
COMPONENTS = ["reward_verifiable", "reward_preference", "reward_late"]


def messy(batch):
    """Values of all kinds missing or odd, and rows that were not sampled."""
    rows, rng = len(batch.columns["reward"]), batch.rng

    def some(values, *odd):
        chosen = rng.random(rows) < 0.1
        return [odd[i % len(odd)] if chosen[i] else v for i, v in enumerate(values)]

    columns = batch.columns
    columns["role"] = some(["used"] * rows, "replaced", "injected")
    columns["reward"] = some(columns["reward"].tolist(), math.nan, None)
    columns["reward_preference"] = some(columns["reward_preference"].tolist(), math.inf)
    columns["reward_label"] = ["good"] * rows
    columns["reward_never"] = np.full(rows, None, object).tolist()
    columns["subagents"] = some(columns["subagents"].tolist(), None)
    columns["horizon"] = some(columns["horizon"].tolist(), None)
    columns["behavior_lag"] = rng.integers(0, 9, rows)
    if batch.step >= 7:
        columns["reward_late"] = rng.integers(3, size=rows)
    if batch.step == 11:
        columns["reward_late"] = rng.normal(size=rows)
    if batch.step % 5 == 0:
        columns["success"] = [None] * rows
    batch.parts["mismatch"] = np.where(rng.random(rows) < 0.2, math.nan, batch.parts["mismatch"])


@pytest.fixture(scope="module")
def messy_run(course):
    """Also restarted: four steps are hidden."""
    return course(messy, restarts=[22])


@pytest.fixture(scope="module")
def record(messy_run):
    return open_record(messy_run)


def all_rows(run, table):
    return getattr(run, table).filter(pl.col("role").fill_null("used").is_in(SAMPLED_ROLES))


def by_loop(record, compute):
    """(steps,) what ``compute`` makes of the rows of each step."""
    frame = all_rows(record.run, "trajectories")
    return np.array([compute(frame.filter(step=int(step))) for step in record.steps], np.float64)


def column(rows, name):
    return rows[name].cast(pl.Float64).fill_null(math.nan).to_numpy()


def around_means(rows, names, keys):
    """(rows, names) values less the mean of their group, of rows in which all are finite."""
    values = np.stack([column(rows, name) for name in names], 1)
    finite = np.isfinite(values).all(1)
    values, groups = values[finite], rows.select(keys).filter(pl.Series(finite)).rows()
    means = {g: values[[other == g for other in groups]].mean(0) for g in set(groups)}
    return values - np.array([means[group] for group in groups]).reshape(values.shape)


def test_the_components_are_numbers_that_have_values(record):
    assert record.components == COMPONENTS


@pytest.mark.parametrize("name", ["reward", "behavior_lag", "subagents", "serial", "reward_late"])
def test_means(record, name):
    def mean(rows):
        values = column(rows, name)
        values = values[np.isfinite(values)]
        return math.fsum(values) / values.size if values.size else math.nan

    np.testing.assert_allclose(record.mean(name), by_loop(record, mean), rtol=CLOSE)


def test_wide_share(record):
    def wide(rows):
        return np.mean(rows["subagents"].drop_nulls().to_numpy() > 1)

    np.testing.assert_array_equal(record.reading("wide"), by_loop(record, wide))


def test_flat_groups(record):
    def flat(rows):
        found = []
        for _, group in rows.group_by("group_id"):
            values = [column(group, name) for name in COMPONENTS]
            values = [v[np.isfinite(v)] for v in values]
            spans = [np.ptp(v) <= 1e-6 * np.abs(v).max() for v in values if v.size]
            known = all(v.size for v in values)
            if len(group) > 1 and (known or not all(spans)):
                found.append(all(spans))
        return np.mean(found) if found else math.nan

    np.testing.assert_array_equal(record.reading("flat"), by_loop(record, flat))


@pytest.mark.parametrize("name", COMPONENTS)
def test_products_of_success_and_a_component(record, name):
    for which, one, two in (("aa", 0, 0), ("bb", 1, 1), ("ab", 0, 1)):

        def product(rows, one=one, two=two):
            values = around_means(rows, ["success", name], ["group_id"])
            return values[:, one] @ values[:, two] if len(values) else math.nan

        found = record.reading(f"told {name} {which}")
        np.testing.assert_allclose(found, by_loop(record, product), rtol=1e-9, atol=CLOSE)


def test_the_fit_of_the_reward(record):
    frame = all_rows(record.run, "trajectories")
    early = frame.filter(pl.col("step") <= np.quantile(record.steps, 1 / 3))
    values = around_means(early, ["reward", "violated", *COMPONENTS], ["step", "group_id"])
    fit = record.readings.violations
    whole = np.linalg.lstsq(values[:, 1:], values[:, 0])[0]
    assert fit.rows == len(values) > 0
    np.testing.assert_allclose(fit.coefficients(), whole, rtol=1e-9, atol=CLOSE)
    np.testing.assert_allclose(fit.spreads(), values.std(0), rtol=1e-9)


def test_losses_of_the_weights(record):
    updates = all_rows(record.run, "updates").sort("step", "update", maintain_order=True)
    expected = []
    for step in record.steps:
        of_step = updates.filter(step=int(step)).partition_by("rank", "trajectory_id")
        first = [column(rows, "log_weight")[0] for rows in of_step]
        last = [column(rows, "log_weight")[-1] for rows in of_step]
        mismatch = [column(rows, "log_weight_mismatch")[0] for rows in of_step]
        parts = mismatch, np.subtract(first, mismatch), np.subtract(last, first)
        expected.append([*map(loss, parts), np.mean([len(rows) for rows in of_step])])
    found = record.parts
    assert found.has_mismatch
    np.testing.assert_allclose(
        np.stack([found.mismatch, found.age, found.reuse, found.updates], 1), expected, rtol=1e-9
    )


def test_the_order_of_rows_changes_no_loss(tmp_path):
    found = []
    mixed = np.random.default_rng(1).permutation(50)
    for name, order in (("ascending", np.arange(50)), ("mixed", mixed)):
        rng = np.random.default_rng(0)
        with Recorder(tmp_path / name, strict=True) as recorder:
            for step in range(4):
                log_weight = rng.normal(size=50)
                use = {"trajectory_id": order, "log_weight": log_weight[order]}
                recorder.log_step(step, use)
        found.append(open_record(open_run(tmp_path / name)).parts)
    ascending, other = found
    assert (ascending.age > 0.4).all()
    for part in ("age", "reuse", "updates"):
        np.testing.assert_array_equal(getattr(ascending, part), getattr(other, part))


def loss(log_weights):
    known = [x for x in log_weights if math.isfinite(x)]
    return -math.log(estimators.ess(known) / len(known))


def test_horizons(record):
    frame = all_rows(record.run, "trajectories")
    assert record.readings.horizons == sorted(set(frame["horizon"].drop_nulls()))


def test_the_diagnosis_does_not_depend_on_who_reads_which_steps(messy_run, tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_ROWS", 300)
    monkeypatch.setattr(stepcache, "WORTH_S", 0.0)
    alone = diagnose(messy_run)
    assert alone.findings
    for _ in range(2):  # the second time from the cache
        monitor = Monitor(messy_run.path, engine=SerialEngine(), cache=tmp_path, readings=True)
        monitor.poll()
        assert diagnose(monitor) == alone


def test_what_was_read_before_is_diagnosed_without_its_rows(messy_run, tmp_path, monkeypatch):
    monkeypatch.setattr(stepcache, "WORTH_S", 0.0)
    path = shutil.copytree(messy_run.path, tmp_path / "run")
    found = []
    for _ in range(2):
        monitor = Monitor(path, cache=tmp_path / "cache", readings=True)
        for table in ("trajectories", "updates") if found else ():
            for segment in (path / table).iterdir():
                segment.write_bytes(b"")
        monitor.poll()
        found.append(diagnose(monitor))
    whole, rowless = found
    assert whole.findings == rowless.findings
    assert whole.borderline == rowless.borderline
    assert set(whole.ruled_out) - set(rowless.ruled_out) <= {"gradient domination"}  # needs rows


def test_what_a_monitor_has_read_is_diagnosed_alike(messy_run):
    monitor = Monitor(messy_run.path)
    monitor.poll()
    assert diagnose(monitor) == diagnose(messy_run)
