"""The fleet's page: every run in one grid, kept up to date."""

from typing import Any

import dash_ag_grid as dag
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update

from mmhealth.dashboards.app import bare_app
from mmhealth.dashboards.fleet_rows import column_defs, grid_rows
from mmhealth.dashboards.layout import GRID_THEME, build_header
from mmhealth.errors import SelectionError
from mmhealth.fleet import select_runs
from mmhealth.fleet.judge import with_labels
from mmhealth.fleet.terminal import count_verdicts
from mmhealth.fleet.watch import FleetSnapshot, FleetWatcher, Row

TICK_MS = 2000


def build_fleet_app(watcher: FleetWatcher) -> Dash:
    """The page of a watcher that somebody else starts and stops."""
    app = bare_app()
    app.layout = _layout()
    _register(app, watcher)
    return app


def _layout() -> Any:
    return html.Div(
        [
            dcc.Location(id="url", refresh=False),
            dcc.Interval(id="tick", interval=TICK_MS),
            *[dcc.Store(id=name) for name in ("seen", "beat", "theme")],
            dcc.Store(id="system-theme", data="light"),
            build_header(None),
            html.Div(
                "No answer from mmhealth fleet: the page shows what it last said.",
                id="offline",
                role="alert",
                hidden=True,
            ),
            html.Main(
                [
                    html.Div(
                        [
                            html.Label("Filter", htmlFor="filter"),
                            dcc.Input(
                                id="filter",
                                type="search",
                                debounce=0.3,
                                placeholder="words, verdict=critical headroom<1.5 lr=1e-5",
                            ),
                            html.Span("", id="counts", role="status"),
                        ],
                        className="chooser fleet-filter",
                    ),
                    html.P("", id="problem", className="losses", role="alert"),
                    _grid(),
                ],
                className="panel fleet-table",
            ),
        ],
        className="page fleet-page",
    )


def _grid() -> Any:
    return dag.AgGrid(
        id="fleet",
        rowData=[],
        columnDefs=column_defs([]),
        getRowId="params.data.id",
        defaultColDef={"sortable": True, "resizable": True, "filter": True, "width": 110},
        dashGridOptions={
            "theme": {"function": GRID_THEME},
            "rowHeight": 30,
            "headerHeight": 34,
            "animateRows": False,
            "tooltipShowDelay": 300,
            "suppressFieldDotNotation": True,
        },
        style={"height": "100%"},
    )


def _register(app: Dash, watcher: FleetWatcher) -> None:
    connect: Any = app.clientside_callback
    connect(
        ClientsideFunction("mmhealth", "applyTheme"),
        Output("theme", "data"),
        Input("theme-choice", "value"),
        Input("system-theme", "data"),
    )
    connect(
        ClientsideFunction("mmhealth", "heartbeat"),
        Output("offline", "hidden"),
        Input("beat", "data"),
    )

    @app.callback(
        output={
            "rows": Output("fleet", "rowData"),
            "columns": Output("fleet", "columnDefs"),
            "counts": Output("counts", "children"),
            "problem": Output("problem", "children"),
            "seen": Output("seen", "data"),
            "beat": Output("beat", "data"),
        },
        inputs={
            "ticks": Input("tick", "n_intervals"),
            "wanted": Input("filter", "value"),
            "seen": State("seen", "data"),
            "columns": State("fleet", "columnDefs"),
        },
        running=[(Output("tick", "disabled"), True, False)],
    )
    def on_tick(
        *, ticks: int | None, wanted: str | None, seen: str | None, columns: list[dict[str, Any]]
    ) -> dict[str, Any]:
        snapshot = watcher.snapshot
        result: dict[str, Any] = dict.fromkeys(("rows", "columns", "counts", "problem"), no_update)
        now = f"{snapshot.revision}|{wanted or ''}"
        result |= {"beat": ticks or 0, "seen": now}
        if now == seen:
            return result
        labelled = _labelled(snapshot)
        try:
            shown = _chosen(labelled, wanted or "")
        except SelectionError as error:
            return result | {"problem": str(error)}
        definitions = column_defs([row.summary for row in labelled])
        if definitions != columns:
            result["columns"] = definitions
        names = [definition["field"] for definition in definitions]
        result |= {
            "rows": grid_rows(shown, names),
            "counts": _counts(snapshot, len(shown)),
            "problem": snapshot.message,
        }
        return result


def _labelled(snapshot: FleetSnapshot) -> list[Row]:
    summaries = with_labels([row.summary for row in snapshot.rows])
    return [
        Row(row.number, summary, row.revision)
        for row, summary in zip(snapshot.rows, summaries, strict=True)
    ]


def _chosen(rows: list[Row], wanted: str) -> list[Row]:
    kept = select_runs([row.summary for row in rows], wanted.split(), reverse=False)
    order = {run.path: place for place, run in enumerate(kept)}
    chosen = [row for row in rows if row.summary.path in order]
    return sorted(chosen, key=lambda row: order[row.summary.path])


def _counts(snapshot: FleetSnapshot, shown: int) -> str:
    words = count_verdicts([row.summary for row in snapshot.rows], shown)
    return words + (f"; {snapshot.due:,} to be judged" if snapshot.due else "")
