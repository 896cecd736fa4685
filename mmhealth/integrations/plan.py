"""Which foreign column becomes which of ours, and how it is stored."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from mmhealth.errors import ImportDataError
from mmhealth.integrations.sources import Source, SourceBatch
from mmhealth.integrations.values import BadValueError, Stored, both, convert, narrowest
from mmhealth.runlog.columns import RESERVED
from mmhealth.schema import STEPS, TRAJECTORIES, UPDATES, Kind

KNOWN = tuple(dict.fromkeys(c.name for t in (TRAJECTORIES, UPDATES) for c in t.columns))
"""Columns of the schema that a file of trajectories can fill."""

_FIXED: tuple[Stored, ...] = ("integer", "real", "flag", "text")


def kind_of(column: str) -> Kind | None:
    """Kind of a column of trajectories or updates; None for one of the user's own."""
    return TRAJECTORIES.kind(column) or UPDATES.kind(column)


@dataclass(slots=True)
class Target:
    """One of our columns, and where it comes from."""

    name: str
    theirs: str | None
    """None for a constant."""
    constant: str | None = None
    stored: Stored | None = None
    """None until it is known; text then, for a column without a value."""


def make_plan(
    source: Source, mapping: Mapping[str, str], constants: Mapping[str, str]
) -> list[Target]:
    """Targets for what was asked for, and for columns that are named as ours are.

    Raises ImportDataError for names that cannot be right, listing those that can.
    """
    if twice := sorted(mapping.keys() & constants.keys()):
        raise ImportDataError(f"{source.path}: {twice[0]!r} is both mapped and constant")
    for ours in (*mapping, *constants):
        _check_ours(ours, source)
    for ours, theirs in mapping.items():
        if theirs not in source.columns:
            raise ImportDataError(
                f"{source.path}: there is no column {theirs!r} to map to {ours!r}"
                f"{_suggest(theirs, source.columns)}; columns: {', '.join(source.columns)}"
            )
    taken = {*mapping, *constants}
    found = {name: name for name in KNOWN if name in source.columns and name not in taken}
    targets = [Target(ours, theirs) for ours, theirs in {**mapping, **found}.items()]
    targets += [Target(ours, None, value) for ours, value in constants.items()]
    if not any(target.name == "step" for target in targets):
        raise ImportDataError(
            f"{source.path}: there is no column 'step'; say which one it is with --map step=THEIRS"
            f"{_suggest('step', source.columns)}; columns: {', '.join(source.columns)}"
        )
    for target in targets:
        kind = kind_of(target.name)
        target.stored = next((stored for stored in _FIXED if stored == kind), None)
    return targets


def settle_types(source: Source, targets: list[Target]) -> None:
    """Decide how ids and the user's own columns are stored: one way for the whole file."""
    open_targets = [target for target in targets if target.stored is None]
    for target in open_targets:
        if target.constant is not None:
            target.stored = narrowest(pa.array([target.constant]), kind_of(target.name), parse=True)
    wanted = [target for target in open_targets if target.theirs is not None]
    if wanted:
        for batch in source.batches([str(target.theirs) for target in wanted]):
            for target in wanted:
                array = batch.columns[str(target.theirs)]
                here = narrowest(array, kind_of(target.name), parse=source.parse)
                target.stored = both(target.stored, here)
            if source.typed and all(target.stored for target in wanted):
                break
    for target in open_targets:
        target.stored = target.stored or "text"


def convert_batch(source: Source, batch: SourceBatch, targets: list[Target]) -> pa.Table:
    """Our columns of some rows. Raises ImportDataError naming file, row, column and value."""
    columns = {}
    for target in targets:
        assert target.stored is not None
        if target.theirs is None:
            array = pa.array([target.constant] * batch.rows, pa.string())
            named = f"constant {target.name}"
        else:
            array = batch.columns[target.theirs]
            named = f"column {target.theirs!r}"
            named += "" if target.theirs == target.name else f" (mapped to {target.name!r})"
        try:
            columns[target.name] = convert(array, target.stored)
        except BadValueError as error:
            where = "" if target.theirs is None else f", {batch.where(error.row)}"
            raise ImportDataError(f"{source.path}{where}, {named}: {error}") from None
        if target.name in ("step", "trajectory_id") and columns[target.name].null_count:
            row = columns[target.name].is_null().index(True).as_py()
            raise ImportDataError(f"{source.path}, {batch.where(row)}, {named}: there is no value")
    return pa.table(columns)


def _check_ours(ours: str, source: Source) -> None:
    if kind_of(ours) is not None:
        return
    if ours in RESERVED or STEPS.kind(ours):
        way_out = "pass it as --nominal-batch" if ours == "nominal_batch" else "choose another name"
        raise ImportDataError(f"{source.path}: a column cannot be called {ours!r}: {way_out}")
    if close := difflib.get_close_matches(ours, KNOWN, 1, cutoff=0.8):
        raise ImportDataError(
            f"{source.path}: {ours!r} is no column of mmhealth; did you mean {close[0]!r}? A "
            "column of your own needs a name that is less alike"
        )


def _suggest(wanted: str, names: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(wanted, names, 3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
