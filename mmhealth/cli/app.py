"""The command line: parses, calls, prints. What is heavy is imported inside the commands."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mmhealth._version import __version__
from mmhealth.cli.audit_command import audit
from mmhealth.cli.blame_command import blame
from mmhealth.cli.calibrate_command import calibrate
from mmhealth.cli.compare_command import compare
from mmhealth.cli.diagnose_command import diagnose
from mmhealth.cli.export_command import export
from mmhealth.cli.fleet_command import fleet
from mmhealth.cli.gate_command import gate
from mmhealth.cli.guard_command import guard
from mmhealth.cli.import_command import import_trajectories
from mmhealth.cli.notify_command import notify_app
from mmhealth.cli.options import (
    Pace,
    PolicyPath,
    Port,
    RunDir,
    RunPath,
    RunPaths,
    Seed,
    Steps,
    dashboards,
    file_at,
    reference,
    save,
    usage_error,
    write,
)
from mmhealth.cli.policy_command import policy_app
from mmhealth.cli.quantiles_command import quantiles
from mmhealth.cli.reproduce_command import reproduce
from mmhealth.cli.retain_command import retain
from mmhealth.cli.upload_command import upload
from mmhealth.cli.whatif_command import whatif
from mmhealth.errors import (
    MmhealthError,
    NotifyError,
    PolicyError,
    PortInUseError,
    TrackerTargetError,
)

EPILOG = """
[bold]Quick start[/bold]

mmhealth demo                 watch a real run collapse, and one that is cured

mmhealth audit RUN            what happened, why, and what to do about it

mmhealth gate RUN             exit code 1 if the run breaches the policy
"""

app = typer.Typer(
    name="mmhealth",
    help="The instrument panel for RL post-training: see the policy-gradient estimator die before "
    "the reward does.\n\nA RUN is a run directory: mmhealth.Recorder writes one from a training "
    "loop, `mmhealth import` makes one from another trainer's files.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_TRY, _JUDGE, _DATA = "See it happen", "Judge runs", "Data and policies"
app.add_typer(policy_app, name="policy", rich_help_panel=_DATA)
app.add_typer(notify_app, name="notify", rich_help_panel=_DATA)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mmhealth {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


@app.command(rich_help_panel=_TRY)
def demo(
    *,
    pace: Pace = 0.2,
    seed: Seed = 53,
    steps: Steps = 160,
    port: Port = 8050,
    folder: Annotated[Path, typer.Option("--dir", help="Where the runs go.")] = Path("demo-runs"),
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
    exit_when_done: Annotated[
        bool, typer.Option("--exit-when-done", help="Do not keep the page up afterwards.")
    ] = False,
) -> None:
    """Train a run that collapses and one that is cured, side by side, live in the browser."""
    module = reference("demo")
    config = module.DemoConfig(
        folder=folder,
        pace=pace,
        seed=seed,
        steps=steps,
        port=port,
        browser=browser,
        exit_when_done=exit_when_done,
    )
    if not module.run_demo(config, dashboards().serve):
        raise typer.Exit(130)


@app.command(rich_help_panel=_TRY)
def train(
    *,
    run_dir: Annotated[Path, typer.Option(help="Run directory to make.")],
    env: Annotated[
        str, typer.Option(metavar="E", help="Environment: F1 to F5, modalities, orchestrator.")
    ] = "F2",
    preset: Annotated[
        str, typer.Option(metavar="P", help="baseline, all, or a fix that the environment has.")
    ] = "baseline",
    seed: Seed = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps to train; default: a whole run.")
    ] = None,
    pace: Pace = 0.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")
    ] = False,
) -> None:
    """Train the reference trainer, a small but real policy-gradient run (needs torch)."""
    trainer = reference()
    try:
        trainer.preset(env, preset)
    except ValueError as error:
        raise usage_error(str(error)) from None
    if not resume and (run_dir / "run.json").exists():
        raise usage_error(
            f"{run_dir} already holds a run: pass --resume to go on with it, or choose another "
            "--run-dir"
        )
    trainer.train(
        env,
        preset,
        run_dir=run_dir,
        seed=seed,
        steps=steps,
        pace=pace,
        resume=resume,
        alignment=True,
    )


app.command(rich_help_panel=_TRY)(reproduce)


@app.command(rich_help_panel=_JUDGE)
def watch(runs: RunPaths, port: Port = 8050, policy: PolicyPath = None) -> None:
    """Show runs live in the browser, on this machine only. Runs may begin later.

    The folder of another trainer's dump does as well (docs/import.md).
    """
    from mmhealth.cli.dumps import following
    from mmhealth.health import load_policy

    def ready(url: str) -> None:
        typer.echo(f"watching at {url} (Ctrl-C ends)")

    rules = load_policy(policy)
    with following(runs) as followed:
        dashboards().serve(followed, port=port, policy=rules, ready=ready)


app.command(rich_help_panel=_JUDGE)(audit)
app.command(rich_help_panel=_JUDGE)(fleet)
app.command(rich_help_panel=_JUDGE)(gate)
app.command(rich_help_panel=_JUDGE)(compare)
app.command(rich_help_panel=_JUDGE)(blame)
app.command(rich_help_panel=_JUDGE)(diagnose)


app.command(rich_help_panel=_JUDGE, context_settings={"allow_interspersed_args": False})(guard)


@app.command(rich_help_panel=_JUDGE)
def timeline(
    run: RunPath,
    out: Annotated[
        Path,
        typer.Option(parser=file_at, metavar="F.parquet|F.csv|-", help="Where to; - prints CSV."),
    ] = Path("-"),
) -> None:
    """Write a run's per-step metrics as a table; an empty cell is not known."""
    from mmhealth.health import build_timeline
    from mmhealth.runlog import open_run

    if out != Path("-") and out.suffix not in (".csv", ".parquet"):
        raise usage_error(f"--out: {out} ends in neither .csv nor .parquet")
    frame = build_timeline(open_run(run)).frame
    if out.suffix == ".parquet":
        save(out, "--out", lambda: frame.write_parquet(out))
    else:
        write(out, frame.write_csv(), "--out")


