"""The command ``mmhealth blame``.

Keys of its JSON, which never holds NaN:

========== ========================================================================================
schema     1; raised when a key is removed or changes its meaning
mmhealth   version
run        id, name, path, loss_ratio
steps      the steps that were taken together
left_out   steps in which the basis is not known: step, reason
incomplete steps of which rows are missing or yet to come
basis      contribution, signal or weight; null where none is known
reason     why there is nothing (insufficient data); null where there is something
nonfinite  rows left out because their value is NaN or infinite
largest_share  share of sum x^2 that the single largest row holds
whole      metrics of all rows: rows, ess (a count), ess_fraction, gini, top5_share, and reasons, a
           sentence for each of them that is null
columns    columns sliced by, with their number of slices; of one at most 64 slices are listed
skipped    other columns, with the reason
slices     most to blame first: column, slice, rows, share_of_rows, share_of_sum, share_of_sum_sq,
           share_of_top, gini_part, chance, blame, and without: metrics of the other rows
pairs      most beyond what is explained first: columns, slices, rows, share_of_rows,
           share_of_sum_sq, explained, chance, without
========== ========================================================================================
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mmhealth.cli.options import RunPath, usage_error, write


class BasisName(StrEnum):
    """What the metrics are taken of."""

    CONTRIBUTION = "contribution"
    SIGNAL = "signal"
    WEIGHT = "weight"


def blame(
    run: RunPath,
    *,
    step: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="This step; default: the last complete.")
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="The last K complete steps, as one batch."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Slice by this column only; repeatable."),
    ] = None,
    basis: Annotated[
        BasisName | None,
        typer.Option(help="Default: the first of them that is known.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which slices hold the ESS down, and Gini and top-5 % share up (docs/blame.md).

    Exit code 3: insufficient data.
    """
    from rich.console import Console

    from mmhealth.health.blame import blame as find
    from mmhealth.health.blame import last_steps
    from mmhealth.report.blame import SHOWN, blame_as_dict, print_blame
    from mmhealth.report.json_report import dump_json
    from mmhealth.runlog import open_run

    if step is not None and last is not None:
        raise usage_error("--step and --last exclude each other")
    opened = open_run(run)
    columns = opened.schema("trajectories") if by else {}
    if unknown := [name for name in by or () if columns and name not in columns]:
        raise usage_error(f"--by: no column {unknown[0]!r}: there are {', '.join(sorted(columns))}")
    steps = last_steps(opened, last or 1) if step is None else [step]
    found = find(opened, steps, basis=None if basis is None else basis.value, by=by)
    if json:
        write(Path("-"), dump_json(blame_as_dict(found, opened)), "")
    else:
        print_blame(found, opened.name, Console(), len(found.slices) if by else SHOWN)
    if found.whole is None:
        raise typer.Exit(3)
