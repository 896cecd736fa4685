"""The command ``mmhealth fleet``."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmhealth.cli.options import (
    AuditFormat,
    FleetEngineName,
    JsonPath,
    PolicyPath,
    Port,
    PrintedFormat,
    UseCache,
    chosen_engine,
    dashboards,
    file_at,
    usage_error,
    write,
)

if TYPE_CHECKING:
    from mmhealth.engines import Engine
    from mmhealth.fleet import Fleet, RunSummary
    from mmhealth.health import Policy

STDOUT = Path("-")
_WIDE = 160
"""Columns of a line where no terminal says how many there are."""


def fleet(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="GLOB|RUN", help="Patterns in quotes, run directories, folders of runs."
        ),
    ],
    *,
    sort: Annotated[
        str,
        typer.Option("--sort", metavar="KEY", help="verdict, name, headroom, lead, a setting, ..."),
    ] = "verdict",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    filter: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="KEY=VALUE", help="Only these; may be repeated."),
    ] = None,
    top: Annotated[
        int | None, typer.Option("--top", metavar="N", min=1, help="Only the first N.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            parser=file_at,
            metavar="F",
            help="Write a page that sorts and filters by itself.",
        ),
    ] = None,
    pages: Annotated[
        Path | None,
        typer.Option(
            "--pages", parser=file_at, metavar="DIR", help="Write the audit of each run shown, too."
        ),
    ] = None,
    json: JsonPath = None,
    format: PrintedFormat = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show all of them live in the browser instead.")
    ] = False,
    port: Port = 8050,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Default: one a core.")
    ] = None,
    policy: PolicyPath = None,
    engine_name: FleetEngineName = None,
    cache: UseCache = True,
) -> None:
    """Judge many runs and list them, the gravest first (docs/fleet.md)."""
    from mmhealth import fleet as fleets
    from mmhealth.errors import SelectionError
    from mmhealth.health import load_policy
    from mmhealth.health.stepcache import step_cache
    from mmhealth.report.progress import counting

    printed = [name for name, path in (("--html", html), ("--json", json)) if path == STDOUT]
    printed += ["--format"] if format is not None else []
    if len(printed) > 1:
        raise usage_error(f"{' and '.join(printed)} both print to stdout: give one of them a file")
    rules, kept = load_policy(policy), step_cache() if cache else None
    if serve:
        if filter or top or reverse or sort != "verdict" or format or html or pages or json:
            raise usage_error("--serve goes with --port, --workers, --engine and --policy alone")
        with _engine(engine_name, workers, None) as engine:
            _serve(runs, port, rules, engine, kept)
        return
    paths = fleets.find_runs(runs)
    with _engine(engine_name, workers, len(paths)) as engine:
        try:
            paths, conditions = fleets.prune_runs(paths, filter or [], sort, engine)
        except SelectionError as error:
            raise usage_error(str(error)) from None
        with counting("judging") as bar:
            told = _of(len(paths), bar)
            found = fleets.judge_runs(paths, rules, engine=engine, told=told, cache=kept)
        try:
            shown = fleets.select_runs(found.runs, conditions, sort, reverse=reverse)[:top]
        except SelectionError as error:
            raise usage_error(str(error)) from None
        links = {}
        if pages is not None:
            with counting("writing pages") as bar:
                told = _of(len(shown), bar)
                try:
                    links = fleets.write_pages(shown, pages, rules, engine=engine, told=told)
                except OSError as error:
                    raise usage_error(f"--pages: {pages} cannot be written: {error}") from None
    _write(found, shown, html=html, json=json, links=_from(html, pages, links))
    if format is not None or not printed:
        _print(found, shown, format or AuditFormat.TEXT, _from(None, pages, links))
    if list(found.verdicts) == ["unreadable"]:
        raise typer.Exit(3)


def _serve(
    runs: list[str], port: int, rules: "Policy", engine: "Engine", cache: Path | None
) -> None:
    def ready(url: str) -> None:
        typer.echo(f"watching at {url} (Ctrl-C ends)")

    dashboards().serve_fleet(runs, engine=engine, port=port, policy=rules, ready=ready, cache=cache)


def _write(
    found: "Fleet",
    shown: Sequence["RunSummary"],
    *,
    html: Path | None,
    json: Path | None,
    links: dict[str, str],
) -> None:
    from mmhealth import fleet as fleets
    from mmhealth.report import dump_json

    if html is not None:
        write(html, fleets.render_fleet_page(found, shown, links), "--html")
    if json is not None:
        write(json, dump_json(fleets.fleet_summary_as_dict(found, shown)), "--json")


def _print(
    found: "Fleet", shown: Sequence["RunSummary"], format: AuditFormat, links: dict[str, str]
) -> None:
    from rich.console import Console

    from mmhealth import fleet as fleets
    from mmhealth.report import dump_json

    match format:
        case AuditFormat.JSON:
            write(STDOUT, dump_json(fleets.fleet_summary_as_dict(found, shown)), "")
        case AuditFormat.MARKDOWN:
            write(STDOUT, fleets.fleet_markdown(found, shown), "")
        case AuditFormat.HTML:
            write(STDOUT, fleets.render_fleet_page(found, shown, links), "")
        case AuditFormat.TEXT:
            said = sys.stdout.isatty() or "COLUMNS" in os.environ
            fleets.print_fleet_table(found, shown, Console(width=None if said else _WIDE))


@contextmanager
def _engine(name: str | None, workers: int | None, tasks: int | None) -> Iterator["Engine"]:
    """The engine asked for; else as many processes as are wanted and of use for so many tasks, and
    this one alone where that is one."""
    from mmhealth.engines import SerialEngine
    from mmhealth.engines.local import available_cores

    if name is not None and workers is not None:
        raise usage_error("--workers is for processes of this machine: say --engine ray:N, or so")
    count = workers or available_cores()
    if tasks is not None:
        count = min(count, tasks)
    alone = tasks is not None and count < 2
    with chosen_engine(name or ("serial" if alone else f"local:{count}")) as engine:
        yield engine or SerialEngine()


def _of(total: int, bar: Callable[[int, int], None]) -> Callable[[int], None]:
    return lambda done: bar(done, total)


def _from(html: Path | None, pages: Path | None, links: dict[str, str]) -> dict[str, str]:
    """Links to pages as the file at ``html`` has to write them."""
    if pages is None:
        return {}
    start = Path.cwd() if html is None or html == STDOUT else html.absolute().parent
    folder = os.path.relpath(pages.absolute(), start)
    return {path: Path(folder, name).as_posix() for path, name in links.items()}
