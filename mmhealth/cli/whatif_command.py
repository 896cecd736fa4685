"""The command ``mmhealth whatif``."""

from pathlib import Path
from typing import Annotated

import typer

from mmhealth.cli.options import RunPath, usage_error, write

LAST = 10
"""Complete steps whose mean is taken where nothing else is asked for."""


def whatif(
    run: RunPath,
    *,
    step: Annotated[int | None, typer.Option(metavar="N", help="Look at this step.")] = None,
    last: Annotated[
        int | None,
        typer.Option(
            metavar="K", min=1, help=f"Mean over the last K complete steps. Default: {LAST}."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Say what ESS and Gini would have been under each fix, from the log alone."""
    from rich.console import Console

    from mmhealth.health.whatif import what_if
    from mmhealth.report import dump_json
    from mmhealth.report.whatif import print_whatif, whatif_as_dict
    from mmhealth.runlog import open_run

    if step is not None and last is not None:
        raise usage_error("--step and --last exclude each other: pass one of them")
    opened = open_run(run)
    steps = opened.complete_steps()[-(last or LAST) :]
    if step is not None:
        if opened.step_data(step) is None:
            held = f"its last complete step is {steps[-1]}" if steps else "it has no complete step"
            raise usage_error(f"--step: {run} has no step {step}; {held}")
        steps = [step]
    result = what_if(opened, steps)
    if json:
        write(Path("-"), dump_json(whatif_as_dict(result, opened)), "--json")
    else:
        print_whatif(result, opened, Console())