app.command(rich_help_panel=_JUDGE)(quantiles)
app.command(rich_help_panel=_JUDGE)(whatif)
app.command("import", rich_help_panel=_DATA)(import_trajectories)
app.command(rich_help_panel=_DATA)(export)
app.command(rich_help_panel=_DATA)(calibrate)


@app.command(rich_help_panel=_DATA)
def seal(run: RunDir) -> None:
    """Turn what a killed trainer left open into sealed segments. Safe while a run goes on."""
    from mmhealth.runlog import open_run, seal_orphans

    open_run(run)
    sealed = seal_orphans(run)
    typer.echo(f"{run}: sealed {len(sealed)} open segment{'' if len(sealed) == 1 else 's'}")


@app.command(rich_help_panel=_DATA)
def compact(
    run: RunDir,
    target_mb: Annotated[
        int, typer.Option(min=1, help="Size from which on a segment is big enough, in megabytes.")
    ] = 256,
) -> None:
    """Merge many small segments into few big ones. Safe while a run is written and read."""
    from mmhealth.runlog import compact as merge
    from mmhealth.runlog import open_run, seal_orphans

    open_run(run)
    seal_orphans(run)
    done = merge(run, target_bytes=target_mb << 20)
    if done.busy:
        typer.echo(f"{run}: another process reduces this run: compact it when that is done")
        return
    typer.echo(f"{run}: {done.merged} segments became {done.written}")
    for file, reason in sorted(done.left.items()):
        typer.echo(f"left as it is: {file}: {reason}")


app.command(rich_help_panel=_DATA)(retain)
app.command(rich_help_panel=_DATA)(upload)


def main(arguments: list[str] | None = None) -> None:
    """Entry point. Ends in SystemExit: 2 for wrong usage, 3 for data that cannot be used."""
    try:
        app(arguments, prog_name="mmhealth")
    except MmhealthError as error:
        print(f"mmhealth: {' '.join(str(error).split())}", file=sys.stderr)
        wrong = PolicyError | NotifyError | PortInUseError | TrackerTargetError
        usage = isinstance(error, wrong)
        raise SystemExit(2 if usage else 3) from None
    except PermissionError as error:
        print(f"mmhealth: {error}", file=sys.stderr)
        raise SystemExit(3) from None
