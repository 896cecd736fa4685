import numpy as np
import pytest

from mmhealth import Recorder, open_run
from mmhealth.health.contribution import step_contribution


def _step(path, columns, loss_ratio="sequence"):
    with Recorder(path, loss_ratio=loss_ratio, strict=True) as recorder:
        recorder.log_step(0, columns)
    return step_contribution(open_run(path).step_data(0), loss_ratio)


def test_gradient_norms_largest_first_with_shares(tmp_path):
    found = _step(tmp_path / "r", {"reward": [0.0, 1.0, 2.0], "grad_norm": [1.0, 6.0, 3.0]})
    assert found.basis == "grad_norm"
    assert found.frame["trajectory_id"].to_list() == [1, 2, 0]
    assert found.frame["reward"].to_list() == [1.0, 2.0, 0.0]
    assert found.frame["contribution_share"].to_list() == pytest.approx([0.6, 0.3, 0.1])


def test_without_gradient_norms_it_is_advantage_times_weight(tmp_path):
    found = _step(
        tmp_path / "r", {"advantage": [1.0, -4.0, 0.0], "log_weight": np.log([2.0, 1.0, 9.0])}
    )
    assert found.basis == "signal"
    assert found.values.to_list() == pytest.approx([4.0, 2.0, 0.0])
    assert "grad_norm is not logged" in found.describe()


def test_with_neither_it_says_so_and_keeps_the_rows(tmp_path):
    found = _step(tmp_path / "r", {"reward": [1.0, 2.0]})
    assert found.basis is None
    assert found.values.is_empty()
    assert len(found.frame) == 2
    assert found.describe().startswith("insufficient data")


def test_the_last_update_of_each_trajectory_counts(tmp_path):
    with Recorder(tmp_path / "r", strict=True) as recorder, recorder.step(0) as step:
        step.add({"reward": [1.0, 2.0]})
        step.update({"trajectory_id": [0, 1], "grad_norm": [9.0, 1.0]}, update=0)
        step.update({"trajectory_id": [0, 1], "grad_norm": [1.0, 3.0]}, update=1)
    found = step_contribution(open_run(tmp_path / "r").step_data(0), "sequence")
    assert found.frame["trajectory_id"].to_list() == [1, 0]
    assert found.values.to_list() == pytest.approx([3.0, 1.0])


def test_ids_that_are_text_in_one_table_and_numbers_in_the_other_are_joined(tmp_path):
    with Recorder(tmp_path / "r", strict=True) as recorder, recorder.step(0) as step:
        step.add({"reward": [1.0, 2.0]})
        step.update({"trajectory_id": ["0", "1"], "grad_norm": [1.0, 3.0]})
    found = step_contribution(open_run(tmp_path / "r").step_data(0), "sequence")
    assert found.basis == "grad_norm"
    assert found.frame["reward"].to_list() == [2.0, 1.0]
    assert found.frame["contribution_share"].to_list() == pytest.approx([0.75, 0.25])


def test_weights_missing_in_some_rows_are_not_taken_for_one(tmp_path):
    found = _step(tmp_path / "r", {"advantage": [1.0, 2.0], "log_weight": [0.5, None]})
    assert found.basis is None
    assert "log_weight is missing in 1 of 2" in found.describe()
