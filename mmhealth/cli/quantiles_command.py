"""The command ``mmhealth quantiles``."""

from pathlib import Path
from typing import Annotated

import typer

from mmhealth.cli.options import RunPath, usage_error, write


def quantiles(
    run: RunPath,
    column: Annotated[
        str, typer.Argument(metavar="COLUMN", help="updates.NAME or trajectories.NAME.")
    ],
    *,
    q: Annotated[
        list[float] | None,
        typer.Option("--q", min=0, max=1, metavar="Q", help="A quantile; repeatable."),
    ] = None,
    last: Annotated[int, typer.Option(min=1, metavar="K", help="The last K steps.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of CSV.")] = False,
) -> None:
    """Print quantiles of a column step by step, also of steps whose rows were reduced."""
    import polars as pl

    from mmhealth.report import dump_json
    from mmhealth.retention import course_of_quantiles
    from mmhealth.runlog import open_run

    if column.partition(".")[0] not in ("trajectories", "updates"):
        raise usage_error(f"COLUMN: {column!r} is neither updates.NAME nor trajectories.NAME")
    opened = open_run(run)
    found = course_of_quantiles(opened, column, q or (0.05, 0.25, 0.5, 0.75, 0.95), last)
    if as_json:
        text = dump_json({"run": opened.name, "column": column, "steps": found})
    else:
        text = pl.DataFrame(found, infer_schema_length=None).write_csv()
    write(Path("-"), text, "--json")
