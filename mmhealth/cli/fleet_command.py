"""The command ``mmhealth fleet``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mmhealth.cli.options import AuditFormat, PolicyPath, usage_error, write

STDOUT = Path("-")


def fleet(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="GLOB|RUN", help="Patterns in quotes, run directories, or folders of them."
        ),
    ],
    *,
    sort: Annotated[
        str, typer.Option("--sort", metavar="KEY", help="verdict, name, headroom, lead, step, ...")
    ] = "verdict",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    filter: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="KEY=VALUE", help="Keep these only; may be repeated."),
    ] = None,
    top: Annotated[
        int | None, typer.Option("--top", metavar="N", min=1, help="Show the first N only.")
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="F|-", help="Write JSON; - prints it instead of the text."),
    ] = None,
    format: Annotated[
        AuditFormat | None,
        typer.Option("--format", help="What to print. Default: text.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Default: one a core.")
    ] = None,
    policy: PolicyPath = None,
) -> None:
    """Judge many runs and list them, the gravest first (docs/fleet.md)."""
    from rich.console import Console

    from mmhealth import fleet as fleets
    from mmhealth.engines import LocalEngine, SerialEngine
    from mmhealth.engines.local import available_cores
    from mmhealth.errors import SelectionError
    from mmhealth.health import load_policy
    from mmhealth.report import dump_json
    from mmhealth.report.progress import counting

    printed = ["--json"] if json == STDOUT else []
    printed += ["--format"] if format is not None else []
    if len(printed) > 1:
        raise usage_error(f"{' and '.join(printed)} both print to stdout: give one of them a file")
    rules = load_policy(policy)
    paths = fleets.find_runs(runs)
    count = min(workers or available_cores(), len(paths))
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # of workers, of which there is one a core
    with counting("judging") as bar:
        told = lambda done: bar(done, len(paths))  # noqa: E731
        if count == 1:
            found = fleets.judge_runs(paths, rules, engine=SerialEngine(), told=told)
        else:
            with LocalEngine(count) as engine:
                found = fleets.judge_runs(paths, rules, engine=engine, told=told)
    try:
        shown = fleets.select_runs(found.runs, filter or [], sort, reverse=reverse)[:top]
    except SelectionError as error:
        raise usage_error(str(error)) from None
    content = fleets.fleet_summary_as_dict(found, shown)
    if json is not None:
        write(json, dump_json(content), "--json")
    match format:
        case AuditFormat.JSON:
            write(STDOUT, dump_json(content), "")
        case AuditFormat.MARKDOWN:
            write(STDOUT, fleets.fleet_markdown(found, shown), "")
        case _ if not printed or format is AuditFormat.TEXT:
            fleets.print_fleet_table(found, shown, Console(width=_width()))
    if list(found.verdicts) == ["unreadable"]:
        raise typer.Exit(3)


def _width() -> int | None:
    """Enough for a line where nobody's terminal says how much there is."""
    import sys

    return None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
