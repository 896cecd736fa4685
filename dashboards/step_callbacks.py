"""The chosen step: which it is, its contribution curve and its trajectories."""

from collections.abc import Sequence
from typing import Any

from dash import Dash, Input, Output, State, ctx, no_update

from mmhealth.dashboards import table
from mmhealth.dashboards.layout import TIMELINE_FIGURES
from mmhealth.dashboards.watcher import RunWatcher, Snapshot
from mmhealth.dashboards.zoom import Zoom, apply_zoom
from mmhealth.figures import RunView, Theme, lorenz_figure


def register_step_callbacks(app: Dash, watchers: Sequence[RunWatcher]) -> None:
    """Connect the step chooser, the contribution curve and the table to the watchers."""

    @app.callback(
        Output("step", "value"),
        Output("latest", "value"),
        Output("followed", "data"),
        Input("step", "value"),
        Input("latest", "value"),
        Input("revision", "data"),
        *[Input(name, "clickData") for name in TIMELINE_FIGURES],
        State("runs", "value"),
        State("followed", "data"),
    )
    def choose_step(value: int | None, latest: list[str], _revision: str, *rest: Any) -> Any:
        names, followed = rest[-2:]
        newest = _newest([watcher.snapshot for watcher in watchers], names)
        source = ctx.triggered_id
        if source in TIMELINE_FIGURES:
            clicked = ctx.triggered[0]["value"]
            chosen = (int(clicked["points"][0]["x"]), []) if clicked else (no_update, no_update)
            return *chosen, no_update
        if source != "latest" and value is not None and value not in (followed, newest):
            return no_update, [] if latest else no_update, no_update
        if latest and newest is not None:
            return no_update if value == newest else newest, no_update, newest
        return no_update, no_update, no_update

    @app.callback(
        Output("lorenz", "figure"),
        Output("table", "rowData"),
        Output("table", "columnDefs"),
        Output("table-caption", "children"),
        inputs={
            "value": Input("step", "value"),
            "table_run": Input("table-run", "value"),
            "names": Input("runs", "value"),
            "theme": Input("theme", "data"),
            "_revision": Input("revision", "data"),
            "latest": State("latest", "value"),
            "zoom": State("zoom", "data"),
            "old_columns": State("table", "columnDefs"),
        },
    )
    def show_step(
        *,
        value: int | None,
        table_run: str,
        names: list[str] | None,
        theme: Theme | None,
        _revision: str | None,
        latest: list[str],
        zoom: Zoom | None,
        old_columns: list[dict[str, Any]],
    ) -> Any:
        steps = []
        caption, rows, columns = "No step is complete yet.", [], old_columns
        for watcher in watchers:
            view = watcher.snapshot.view
            own = _last_step(view)
            step = own if latest else value
            found = None if step is None else watcher.step(step)
            if watcher.name in (names or ()) and found is not None:
                steps.append((view, found))
            if watcher.name == table_run and step is not None:
                caption = f"Step {step} of {table_run} is not there."
                if found is not None:
                    caption = table.describe(table_run, found)
                    rows, columns = table.rows(found.frame), table.column_defs(found.frame)
        figure = lorenz_figure(steps, theme=theme or "light")
        apply_zoom(figure, (zoom or {}).get("lorenz"))
        return figure, rows, no_update if columns == old_columns else columns, caption


def _last_step(view: RunView) -> int | None:
    return None if view.timeline.is_empty() else int(view.timeline["step"][-1])


def _newest(snapshots: Sequence[Snapshot], names: list[str] | None) -> int | None:
    known = [_last_step(s.view) for s in snapshots if s.view.name in (names or ())]
    return max((step for step in known if step is not None), default=None)
