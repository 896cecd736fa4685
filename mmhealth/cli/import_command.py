"""The command ``mmhealth import``."""

from pathlib import Path
from typing import Annotated

import typer

from mmhealth.cli.options import LossRatio, parse_pairs


def import_trajectories(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Parquet, CSV or JSONL, a row a trajectory.")
    ],
    *,
    out: Annotated[Path, typer.Option(metavar="RUN", help="Run directory to make.")],
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="COLUMN=THEIRS", help="Our column is theirs; repeatable."),
    ] = None,
    const: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="A value for all rows; repeatable."),
    ] = None,
    loss_ratio: Annotated[
        LossRatio, typer.Option(help="Level of the loss's importance ratio.")
    ] = LossRatio.SEQUENCE,
    nominal_batch: Annotated[
        int | None, typer.Option(min=1, help="Trajectories a step is meant to have.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a run that an import made.")
    ] = False,
) -> None:
    """Make a run directory from a table of trajectories of any trainer (docs/cli.md)."""
    from mmhealth.integrations import import_table
    from mmhealth.report.progress import counting

    with counting("importing") as progress:
        done = import_table(
            file,
            parse_pairs(map_ or [], "--map"),
            out,
            constants=parse_pairs(const or [], "--const"),
            loss_ratio=loss_ratio.value,
            nominal_batch=nominal_batch,
            replace=replace,
            progress=progress,
        )
    typer.echo(f"{done.run_dir}: {done.rows:,} rows in {done.steps:,} steps")
    typer.echo(f"imported: {', '.join(done.columns)}")
    if done.left_out:
        typer.echo(f"left out: {', '.join(done.left_out)} (--map keeps a column)")
