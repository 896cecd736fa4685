"""The page: what stands where. Callbacks fill the leaves and never remount a branch."""

from collections.abc import Sequence
from typing import Any

import dash_ag_grid as dag
from dash import dcc, html

from mmhealth.dashboards.urlstate import DEFAULT_BASIS
from mmhealth.dashboards.watcher import RunWatcher
from mmhealth.figures import CAPTIONS, CONFIG, OPTIONAL, empty_figure

TIMELINE_FIGURES = ("ess", "heldout", "reward_ess", "gini", "entropy", "groups", *OPTIONAL)
"""Figures over steps: a click chooses the step."""

PAGE_INTERVAL_MS = 1000

_CONFIG: Any = CONFIG
GRID_THEME = """themeQuartz.withParams({
    backgroundColor: 'var(--panel)', foregroundColor: 'var(--text)', borderColor: 'var(--line)',
    headerBackgroundColor: 'var(--page)', headerTextColor: 'var(--muted)',
    accentColor: 'var(--accent)', rowHoverColor: 'var(--info-back)', browserColorScheme: 'inherit',
    fontFamily: 'inherit', fontSize: 13, spacing: 6, wrapperBorderRadius: 6
})"""


def build_layout(watchers: Sequence[RunWatcher], note: str | None, home: str | None = None) -> Any:
    """The whole page; ``home`` is the address of the fleet that the runs are part of."""
    return html.Div(
        [
            html.A("Skip to the charts", href="#charts", className="skip"),
            dcc.Location(id="url", refresh=False),
            dcc.Interval(id="tick", interval=PAGE_INTERVAL_MS),
            *[
                dcc.Store(id=name)
                for name in ("seen", "revision", "followed", "beat", "theme", "query", "sent")
            ],
            dcc.Store(id="zoom", data={}),
            dcc.Store(id="system-theme", data="light"),
            build_header(note, home),
            html.Div(
                "No answer from mmhealth watch: the page shows what it last said.",
                id="offline",
                role="alert",
                hidden=True,
            ),
            html.Section(
                [
                    html.H2("Runs", className="visually-hidden"),
                    *[_run_card(watcher) for watcher in watchers],
                ],
                className="cards",
            ),
            _toolbar(watchers),
            html.Main([_charts(), _step(watchers)], id="charts", tabIndex="-1"),
            html.Div(
                id="announce", className="visually-hidden", role="status", **_aria(live="polite")
            ),
        ],
        className="page",
    )


def build_header(note: str | None, home: str | None = None) -> Any:
    """Name, note, way home, and the choice of the theme."""
    return html.Header(
        [
            html.Div(
                [
                    html.H1("mmhealth"),
                    html.P("health of the policy-gradient estimator", className="tagline"),
                ],
                className="brand",
            ),
            html.A("← all runs", href=home or "", id="home", hidden=home is None),
            html.P(note or "", id="note", hidden=not note),
            _choice("theme-choice", "Theme", ("auto", "light", "dark"), "auto"),
        ],
        className="top",
    )


def _run_card(watcher: RunWatcher) -> Any:
    def leaf(kind: str) -> dict[str, Any]:
        return {"type": kind, "run": watcher.number}

    facts = [("step", "step"), ("last row", "last_row"), ("rows read / present", "rows")]
    return html.Article(
        [
            html.Div(
                [
                    html.Span(className=f"dot run-{watcher.number % 6}"),
                    html.H3(watcher.name, id=f"run-name-{watcher.number}"),
                    html.Span("…", id=leaf("verdict"), className="verdict"),
                ],
                className="card-head",
            ),
            html.P("", id=leaf("why"), className="why"),
            html.Dl(
                [html.Div([html.Dt(label), html.Dd("–", id=leaf(kind))]) for label, kind in facts]
            ),
            html.P("", id=leaf("losses"), className="losses"),
        ],
        id=leaf("card"),
        className="card waiting",
        **_aria(labelledby=f"run-name-{watcher.number}"),
    )


