"""The command ``mmhealth audit``."""

from pathlib import Path
from typing import Annotated

import typer

from mmhealth.cli.options import (
    AuditFormat,
    EngineName,
    JsonPath,
    PolicyPath,
    PrintedFormat,
    RunPaths,
    UseCache,
    chosen_engine,
    file_at,
    usage_error,
    write,
)

STDOUT = Path("-")


def audit(
    runs: RunPaths,
    *,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", parser=file_at, metavar="F", help="Write a page that needs no network."
        ),
    ] = None,
    json: JsonPath = None,
    format: PrintedFormat = None,
    policy: PolicyPath = None,
    engine: EngineName = "serial",
    cache: UseCache = True,
) -> None:
    """Say what happened in runs, why, and what to do about it.

    The folder of another trainer's dump does as well (docs/import.md).
    """
    from rich.console import Console

    from mmhealth import report
    from mmhealth.cli.dumps import as_run
    from mmhealth.health import Monitor, load_policy
    from mmhealth.health.stepcache import step_cache
    from mmhealth.report.html import render_html
    from mmhealth.report.progress import track

    printed = [name for name, path in (("--html", html), ("--json", json)) if path == STDOUT]
    printed += ["--format"] if format is not None else []
    if len(printed) > 1:
        raise usage_error(f"{' and '.join(printed)} both print to stdout: give one of them a file")
    rules = load_policy(policy)
    found = [as_run(path) for path in runs]
    kept = step_cache() if cache else None
    with chosen_engine(engine) as workers:
        result = report.audit_runs(
            [
                Monitor(path, rules, engine=workers, cache=kept, readings=True)
                for path in track(found, "reading")
            ]
        )
    if html is not None:
        write(html, render_html(result), "--html")
    if json is not None:
        write(json, report.dump_json(report.audit_as_dict(result)), "--json")
    match format:
        case AuditFormat.JSON:
            write(STDOUT, report.dump_json(report.audit_as_dict(result)), "")
        case AuditFormat.MARKDOWN:
            write(STDOUT, report.render_markdown(result), "")
        case AuditFormat.HTML:
            write(STDOUT, render_html(result), "")
        case _ if not printed or format is AuditFormat.TEXT:
            report.print_audit(result, Console())
