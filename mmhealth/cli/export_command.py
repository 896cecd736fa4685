"""The command ``mmhealth export``."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mmhealth.cli.options import PolicyPath, RunDir, usage_error


def export(
    run: RunDir,
    *,
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TRACKER",
            help="tensorboard=DIR, wandb[=PROJECT], mlflow[=URI] or "
            "trackio[=PROJECT]; may be given several times.",
        ),
    ] = None,
    serve: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST]:PORT", help="Serve OpenMetrics; HOST is 127.0.0.1 by default."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="With --to: go on as the run grows, until Ctrl-C.")
    ] = False,
    poll: Annotated[
        float, typer.Option(min=0.01, help="Seconds between two looks at the run.")
    ] = 1.0,
    policy: PolicyPath = None,
) -> None:
    """Send each step's health to trackers, or serve it to Prometheus (docs/trackers.md)."""
    if bool(to) == bool(serve):
        raise usage_error("export needs either --to or --serve")
    if serve:
        if follow:
            raise usage_error("--follow goes with --to; --serve always follows")
        _serve(run, serve, policy)
        return
    from mmhealth.health import load_policy
    from mmhealth.integrations.trackers import forward

    rules = load_policy(policy)
    with _until_interrupted() as stop:
        told = forward(run, to or [], policy=rules, follow=follow, poll=poll, stop=stop)
    for target in told:
        typer.echo(f"{target.target}: {target.steps} step{'' if target.steps == 1 else 's'} sent")
        if target.in_doubt:
            typer.echo(
                f"{target.target}: an earlier export was cut off while it sent {target.in_doubt} "
                "steps; they are not sent again and may be missing",
                err=True,
            )


def _serve(run: Path, address: str, policy: Path | None) -> None:
    from mmhealth.health import load_policy
    from mmhealth.integrations.trackers.endpoint import HOST, Endpoint

    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise usage_error(f"--serve: {address!r} is not of the form [HOST]:PORT")
    try:
        endpoint = Endpoint(run, load_policy(policy), host or HOST, int(port))
    except OSError as error:
        raise usage_error(f"--serve: cannot listen on {address}: {error.strerror}") from None
    typer.echo(f"serving at {endpoint.url} (Ctrl-C ends)")
    try:
        endpoint.serve()
    except KeyboardInterrupt:
        return


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second ends the process."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def interrupted(*_: object) -> None:
        stop.set()
        restore()

    for number in numbers:
        signal.signal(number, interrupted)
    try:
        yield stop
    finally:
        restore()
