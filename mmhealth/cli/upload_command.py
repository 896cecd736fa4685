"""The command ``mmhealth upload``."""

from typing import Annotated

import typer

from mmhealth.cli.options import RunDir, usage_error
from mmhealth.errors import RunNotFoundError
from mmhealth.place import RunUrl, run_place


def upload(
    run: RunDir,
    url: Annotated[str, typer.Argument(metavar="URL", help="s3://BUCKET/PATH, gs:// or az://.")],
) -> None:
    """Send what an object store lacks of a run. Safe to repeat, and while a run goes on."""
    from mmhealth.runlog import open_run, seal_orphans, upload_run

    try:
        place = run_place(url)
    except RunNotFoundError as error:
        raise usage_error(f"URL: {error}") from None
    if not isinstance(place, RunUrl):
        raise usage_error(
            f"URL: {url!r} is no object store: write s3://BUCKET/PATH, gs:// or az://"
        )
    open_run(run)
    seal_orphans(run)
    done = upload_run(run, place)
    removed = f", {done.removed} merged ones removed there" if done.removed else ""
    typer.echo(
        f"{run}: {done.sent} segments sent ({done.sent_bytes / 1e6:.1f} MB), "
        f"{done.present} were there{removed}"
    )