def _toolbar(watchers: Sequence[RunWatcher]) -> Any:
    names = [watcher.name for watcher in watchers]
    runs = html.Fieldset(
        [
            html.Legend("Runs shown"),
            dcc.Checklist(
                id="runs",
                options=[{"label": name, "value": name} for name in names],
                value=names,
                inline=True,
            ),
        ],
        hidden=len(names) < 2,
    )
    bases = ("weight", "signal", "contribution", "all")
    return html.Div(
        [runs, _choice("basis", "ESS basis", bases, DEFAULT_BASIS)],
        className="toolbar",
        role="group",
        **_aria(label="What is shown"),
    )


def _choice(name: str, label: str, values: Sequence[str], value: str) -> Any:
    options = [{"label": text, "value": text} for text in values]
    return html.Fieldset(
        [
            html.Legend(label),
            dcc.RadioItems(id=name, options=options, value=value, inline=True),
        ],
        className="segments",
    )


def _charts() -> Any:
    alerts = html.Section(
        [
            html.Div(
                [html.H2("Alerts", id="alerts-title"), html.Span("", id="alert-summary")],
                className="panel-head",
            ),
            html.Ul([], id="alerts", tabIndex="0", **_aria(labelledby="alerts-title")),
        ],
        className="panel alerts",
        **_aria(labelledby="alerts-title"),
    )
    return html.Div(
        [
            _panel("ess", "wide"),
            _panel("heldout", "wide"),
            alerts,
            _panel("reward_ess"),
            _panel("gini"),
            _panel("entropy"),
            _panel("groups"),
            *[_panel(name, optional=True) for name in OPTIONAL],
            _panel("horizon", "wide"),
        ],
        className="grid",
    )


def _panel(name: str, width: str = "", *, optional: bool = False) -> Any:
    """``optional``: hidden until a run has what it shows."""
    caption = CAPTIONS[name]
    return html.Section(
        [
            html.H2(caption.title, id=f"{name}-title"),
            html.P(
                [caption.shows, " ", html.Span(caption.good, className="good")],
                id=f"{name}-caption",
                className="caption",
            ),
            html.Div(_graph(name), className="chart"),
        ],
        id=f"{name}-panel",
        hidden=optional,
        className=f"panel {name} {width}".strip(),
        **_aria(labelledby=f"{name}-title", describedby=f"{name}-caption"),
    )


def _graph(name: str) -> Any:
    return dcc.Graph(
        id=name,
        figure=empty_figure("reading"),
        config=_CONFIG,
        responsive=True,
        className="graph",
    )


def _step(watchers: Sequence[RunWatcher]) -> Any:
    names = [watcher.name for watcher in watchers]
    chooser = html.Div(
        [
            html.H2("One step", id="step-title"),
            html.Label("Step", htmlFor="step"),
            dcc.Input(id="step", type="number", min=0, step=1, debounce=True),
            dcc.Checklist(
                id="latest",
                options=[{"label": "follow the latest", "value": "latest"}],
                value=["latest"],
            ),
            html.P("A click into a chart over steps chooses its step.", className="caption"),
        ],
        className="chooser",
        role="group",
        **_aria(labelledby="step-title"),
    )
    which = _choice("table-run", "Trajectories of", names, names[0] if names else "")
    which.hidden = len(names) < 2
    table = html.Section(
        [
            html.H2("Trajectories", id="table-title"),
            which,
            html.P("", id="table-caption", className="caption"),
            dag.AgGrid(
                id="table",
                rowData=[],
                columnDefs=[],
                defaultColDef={"sortable": True, "resizable": True, "width": 112, "minWidth": 64},
                dashGridOptions={
                    "theme": {"function": GRID_THEME},
                    "rowHeight": 30,
                    "headerHeight": 34,
                    "animateRows": False,
                    "tooltipShowDelay": 300,
                },
                style={"height": "100%"},
            ),
        ],
        className="panel table wide",
        **_aria(labelledby="table-title"),
    )
    return html.Div(
        [chooser, html.Div([_panel("lorenz"), table], className="grid")], className="one-step"
    )


def _aria(**attributes: str) -> dict[str, Any]:
    return {f"aria-{name}": value for name, value in attributes.items()}
