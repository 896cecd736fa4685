"""From whatever a trainer holds to Arrow columns.

A column is a torch tensor (any device, dtype, with or without gradient), a NumPy array or a list,
one value a row, or a single value for all rows. Everything is copied: the trainer may reuse its
buffers. torch is never imported here: a tensor can only arrive where torch is loaded already.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from mmhealth.errors import RecordError
from mmhealth.schema import Kind, Table

RESERVED = ("rank", "attempt")
"""Columns that the reader adds."""

_SCALARS = (bool, int, float, str)


def to_columns(
    table: Table, columns: Mapping[str, Any], refuse: Callable[[str, str], None]
) -> dict[str, pa.Array]:
    """Convert the columns of one call, all of the same length.

    A column that cannot be stored is left out and handed to ``refuse(column, why)``. The length is
    the one that most columns have.
    """
    arrays: dict[str, pa.Array] = {}
    single: dict[str, Any] = {}
    for name, values in columns.items():
        try:
            if not name:
                raise RecordError("a column without a name cannot be asked for; name it")
            if name in RESERVED:
                raise RecordError(f"the name {name!r} is taken by the reader; rename the column")
            if values is None:
                continue
            if isinstance(values, _SCALARS):
                single[name] = values
            else:
                arrays[name] = _to_array(values, table.kind(name))
        except (RecordError, ValueError, TypeError, OverflowError, RuntimeError) as error:
            refuse(name, str(error).splitlines()[0])
    lengths = Counter(len(array) for array in arrays.values())
    rows = lengths.most_common(1)[0][0] if lengths else 1
    for name in [name for name, array in arrays.items() if len(array) != rows]:
        refuse(name, f"{len(arrays.pop(name))} values where the other columns have {rows}")
    for name, value in single.items():
        try:
            arrays[name] = _to_array([value] * rows, table.kind(name))
        except (RecordError, ValueError, TypeError, OverflowError) as error:
            refuse(name, str(error).splitlines()[0])
    return arrays


def warm_up() -> None:
    """Let `pyarrow.array` look for pandas now, not in the first step: importing it takes long."""
    pa.array([""], pa.string())


def flat_numbers(values: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """Any tensor, array or (nested) list of numbers as a flat NumPy array."""
    array = np.asarray(_to_host(values)).reshape(-1)
    if array.dtype.kind not in "fiub":
        raise RecordError(f"expected numbers, got dtype {array.dtype}")
    return array


def _to_host(values: Any) -> Any:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(values, torch.Tensor):
        return values
    tensor = values.detach().to("cpu")
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.to(torch.float32)
    return tensor.numpy()


def _to_array(values: Any, kind: Kind | None) -> pa.Array:
    values = _to_host(values)
    if isinstance(values, np.ma.MaskedArray):
        values = values.tolist()
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise RecordError(f"shape {values.shape} where one value a row was expected")
        array = _from_numpy(values)
    else:
        array = values if isinstance(values, pa.Array) else _from_list(values)
    if kind is not None and pa.types.is_null(array.type):
        return pa.nulls(len(array), _NULL_TYPES[kind])
    return _CASTS[kind](array)


_NULL_TYPES: dict[Kind, pa.DataType] = {
    "id": pa.int64(),
    "integer": pa.int64(),
    "real": pa.float64(),
    "flag": pa.bool_(),
    "text": pa.string(),
    "integers": pa.list_(pa.int64()),
}
"""What a column of nothing but nulls is stored as."""

_PYTHON_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def _from_list(values: Any) -> pa.Array:
    """A list as Arrow. Without a type, `pyarrow.array` looks for pandas at each call."""
    first = next((value for value in values if value is not None), None)
    if dtype := _PYTHON_TYPES.get(type(first)):
        try:
            return pa.array(values, dtype)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            pass
    return pa.array(values)


def _from_numpy(values: np.ndarray[Any, np.dtype[Any]]) -> pa.Array:
    """A copy as Arrow; plain numbers without detours."""
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    if values.dtype.kind in "bUO":
        return pa.array(values.copy())
    if values.dtype.kind not in "fiu" or values.dtype.itemsize > 8:
        raise RecordError(f"dtype {values.dtype} where numbers, flags or text were expected")
    native = np.array(values, values.dtype.newbyteorder("="), order="C", copy=True)
    dtype = pa.from_numpy_dtype(native.dtype)
    return pa.Array.from_buffers(dtype, native.size, [None, pa.py_buffer(native)])


def integers(values: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Array:
    """An int64 column of the reader's own making."""
    return _from_numpy(values)


