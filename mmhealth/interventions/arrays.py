"""What every intervention demands of its input: arrays, lists or tensors on any device."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def as_numpy(values: Any) -> npt.NDArray[Any]:
    """Anything array-like as a NumPy array; a tensor is detached, and float64 if it is floating."""
    if not hasattr(values, "detach"):
        return np.asarray(values)
    tensor = values.detach().cpu()
    return np.asarray(tensor.double() if tensor.is_floating_point() else tensor)


def numbers(values: Any, name: str, *, pending: bool = False) -> FloatArray:
    """Numbers of any shape as float64.

    Raises ValueError, naming the argument, for infinite values; for NaN too unless ``pending``.
    """
    array = as_numpy(values)
    if array.dtype.kind not in "biuf" and array.size:
        raise ValueError(f"{name}: expected numbers, got dtype {array.dtype}")
    array = array.astype(np.float64)
    if np.isinf(array).any() or (np.isnan(array).any() and not pending):
        raise ValueError(f"{name}: NaN or infinite values; leave such rows out and count them")
    return array


def vector(values: Any, name: str, rows: int | None = None, *, pending: bool = False) -> FloatArray:
    """One number a row as float64 (rows,).

    Raises ValueError as `numbers` does, and for another shape or length.
    """
    array = numbers(values, name, pending=pending)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected one value a row, got shape {array.shape}")
    if rows is not None and len(array) != rows:
        raise ValueError(f"{name}: {len(array)} values for {rows} rows")
    return array


def labels(values: Any, name: str, rows: int) -> tuple[list[str], npt.NDArray[np.intp]]:
    """Distinct labels as text, sorted, and for each row (rows,) the position of its label.

    Raises ValueError, naming the argument, for a missing label (None, NaN) or a wrong length.
    """
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    if not isinstance(listed, list) or len(listed) != rows:
        raise ValueError(f"{name}: expected {rows} labels, one a row")
    if any(label is None or isinstance(label, list) or _is_nan(label) for label in listed):
        raise ValueError(f"{name}: missing or nested labels; give such rows a label of their own")
    distinct, positions = np.unique(np.array([str(label) for label in listed]), return_inverse=True)
    return distinct.tolist(), positions.astype(np.intp)


def mask(values: Any, name: str, rows: int) -> npt.NDArray[np.bool_]:
    """One flag a row, (rows,) bool; None is all True.

    Raises ValueError for another type, shape or length.
    """
    array = np.ones(rows, np.bool_) if values is None else as_numpy(values)
    if array.dtype != np.bool_ or array.shape != (rows,):
        raise ValueError(f"{name}: expected {rows} booleans, got {array.dtype} {array.shape}")
    return array


def fraction(value: float, name: str, *, below_one: bool = False) -> None:
    """Raise ValueError unless ``value`` lies in [0, 1], or in [0, 1) with ``below_one``."""
    if not 0 <= value <= 1 or (below_one and value == 1):
        raise ValueError(f"{name} must lie in [0, 1{')' if below_one else ']'}, got {value}")


def not_negative(value: float, name: str) -> None:
    """Raise ValueError unless ``value`` is a finite number of at least 0."""
    if not 0 <= value < np.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value}")


def positive(value: float, name: str) -> None:
    """Raise ValueError unless ``value`` is a finite number above 0."""
    if not 0 < value < np.inf:
        raise ValueError(f"{name} must be finite and above 0, got {value}")


def _is_nan(label: object) -> bool:
    return isinstance(label, float) and math.isnan(label)
