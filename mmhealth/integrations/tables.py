"""Tables of trajectories from any trainer, imported as a run directory."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl
import pyarrow as pa

from mmhealth.errors import ImportDataError, RecordError, RunError
from mmhealth.integrations.ordering import StepSurvey, by_step
from mmhealth.integrations.plan import Target, convert_batch, make_plan, settle_types
from mmhealth.integrations.sources import Source, open_source
from mmhealth.runlog import Recorder, Run
from mmhealth.schema import TRAJECTORIES, UPDATES

Progress = Callable[[int, int], None]
"""Called with the rows done and the rows in all."""

_MARK = "imported_from"
_PATIENCE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    run_dir: Path
    rows: int
    steps: int
    columns: dict[str, str]
    """Our columns, and theirs or the constant they come from."""
    left_out: tuple[str, ...]
    """Columns of the file that were not imported."""


def import_table(
    path: str | os.PathLike[str],
    mapping: Mapping[str, str],
    out: str | os.PathLike[str],
    *,
    constants: Mapping[str, str] | None = None,
    loss_ratio: Literal["token", "sequence", "geometric", "none"] = "sequence",
    grad_norm: str = "",
    nominal_batch: int | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Import a Parquet, CSV or JSONL file with one row a trajectory as a new run directory.

    Every row is stored or the import fails as a whole and leaves nothing behind. Rows of a step may
    stand anywhere in the file; they keep their order. With a column ``update`` there is one row a
    trajectory and update. Memory holds one step, or for a file that is not in order of steps about
    1/128 of it; the rows then go through temporary files beside ``out``.

    Args:
        path: the file; its suffix tells the format.
        mapping: our column -> theirs. Columns that are named as ours need no entry; other names of
            ours are kept as columns of the user's own. ``step`` is needed.
        out: the run directory to make.
        constants: our column -> a value for all rows.
        loss_ratio: level of the loss's importance ratio.
        grad_norm: in words, which gradient the column ``grad_norm`` measures.
        nominal_batch: trajectories a step is meant to have.
        replace: replace an existing run directory, if an import made it.
        progress: told how far the writing is.

    Raises ImportDataError naming file, row and column.
    """
    constants = constants or {}
    run_dir = Path(out)
    _check_out(run_dir, replace)
    source = open_source(Path(path))
    targets = make_plan(source, mapping, constants)
    settle_types(source, targets)
    survey = _survey(source, targets)
    if not survey.rows:
        raise ImportDataError(f"{source.path}: the file holds no rows")
    columns = {t.name: t.theirs if t.theirs is not None else str(t.constant) for t in targets}
    config = {
        _MARK: str(source.path),
        "map": {t.name: t.theirs for t in targets if t.theirs is not None},
        "constants": dict(constants),
    }
    with _workplace(run_dir) as work:
        recorder = Recorder(
            work / run_dir.name,
            attempt=0,
            config=config,
            loss_ratio=loss_ratio,
            grad_norm=grad_norm,
            nominal_batch=nominal_batch,
            time_budget=_PATIENCE_S,
            strict=True,
        )
        done = 0
        with _naming(source, None), recorder:
            tables = _tables(source, targets)
            for step, rows in by_step(tables, survey, _folder(work / "scratch")):
                with _naming(source, step):
                    _write_step(recorder, step, rows)
                done += rows.num_rows
                if progress is not None:
                    progress(done, survey.rows.total())
        if losses := recorder.summary()["losses"]:
            raise ImportDataError(f"{source.path}: not everything was stored: {losses[0]['first']}")
        _move(work / run_dir.name, run_dir, work / "replaced")
    used = {target.theirs for target in targets}
    left_out = tuple(name for name in source.columns if name not in used)
    return Imported(run_dir, done, len(survey.rows), columns, left_out)


def _check_out(run_dir: Path, replace: bool) -> None:
    if not run_dir.exists() or (run_dir.is_dir() and not any(run_dir.iterdir())):
        return
    try:
        imported = _MARK in Run(run_dir).config
    except RunError:
        raise ImportDataError(
            f"{run_dir} exists and is not a run directory: choose another --out"
        ) from None
    if not replace:
        way_out = "pass --replace, or choose" if imported else "choose"
        raise ImportDataError(f"{run_dir} already holds a run: {way_out} another --out")
    if not imported:
        raise ImportDataError(
            f"{run_dir} was recorded by a trainer, not imported, and is not replaced: choose "
            "another --out, or remove it yourself"
        )


def _survey(source: Source, targets: list[Target]) -> StepSurvey:
    survey = StepSurvey()
    only_step = [target for target in targets if target.name == "step"]
    named = [target.theirs or source.columns[0] for target in only_step]
    for batch in source.batches(named):
        table = convert_batch(source, batch, only_step)
        survey.add(table["step"].combine_chunks())
    return survey


def _tables(source: Source, targets: list[Target]) -> Iterator[pa.Table]:
    wanted = [target.theirs for target in targets if target.theirs is not None]
    for batch in source.batches(wanted or [source.columns[0]]):
        yield convert_batch(source, batch, targets)


def _write_step(recorder: Recorder, step: int, table: pa.Table) -> None:
    frame = pl.from_arrow(table.drop_columns("step"))
    assert isinstance(frame, pl.DataFrame)
    shared = ("trajectory_id", "role")
    of_updates = [
        name
        for name in frame.columns
        if UPDATES.kind(name) is not None and TRAJECTORIES.kind(name) is None
    ]
    trajectories = frame.drop(of_updates)
    keys = [name for name in ("trajectory_id", "update") if name in frame.columns]
    if "trajectory_id" in keys:
        if frame.select(keys).is_duplicated().any():
            twice = frame.filter(frame.select(keys).is_duplicated())["trajectory_id"][0]
            raise ImportDataError(
                f"trajectory_id {twice!r} is there twice; map 'update' if a row is one use of a "
                "trajectory, or leave trajectory_id out"
            )
        trajectories = trajectories.unique("trajectory_id", keep="first", maintain_order=True)
    elif "update" in keys and frame["update"].n_unique() > 1:
        raise ImportDataError("'update' needs 'trajectory_id': which rows are one trajectory?")
    with recorder.step(step) as record:
        record.add(_arrays(trajectories) or {"trajectory_id": list(range(len(frame)))})
        if of_updates:
            record.update(_arrays(frame.select(*of_updates, *(n for n in shared if n in frame))))


def _arrays(frame: pl.DataFrame) -> dict[str, pa.Array]:
    table = frame.to_arrow()
    return {name: table[name].combine_chunks() for name in table.column_names}


@contextmanager
def _naming(source: Source, step: int | None) -> Iterator[None]:
    """Errors name the file and the step."""
    at = "" if step is None else f", step {step}"
    try:
        yield
    except RecordError as error:
        raise ImportDataError(f"{source.path}{at}: {error}") from error
    except ImportDataError as error:
        if step is None:
            raise
        raise ImportDataError(f"{source.path}{at}: {error}") from error


@contextmanager
def _workplace(run_dir: Path) -> Iterator[Path]:
    """A folder beside the run directory, so that moving out of it is one rename."""
    parent = run_dir.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".mmhealth-import-", dir=parent))
    except OSError as error:
        raise ImportDataError(f"{run_dir} cannot be made: {error.strerror}") from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _move(made: Path, run_dir: Path, aside: Path) -> None:
    if run_dir.exists():
        run_dir.rename(aside)
    made.rename(run_dir)
