"""The command ``mmhealth compare``."""

from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmhealth.cli.options import JsonPath, LastSteps, PolicyPath, RunPaths, usage_error, write

if TYPE_CHECKING:
    from mmhealth.health import Policy
    from mmhealth.report import Audit
    from mmhealth.runlog import Run


def compare(
    runs: RunPaths,
    *,
    fleet: Annotated[
        str | None,
        typer.Option("--fleet", metavar="GLOB", help="Compare one run with all that match."),
    ] = None,
    last: LastSteps = 10,
    json: JsonPath = None,
    policy: PolicyPath = None,
) -> None:
    """Compare two runs at the same steps, or one run with a fleet (docs/compare.md)."""
    from rich.console import Console

    from mmhealth import report
    from mmhealth.health import load_policy
    from mmhealth.runlog import open_run

    if len(runs) != (2 if fleet is None else 1):
        raise usage_error("compare takes two runs, A B, or one and --fleet 'GLOB' in quotes")
    rules = load_policy(policy)
    content: dict[str, Any]
    opened = [open_run(path) for path in runs]
    if fleet is None:
        compared = report.compare_runs(_audit(opened, rules), last)
        content = report.comparison_as_dict(compared)
    else:
        others, left_out = _others(opened[0], fleet)
        among = report.compare_with_fleet(_audit([*opened, *others], rules), last, left_out)
        content = report.fleet_as_dict(among)
    if json is not None:
        write(json, report.dump_json(content), "--json")
    if json != Path("-"):
        if fleet is None:
            report.print_comparison(compared, Console())
        else:
            report.print_fleet(among, Console())


def _audit(runs: list["Run"], rules: "Policy") -> "Audit":
    from mmhealth.health import Monitor
    from mmhealth.report import audit_runs

    return audit_runs([Monitor(run, rules) for run in runs])


def _others(run: "Run", pattern: str) -> tuple[list["Run"], list[str]]:
    """The other runs that match, each once, and why further folders that match are none."""
    from mmhealth.errors import RunError
    from mmhealth.report.progress import track
    from mmhealth.runlog import open_run

    found = {run.id: run}
    left_out = []
    matches = map(Path, glob(pattern, recursive=True))  # noqa: PTH207, takes absolute patterns too
    folders = sorted(path for path in matches if path.is_dir())
    for path in track(folders, "reading"):
        try:
            other = open_run(path)
        except (RunError, PermissionError) as error:
            left_out.append(str(error))
        else:
            found.setdefault(other.id, other)
    if len(found) == 1:
        raise usage_error(f"--fleet: no other run matches {pattern!r}")
    return [other for name, other in found.items() if name != run.id], left_out
