"""One step being recorded: rows are gathered here and committed together."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmhealth.errors import RecordError
from mmhealth.estimators import log_ratio_histogram, merge_histograms
from mmhealth.runlog.columns import RESERVED, flat_numbers, integers, to_columns
from mmhealth.schema import (
    ROLES,
    SAMPLED_ROLES,
    STEPS,
    TRAJECTORIES,
    UPDATE_ROLES,
    UPDATES,
    Role,
    Table,
)

Columns = Mapping[str, Any]
Refuse = Callable[[str, str], None]


class StepRecord:
    """Gathers what happened in one step; `Recorder.step` hands it out and commits it.

    All columns are listed in `mmhealth.schema`; others are kept as they are.
    """

    def __init__(self, step: int, refuse: Refuse, guard: Callable[..., Any]) -> None:
        self.step = step
        self._refuse = refuse
        self._guard = guard
        self._parts: dict[str, list[dict[str, pa.Array]]] = {"trajectories": [], "updates": []}
        self._roles: Counter[str] = Counter()
        self._ids: list[pa.Array] = []
        self._id_roles: list[pa.Array] = []
        self._scalars: dict[str, float] = {}
        self._histograms: dict[str, np.ndarray[Any, np.dtype[np.int64]]] = {}
        self.nominal_batch: int | None = None

    def add(self, columns: Columns, *, role: Role | None = None) -> None:
        """Add trajectories: one value a row in every column.

        ``role`` holds for all of them (default ``used``, unless there is a column ``role``). Rows
        are numbered in order where ``trajectory_id`` is not given.
        """
        with self._guard("step", self.step):
            self._add(columns, role)

    def update(
        self, columns: Columns, *, update: int | None = None, role: Role | None = None
    ) -> None:
        """Add how trajectories were used in one optimizer step, numbered ``update`` (default 0).

        Without ``trajectory_id`` there must be one row for each trajectory added so far, in order.
        Without a role each row has the role of its trajectory.
        """
        with self._guard("step", self.step):
            self._update(columns, update, role)

    def scalars(self, values: Mapping[str, float]) -> None:
        """Add numbers that describe the whole step on this rank: loss, lr, kl_coef ..."""
        with self._guard("step", self.step):
            for name, value in values.items():
                if not name:
                    self._refuse(name, "a scalar without a name cannot be asked for; name it")
                    continue
                if STEPS.kind(name) or name in RESERVED:
                    self._refuse(name, "this name is taken; rename the scalar")
                    continue
                try:
                    self._scalars[name] = float(value)
                except (TypeError, ValueError) as error:
                    self._refuse(name, str(error))

    def log_ratios(self, values: Any, *, mask: Any = None, after_tool: Any = None) -> None:
        """Add token log-ratios (nats, any shape); only their histogram is kept.

        ``mask`` selects the tokens that count, ``after_tool`` those that follow a tool result.
        """
        with self._guard("step", self.step):
            flat = flat_numbers(values)
            keep = _mask(mask, flat.size)
            self._count("log_ratio_histogram", flat[keep])
            if after_tool is not None:
                self._count("log_ratio_tool_histogram", flat[keep & _mask(after_tool, flat.size)])

    def rows(self, table: Table) -> dict[str, pa.Array]:
        """All rows gathered for a table, as columns."""
        parts = self._parts[table.name]
        if len(parts) < 2:
            return parts[0] if parts else {}
        tables = [pa.table(part) for part in parts]
        whole = pa.concat_tables(tables, promote_options="permissive")
        return {name: whole[name].combine_chunks() for name in whole.column_names}

    def commit_columns(self) -> dict[str, Any]:
        """What the commit row says beside the sequence numbers."""
        return {
            **self._scalars,
            "nominal_batch": self.nominal_batch,
            "sampled": sum(self._roles[role] for role in SAMPLED_ROLES),
            "used": sum(self._roles[role] for role in UPDATE_ROLES),
            **{name: counts.tolist() for name, counts in self._histograms.items()},
        }

    def _add(self, columns: Columns, role: Role | None) -> None:
        arrays = to_columns(TRAJECTORIES, columns, self._refuse)
        rows = len(next(iter(arrays.values()))) if arrays else 0
        if not rows:
            return
        self._drop_incomplete_ids(arrays)
        if "trajectory_id" not in arrays:
            known = sum(len(ids) for ids in self._ids)
            arrays["trajectory_id"] = integers(np.arange(known, known + rows))
        self._ids.append(arrays["trajectory_id"])
        self._roles += self._finish(TRAJECTORIES, arrays, rows, role)
        self._id_roles.append(arrays["role"])

    def _update(self, columns: Columns, update: int | None, role: Role | None) -> None:
        arrays = to_columns(UPDATES, columns, self._refuse)
        rows = len(next(iter(arrays.values()))) if arrays else 0
        if not rows:
            return
        self._drop_incomplete_ids(arrays)
        if "trajectory_id" not in arrays:
            known = pa.concat_arrays(self._ids) if self._ids else pa.array([], pa.int64())
            if len(known) != rows:
                raise RecordError(
                    f"update of {rows} rows without trajectory_id, but {len(known)} trajectories "
                    "were added; pass trajectory_id"
                )
            arrays["trajectory_id"] = known
        if update is not None or "update" not in arrays:
            arrays["update"] = integers(np.full(rows, update or 0, np.int64))
        if role is None and "role" not in arrays:
            arrays["role"] = self._roles_of(arrays["trajectory_id"])
        self._finish(UPDATES, arrays, rows, role)

    def _drop_incomplete_ids(self, arrays: dict[str, pa.Array]) -> None:
        ids = arrays.get("trajectory_id")
        if ids is not None and ids.null_count:
            why = f"missing in {ids.null_count} of {len(ids)} rows; the rows are numbered instead"
            self._refuse("trajectory_id", why)
            del arrays["trajectory_id"]

    def _roles_of(self, ids: pa.Array) -> pa.Array:
        """The roles that trajectories were added with; ``used`` where they are not known."""
        if set(self._roles) <= {"used"}:
            return pa.repeat("used", len(ids))
        known, roles = pa.concat_arrays(self._ids), pa.concat_arrays(self._id_roles)
        if known.type != ids.type:
            known, ids = known.cast(pa.string()), ids.cast(pa.string())
        return roles.take(pc.index_in(ids, value_set=known)).fill_null("used")

    def _finish(
        self, table: Table, arrays: dict[str, pa.Array], rows: int, role: Role | None
    ) -> Counter[str]:
        if role is None and "role" in arrays:
            arrays["role"] = arrays["role"].fill_null("used")
            counts = arrays["role"].value_counts().to_pylist()
            roles = Counter({count["values"]: count["counts"] for count in counts})
        else:
            roles = Counter({role or "used": rows})
            arrays["role"] = pa.repeat(role or "used", rows)
        if unknown := set(roles) - set(ROLES):
            raise RecordError(
                f"unknown role {sorted(map(str, unknown))}; known: {', '.join(ROLES)}"
            )
        arrays["step"] = integers(np.full(rows, self.step, np.int64))
        self._parts[table.name].append(arrays)
        return roles

    def _count(self, name: str, values: np.ndarray[Any, np.dtype[Any]]) -> None:
        counts = log_ratio_histogram(values)
        if name in self._histograms:
            counts = merge_histograms(self._histograms[name], counts)
        self._histograms[name] = counts


def _mask(mask: Any, size: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if mask is None:
        return np.ones(size, bool)
    flat = flat_numbers(mask).astype(bool)
    if flat.size != size:
        raise RecordError(f"mask of {flat.size} values for {size} log-ratios")
    return flat
