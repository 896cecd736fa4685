"""What happens at each tick, and when the reader chooses something."""

from collections.abc import Callable, Sequence
from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, no_update

from mmhealth.dashboards import alertlist, health
from mmhealth.dashboards.layout import TIMELINE_FIGURES
from mmhealth.dashboards.step_callbacks import register_step_callbacks
from mmhealth.dashboards.urlstate import UrlState, format_query, parse_query
from mmhealth.dashboards.watcher import RunWatcher, Snapshot
from mmhealth.dashboards.zoom import Zoom, apply_zoom, window_of
from mmhealth.figures import (
    OPTIONAL,
    Theme,
    entropy_figure,
    ess_figure,
    gini_figure,
    groups_figure,
    has_data,
    heldout_figure,
    horizon_figure,
    noise_figure,
    reward_ess_figure,
    sources_figure,
)
from mmhealth.health import Policy

_CARD = ("verdict", "why", "step", "last_row", "rows", "losses")
_FIGURES = (*TIMELINE_FIGURES, "horizon")


def register_callbacks(app: Dash, watchers: Sequence[RunWatcher], policy: Policy) -> None:
    """Connect the page to the watchers."""
    _register_client(app)
    _register_tick(app, watchers, policy)
    register_step_callbacks(app, watchers)
    _register_address(app, [watcher.name for watcher in watchers])


def _register_client(app: Dash) -> None:
    connect: Any = app.clientside_callback

    def client(name: str) -> ClientsideFunction:
        return ClientsideFunction("mmhealth", name)

    connect(
        client("applyTheme"),
        Output("theme", "data"),
        Input("theme-choice", "value"),
        Input("system-theme", "data"),
    )
    connect(
        client("keepZoom"),
        Output("zoom", "data"),
        *[Input(name, "relayoutData") for name in (*TIMELINE_FIGURES, "lorenz")],
        State("zoom", "data"),
        prevent_initial_call=True,
    )
    connect(
        client("showAddress"),
        Output("sent", "data"),
        Input("query", "data"),
        prevent_initial_call=True,
    )
    connect(client("heartbeat"), Output("offline", "hidden"), Input("beat", "data"))


def _register_tick(app: Dash, watchers: Sequence[RunWatcher], policy: Policy) -> None:
    outputs: dict[str, Any] = {
        kind: Output({"type": kind, "run": ALL}, "children") for kind in _CARD
    }
    outputs["card"] = Output({"type": "card", "run": ALL}, "className")
    outputs |= {name: Output(name, "figure") for name in _FIGURES}
    outputs |= {_hidden(name): Output(f"{name}-panel", "hidden") for name in OPTIONAL}
    outputs |= {
        "alerts": Output("alerts", "children"),
        "summary": Output("alert-summary", "children"),
        "announce": Output("announce", "children"),
        "seen": Output("seen", "data"),
        "revision": Output("revision", "data"),
        "beat": Output("beat", "data"),
    }

    @app.callback(
        output=outputs,
        inputs={
            "ticks": Input("tick", "n_intervals"),
            "theme": Input("theme", "data"),
            "names": Input("runs", "value"),
            "basis": Input("basis", "value"),
            "zoom": Input("zoom", "data"),
            "seen": State("seen", "data"),
        },
        running=[(Output("tick", "disabled"), True, False)],
    )
    def on_tick(
        *,
        ticks: int | None,
        theme: Theme | None,
        names: list[str] | None,
        basis: str,
        zoom: Zoom | None,
        seen: str | None,
    ) -> dict[str, Any]:
        snapshots = [watcher.snapshot for watcher in watchers]
        cards = [health.describe(snapshot) for snapshot in snapshots]
        result: dict[str, Any] = dict.fromkeys(outputs, no_update)
        result |= {kind: [getattr(card, kind) for card in cards] for kind in _CARD}
        result["card"] = [f"card {card.tone}" for card in cards]
        result["beat"] = ticks or 0
        revisions = "-".join(str(snapshot.revision) for snapshot in snapshots)
        now = f"{revisions}|{theme}|{names}|{basis}|{zoom}"
        if now == seen:
            return result
        shown = [snapshot for snapshot in snapshots if snapshot.view.name in (names or ())]
        entries = alertlist.collect_entries([snapshot.view for snapshot in shown])
        result |= _figures(shown, policy, theme or "light", basis, zoom or {})
        views = [snapshot.view for snapshot in shown]
        result |= {_hidden(name): not has_data(name, views) for name in OPTIONAL}
        result |= {"seen": now, "revision": revisions}
        result["alerts"] = alertlist.render_entries(entries)
        result["summary"] = alertlist.summarize(entries)
        result["announce"] = alertlist.announce(entries)
        return result


def _hidden(name: str) -> str:
    return f"{name}_hidden"


def _figures(
    shown: Sequence[Snapshot],
    policy: Policy,
    theme: Theme,
    basis: Any,
    zoom: Zoom,
) -> dict[str, Any]:
    views = [snapshot.view for snapshot in shown]
    single = "signal" if basis == "all" else basis
    windows = {name: window_of(zoom, name) for name in TIMELINE_FIGURES}

    def over_steps(name: str, draw: Callable[..., Any], *more: Any, **choices: Any) -> Any:
        return draw(views, *more, window=windows[name], theme=theme, **choices)

    figures = {
        "ess": over_steps("ess", ess_figure, policy, basis=basis),
        "heldout": over_steps("heldout", heldout_figure),
        "reward_ess": over_steps("reward_ess", reward_ess_figure, basis=single),
        "gini": over_steps("gini", gini_figure, policy),
        "noise": over_steps("noise", noise_figure, policy),
        "sources": over_steps("sources", sources_figure),
        "entropy": over_steps("entropy", entropy_figure, policy),
        "groups": over_steps("groups", groups_figure, policy),
        "horizon": horizon_figure({s.view.name: s.horizon for s in shown}, theme=theme),
    }
    return {name: apply_zoom(figure, zoom.get(name)) for name, figure in figures.items()}


def _register_address(app: Dash, known: list[str]) -> None:
    @app.callback(
        Output("runs", "value"),
        Output("basis", "value"),
        Output("theme-choice", "value"),
        Output("table-run", "value"),
        Output("step", "value", allow_duplicate=True),
        Output("latest", "value", allow_duplicate=True),
        Input("url", "search"),
        prevent_initial_call="initial_duplicate",
    )
    def read_address(search: str | None) -> Any:
        state = parse_query(search, known)
        latest = ["latest"] if state.step is None else []
        step = no_update if state.step is None else state.step
        table_run = state.table or (known[0] if known else "")
        return list(state.runs), state.basis, state.theme, table_run, step, latest

    @app.callback(
        Output("query", "data"),
        inputs={
            "names": Input("runs", "value"),
            "basis": Input("basis", "value"),
            "theme": Input("theme-choice", "value"),
            "table_run": Input("table-run", "value"),
            "step": Input("step", "value"),
            "latest": Input("latest", "value"),
        },
        prevent_initial_call=True,
    )
    def write_address(
        *, names: list[str], basis: str, theme: str, table_run: str, step: int | None, latest: Any
    ) -> str:
        chosen = None if latest else step
        return format_query(UrlState(tuple(names or ()), chosen, basis, theme, table_run), known)
