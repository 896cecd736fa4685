"""Puts the Dash app together."""

from collections.abc import Sequence
from pathlib import Path

from dash import Dash

from mmhealth.dashboards.callbacks import register_callbacks
from mmhealth.dashboards.layout import build_layout
from mmhealth.dashboards.watcher import RunWatcher, watch_runs
from mmhealth.health import Policy, default_policy
from mmhealth.place import RunPlace

_PAGE = """<!DOCTYPE html>
<html lang="en">
    <head>
        {%metas%}
        <title>{%title%}</title>
        {%favicon%}
        {%css%}
    </head>
    <body>
        {%app_entry%}
        <footer>
            {%config%}
            {%scripts%}
            {%renderer%}
        </footer>
    </body>
</html>"""


def create_app(
    paths: Sequence[RunPlace], policy: Policy | None = None, *, note: str | None = None
) -> Dash:
    """The dashboard of these runs, for any WSGI server (``app.server``); it watches from now on."""
    policy = policy or default_policy()
    return build_app(watch_runs(paths, policy), policy, note)


def build_app(
    watchers: Sequence[RunWatcher],
    policy: Policy,
    note: str | None = None,
    *,
    prefix: str = "/",
    home: str | None = None,
) -> Dash:
    """The dashboard of watchers that somebody else starts and stops.

    ``prefix``: the address of this app on a server that has more, which strips it from requests;
    ``home``: that of the fleet that the runs are part of.
    """
    app = bare_app(prefix)
    app.layout = build_layout(watchers, note, home)
    register_callbacks(app, watchers, policy)
    return app


def bare_app(prefix: str = "/") -> Dash:
    """An app without a layout that loads everything from here."""
    return Dash(
        __name__,
        requests_pathname_prefix=prefix,
        routes_pathname_prefix="/",
        title="mmhealth",
        update_title="",
        assets_folder=str(Path(__file__).parent / "assets"),
        index_string=_PAGE,
        serve_locally=True,
        health_endpoint="health",
        add_log_handler=False,
    )
