"""The command ``mmhealth import``."""

from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer

from mmhealth.cli.options import EngineName, LossRatio, chosen_engine, parse_pairs, usage_error


def import_trajectories(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="Folder of a trainer's dump; or a Parquet, CSV or JSONL file, a row a trajectory.",
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Run directory to make, or of a dump to go on with. Default for a dump: one in "
            "the user's cache.",
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="FORMAT", help="Format of the dump; default: it is told."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on while the dump grows, until Ctrl-C.")
    ] = False,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="COLUMN=THEIRS", help="Our column is theirs; repeatable."),
    ] = None,
    const: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="A value for all rows; repeatable."),
    ] = None,
    loss_ratio: Annotated[
        LossRatio | None,
        typer.Option(
            help="Level of the loss's importance ratio. Default: that of the trainer's own loss; "
            "for a file, sequence."
        ),
    ] = None,
    nominal_batch: Annotated[
        int | None, typer.Option(min=1, help="Trajectories a step is meant to have.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a run that an import made.")
    ] = False,
    engine: EngineName = "serial",
) -> None:
    """Make a run directory from another trainer's dump or table (docs/import.md, docs/cli.md)."""
    if from_ is not None or _is_dump(path):
        if map_ or const:
            raise usage_error(
                "--map and --const are for a file, a row a trajectory, not for a dump"
            )
        given = {
            "format": from_,
            "loss_ratio": None if loss_ratio is None else loss_ratio.value,
            "nominal_batch": nominal_batch,
            "replace": replace,
        }
        _import_dump(path, out, follow, engine, given)
        return
    if engine != "serial":
        raise usage_error("--engine is for a dump with files for each step, not for a table")
    if follow:
        raise usage_error("--follow is for a dump: pass its folder, or --from")
    if out is None:
        raise usage_error("--out: say which run directory to make of the file")
    from mmhealth.integrations import import_table
    from mmhealth.report.progress import counting

    with counting("importing") as progress:
        done = import_table(
            path,
            parse_pairs(map_ or [], "--map"),
            out,
            constants=parse_pairs(const or [], "--const"),
            loss_ratio=(loss_ratio or LossRatio.SEQUENCE).value,
            nominal_batch=nominal_batch,
            replace=replace,
            progress=progress,
        )
    typer.echo(f"{done.run_dir}: {done.rows:,} rows in {done.steps:,} steps")
    typer.echo(f"imported: {', '.join(done.columns)}")
    if done.left_out:
        typer.echo(f"left out: {', '.join(done.left_out)} (--map keeps a column)")


def _is_dump(path: Path) -> bool:
    """A folder, or a file that only a trainer's log can be."""
    from mmhealth.integrations.dumps import find_dump
    from mmhealth.integrations.sources import is_table

    return path.is_dir() or (path.is_file() and not is_table(path) and find_dump(path) is not None)


def _import_dump(
    path: Path, out: Path | None, follow: bool, engine: str, given: dict[str, Any]
) -> None:
    from mmhealth.cli.dumps import say_followed, say_imported, say_problems
    from mmhealth.integrations.dumps import follow_dump, import_dump
    from mmhealth.report.progress import reading

    if follow:
        if engine != "serial":
            raise usage_error("--engine: a dump is followed here, as it grows: leave it out")
        with suppress(KeyboardInterrupt):
            follow_dump(path, out, stop=Event(), told=say_followed(), **given)
        return
    with chosen_engine(engine) as workers, reading("importing") as progress:
        done = import_dump(path, out, progress=progress, engine=workers, **given)
    say_imported(done)
    say_problems(done.problems)
    if done.problems.count:
        raise typer.Exit(3)
