from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from mmhealth import Recorder, open_run
from mmhealth.runlog.columns import to_columns, unify
from mmhealth.schema import TRAJECTORIES, UPDATES


def convert(columns: dict[str, Any], table: Any = UPDATES) -> tuple[dict[str, Any], dict[str, str]]:
    refused: dict[str, str] = {}
    arrays = to_columns(table, columns, refused.__setitem__)
    return {name: array.to_pylist() for name, array in arrays.items()}, refused


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int32, torch.int64],
)
def test_tensors_of_any_dtype(dtype: torch.dtype) -> None:
    arrays, refused = convert({"advantage": torch.tensor([1, 2, 3], dtype=dtype)})
    assert arrays == {"advantage": [1.0, 2.0, 3.0]}
    assert not refused


def test_tensor_with_gradient_non_contiguous() -> None:
    tensor = torch.arange(6.0, requires_grad=True).reshape(3, 2)[:, 1]
    arrays, _ = convert({"advantage": tensor})
    assert arrays["advantage"] == [1.0, 3.0, 5.0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f8", np.uint8, np.int64, bool])
def test_arrays_of_any_dtype(dtype: Any) -> None:
    arrays, refused = convert({"advantage": np.array([1, 0, 1], dtype=dtype)})
    assert arrays["advantage"] == [1.0, 0.0, 1.0]
    assert not refused


def test_real_columns_keep_their_precision() -> None:
    arrays = to_columns(UPDATES, {"advantage": np.ones(2, np.float32)}, lambda *_: None)
    assert arrays["advantage"].type == pa.float32()
    arrays = to_columns(UPDATES, {"advantage": np.ones(2)}, lambda *_: None)
    assert arrays["advantage"].type == pa.float64()


def test_nan_infinity_and_null_stay_apart() -> None:
    arrays, _ = convert({"advantage": [float("nan"), float("inf"), None, 1]})
    assert np.isnan(arrays["advantage"][0])
    assert arrays["advantage"][1:] == [float("inf"), None, 1.0]


def test_what_is_logged_is_a_copy() -> None:
    array, tensor = np.ones(3), torch.ones(3)
    arrays = to_columns(UPDATES, {"advantage": array, "grad_norm": tensor}, lambda *_: None)
    array[:], tensor[:] = 7, 7
    assert arrays["advantage"].to_pylist() == arrays["grad_norm"].to_pylist() == [1, 1, 1]


def test_single_values_hold_for_all_rows() -> None:
    arrays, _ = convert({"reward": [1.0, 2.0], "source": "human", "horizon": 6}, TRAJECTORIES)
    assert arrays["source"] == ["human"] * 2
    assert arrays["horizon"] == [6, 6]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"advantage": ["a", "b"]}, "string where numbers"),
        ({"advantage": np.ones((2, 1))}, "shape (2, 1)"),
        ({"advantage": torch.ones(2, 2)}, "shape (2, 2)"),
        ({"advantage": torch.ones(2, dtype=torch.complex64)}, "complex64"),
        ({"advantage": [object(), object()]}, "object"),
        ({"advantage": torch.ones(2, device="meta")}, "meta"),
        ({"rank": [0, 1]}, "taken by the reader"),
        ({"advantage": [1.0, 2.0], "grad_norm": [1.0], "log_weight": [1.0, 2.0]}, "1 values"),
        ({"update": [0.5, 1.5]}, "truncated"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_the_reason(
    columns: dict[str, Any], why: str
) -> None:
    _, refused = convert(columns)
    assert len(refused) == 1
    assert why in next(iter(refused.values()))


def test_success_may_be_zero_or_one_and_nothing_else() -> None:
    assert convert({"success": [0.0, 1.0, None]}, TRAJECTORIES)[0]["success"] == [False, True, None]
    assert "0 or 1" in convert({"success": [0, 2]}, TRAJECTORIES)[1]["success"]
    assert convert({"success": [0.0, 0.5]}, TRAJECTORIES)[1]


def test_ids_are_integers_or_text() -> None:
    assert convert({"group_id": np.array(["a", "b"])}, TRAJECTORIES)[0]["group_id"] == ["a", "b"]
    assert convert({"group_id": torch.arange(2)}, TRAJECTORIES)[0]["group_id"] == [0, 1]
    assert convert({"group_id": [0.5, 1.0]}, TRAJECTORIES)[1]


def test_schema_only_grows() -> None:
    first, _ = unify({"a": pa.array([1]), "b": pa.array(["x"])}, None)
    second, bad = unify({"a": pa.array([1.5]), "c": pa.array([True])}, first.schema)
    assert not bad
    assert second.to_pylist() == [{"a": 1.5, "b": None, "c": True}]
    third, bad = unify({"a": pa.array(["text"]), "b": pa.array([3])}, second.schema)
    assert bad == {"a"}
    assert third.to_pylist() == [{"a": None, "b": "3", "c": None}]


def test_a_column_without_a_name_is_left_out_and_counted(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run") as rec:
        rec.log_step(0, batch(0) | {"": np.arange(64)}, {"": 1.0, "loss": 2.0})
    run = open_run(tmp_path / "run")
    assert {loss.kind: loss.count for loss in run.status().losses} == {"column": 2}
    assert len(run.trajectories) == 64
    assert run.steps["loss"].to_list() == [2.0]


def test_whole_numbers_that_no_float_holds_are_nulls_beside_floats(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as recorder:
        for step, custom in enumerate(([0.5, 1.5], [2**60, 2**60 + 1], [3, 4])):
            recorder.log_step(step, {"reward": [0.0, 1.0], "custom": custom})
    run = open_run(tmp_path / "run")
    assert run.trajectories["custom"].to_list() == [0.5, 1.5, None, None, 3.0, 4.0]
    assert [(loss.kind, loss.count) for loss in run.status().losses] == [("column", 1)]
