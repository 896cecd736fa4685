"""The command ``mmhealth reproduce``."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mmhealth.cli.options import reference, usage_error


class FigureName(StrEnum):
    """What can be reproduced."""

    ENTROPY = "1"
    ESS = "2"
    VARIANCE = "3"
    CONSTRAINTS = "4"
    HORIZONS = "5"
    ORCHESTRATOR = "orchestrator"
    UNIFIED = "unified"


def reproduce(
    *,
    figure: Annotated[
        list[FigureName] | None, typer.Option(help="Figure of the article; repeatable. All.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds for each arm; 2 for an interval.")] = 3,
    first_seed: Annotated[
        int, typer.Option(min=0, help="First seed; knobs were chosen on seeds below 100.")
    ] = 100,
    out: Annotated[Path, typer.Option(metavar="D", help="Where results go, and lie.")] = Path(
        "reproduction"
    ),
    jobs: Annotated[
        int, typer.Option(min=1, help="Runs at a time, a core each.", show_default="all cores")
    ] = os.cpu_count() or 1,
) -> None:
    """Train every arm of the article's figures, and judge its claims by what comes out.

    Ctrl-C loses only the runs in progress: the same command goes on with what is missing.
    """
    from rich.console import Console

    experiments = reference("experiments")
    try:
        import scipy.stats  # noqa: F401
    except ModuleNotFoundError:
        raise usage_error(
            "reproduce needs scipy: pip install 'mmhealth[reproduce,torch]'"
        ) from None
    names = tuple(name.value for name in figure) if figure else experiments.FIGURES
    plan = experiments.Plan(out=out, figures=names, seeds=seeds, first_seed=first_seed, jobs=jobs)
    try:
        found = experiments.reproduce(plan)
    except KeyboardInterrupt:
        typer.echo(f"mmhealth: interrupted; the same command goes on in {out}", err=True)
        raise typer.Exit(130) from None
    no_images = experiments.write_report(found)
    experiments.print_short(found.verdicts, Console())
    typer.echo(f"{out}: results.html, results.md, results.json; {found.made} runs made")
    if no_images:
        typer.echo(f"mmhealth: {no_images}", err=True)
    if found.failed:
        typer.echo(f"mmhealth: runs that died: {'; '.join(found.failed)}", err=True)
        raise typer.Exit(3)
