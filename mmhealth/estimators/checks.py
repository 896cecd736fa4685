"""What every estimator demands of its input, in one place."""

import operator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmhealth.errors import EstimatorInputError

FloatArray = NDArray[np.float64]


def as_floats(values: ArrayLike, name: str) -> FloatArray:
    """Any array of numbers as float64.

    Raises EstimatorInputError, naming `name`, when it is no array of real numbers.
    """
    try:
        raw = np.asarray(values)
        if raw.size == 0:
            return np.empty(raw.shape, dtype=np.float64)
        if raw.dtype.kind not in "biufO":
            raise EstimatorInputError(f"{name}: expected numbers, got dtype {raw.dtype}")
        return np.asarray(raw, dtype=np.float64)
    except EstimatorInputError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise EstimatorInputError(f"{name}: expected an array of numbers: {error}") from error


def finite(values: ArrayLike, name: str) -> FloatArray:
    """A non-empty array of finite numbers as float64, of any shape; else EstimatorInputError."""
    array = as_floats(values, name)
    if array.size == 0:
        raise EstimatorInputError(f"{name}: no values")
    if not np.isfinite(array).all():
        raise EstimatorInputError(f"{name}: NaN or infinite values; filter and count them first")
    return array


def finite_vector(values: ArrayLike, name: str) -> FloatArray:
    """A non-empty vector (n,) of finite numbers as float64; else EstimatorInputError."""
    return _one_dimensional(finite(values, name), name)


def non_negative_vector(values: ArrayLike, name: str) -> FloatArray:
    """A non-empty vector (n,) of finite numbers >= 0 as float64; else EstimatorInputError."""
    array = finite_vector(values, name)
    if array.min() < 0:
        raise EstimatorInputError(f"{name}: negative values")
    return array


def log_vector(values: ArrayLike, name: str, *, allow_empty: bool = False) -> FloatArray:
    """A vector (n,) of logarithms as float64; -inf is the log of zero and welcome.

    Raises EstimatorInputError for NaN, +inf, another shape, and (unless allowed) no values.
    """
    array = _one_dimensional(as_floats(values, name), name)
    if array.size == 0 and not allow_empty:
        raise EstimatorInputError(f"{name}: no values")
    if array.size and not array.max() < np.inf:
        raise EstimatorInputError(f"{name}: NaN or +inf values; filter and count them first")
    return array


def ascending(values: FloatArray) -> FloatArray:
    """The values (n,) in order; those that are in order already are not sorted again."""
    return values if (values[1:] >= values[:-1]).all() else np.sort(values)


def same_length(first: NDArray[np.generic], second: NDArray[np.generic], names: str) -> None:
    """Raise EstimatorInputError unless both arrays have the same shape."""
    if first.shape != second.shape:
        raise EstimatorInputError(f"{names}: shapes {first.shape} and {second.shape} differ")


def as_count(value: object, name: str) -> int:
    """A whole number >= 0 as int; else EstimatorInputError."""
    try:
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise EstimatorInputError(f"{name}: expected a whole number, got {value!r}") from error
    if count < 0:
        raise EstimatorInputError(f"{name}: negative: {count}")
    return count


def _one_dimensional(array: FloatArray, name: str) -> FloatArray:
    if array.ndim != 1:
        raise EstimatorInputError(f"{name}: expected one dimension, got shape {array.shape}")
    return array