def _cast_real(array: pa.Array) -> pa.Array:
    if pa.types.is_float32(array.type) or pa.types.is_float64(array.type):
        return array
    if _is_number(array.type) or pa.types.is_boolean(array.type):
        return array.cast(pa.int64()).cast(pa.float64())
    return _refuse(array, "numbers")


def _cast_integer(array: pa.Array) -> pa.Array:
    if array.type == pa.int64():
        return array
    if _is_number(array.type):
        return array.cast(pa.int64())
    return _refuse(array, "integers")


def _cast_flag(array: pa.Array) -> pa.Array:
    if pa.types.is_boolean(array.type):
        return array
    if _is_number(array.type):
        as_integer = array.cast(pa.int64())
        if all(value in (0, 1, None) for value in as_integer.unique().to_pylist()):
            return as_integer.cast(pa.bool_())
    return _refuse(array, "booleans, or numbers that are 0 or 1")


def _cast_text(array: pa.Array) -> pa.Array:
    if array.type == pa.string():
        return array
    if pa.types.is_large_string(array.type):
        return array.cast(pa.string())
    return _refuse(array, "text")


def _cast_id(array: pa.Array) -> pa.Array:
    return _cast_integer(array) if pa.types.is_integer(array.type) else _cast_text(array)


def _cast_integers(array: pa.Array) -> pa.Array:
    return array.cast(pa.list_(pa.int64()))


def _cast_any(array: pa.Array) -> pa.Array:
    if pa.types.is_null(array.type) or pa.types.is_boolean(array.type):
        return array
    if pa.types.is_integer(array.type):
        return _cast_integer(array)
    if pa.types.is_floating(array.type):
        return _cast_real(array)
    return _cast_text(array)


def _is_number(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype))


def _refuse(array: pa.Array, expected: str) -> pa.Array:
    raise RecordError(f"{array.type} where {expected} were expected")


_CASTS: dict[Kind | None, Callable[[pa.Array], pa.Array]] = {
    "id": _cast_id,
    "integer": _cast_integer,
    "real": _cast_real,
    "flag": _cast_flag,
    "text": _cast_text,
    "integers": _cast_integers,
    None: _cast_any,
}


def unify(batch: dict[str, pa.Array], schema: pa.Schema | None) -> tuple[pa.RecordBatch, set[str]]:
    """Fit columns to a schema that only ever grows: missing columns become null, types widen.

    Returns the batch and the names of columns whose type contradicts what was logged before.
    """
    if not schema:
        columns = {name: a for name, a in batch.items() if not pa.types.is_null(a.type)}
        return pa.record_batch(columns), set()
    if batch.keys() == set(schema.names):
        arrays = [batch[field.name] for field in schema]
        if all(array.type == field.type for array, field in zip(arrays, schema, strict=True)):
            return pa.RecordBatch.from_arrays(arrays, schema=schema), set()
    rows = len(next(iter(batch.values())))
    contradicting: set[str] = set()
    fields: dict[str, pa.Array] = {}
    for field in schema:
        array = batch.get(field.name)
        if array is None or pa.types.is_null(array.type):
            array = pa.nulls(rows, field.type)
        elif array.type != field.type:
            if (widened := _widened(array, field.type)) is None:
                contradicting.add(field.name)
            array = pa.nulls(rows, field.type) if widened is None else widened
        fields[field.name] = array
    for name, array in batch.items():
        if name not in fields and not pa.types.is_null(array.type):
            fields[name] = array
    return pa.record_batch(fields), contradicting


def _widened(array: pa.Array, before: pa.DataType) -> pa.Array | None:
    """Values as a type that holds those of ``before``, too; None where there is none."""
    try:
        if _is_number(before) and _is_number(array.type):
            return array.cast(pa.float64())
        if {before, array.type} == {pa.string(), pa.int64()}:
            return array.cast(pa.string())
    except pa.ArrowInvalid:  # a whole number that no float64 holds
        return None
    return None
