"""How figures look: themes, colours, axes, and what stands where there are no data."""

import html
import textwrap
from dataclasses import dataclass
from typing import Any, Literal

import plotly.graph_objects as go

Theme = Literal["light", "dark"]

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"],
    "responsive": True,
}
"""Configuration of every figure: nothing is sent anywhere."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"


LEGEND: dict[str, Any] = {
    "orientation": "h",
    "x": 0,
    "xanchor": "left",
    "y": 1.02,
    "yanchor": "bottom",
    "font": {"size": 12},
    "bgcolor": "rgba(0,0,0,0)",
    "tracegroupgap": 0,
}

MARGIN: dict[str, int] = {"l": 48, "r": 16, "t": 2, "b": 40}
LINE_MARGIN = 44
"""The right margin where the words of alert lines stand in it."""


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of a theme."""

    paper: str
    text: str
    muted: str
    grid: str
    critical: str
    warning: str
    info: str
    runs: tuple[str, ...]
    """One for each run, told apart by colour-blind people too (after Okabe and Ito)."""
    low: str
    """A success rate of 0."""
    high: str
    """A success rate of 1."""


PALETTES: dict[Theme, Palette] = {
    "light": Palette(
        paper="#ffffff",
        text="#1d2733",
        muted="#5b6875",
        grid="#e9edf1",
        critical="#b3261e",
        warning="#8a5a00",
        info="#42566b",
        runs=("#0b68b0", "#d0570f", "#0a8a68", "#a8478f", "#a37a00", "#49525c"),
        low="#f3f6f9",
        high="#7fb5e6",
    ),
    "dark": Palette(
        paper="#171c24",
        text="#e4e9ef",
        muted="#9aa7b5",
        grid="#272f3a",
        critical="#ff7d72",
        warning="#f0b849",
        info="#a9bbce",
        runs=("#58b0f2", "#ff9d5c", "#43d3a5", "#ee9ad6", "#e8c547", "#cfd6de"),
        low="#1d2530",
        high="#1f6fb4",
    ),
}


def run_colour(theme: Theme, number: int) -> str:
    """The colour of run ``number`` (from 0), the same in every figure."""
    runs = PALETTES[theme].runs
    return runs[number % len(runs)]


def translucent(colour: str, alpha: float) -> str:
    """A ``#rrggbb`` colour with some transparency."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def safe_text(text: str, width: int = 64) -> str:
    """Text for a hover label or an annotation: escaped, and wrapped at ``width`` characters."""
    return "<br>".join(html.escape(line, quote=False) for line in textwrap.wrap(text, width))


def axis(theme: Theme, **more: Any) -> dict[str, Any]:
    """An axis of the house style."""
    palette = PALETTES[theme]
    style: dict[str, Any] = {
        "gridcolor": palette.grid,
        "linecolor": palette.grid,
        "zeroline": False,
        "automargin": True,
        "tickfont": {"color": palette.muted, "size": 12},
        "title": {"font": {"color": palette.muted, "size": 12}, "standoff": 8},
    }
    title = more.pop("title", None)
    if title is not None:
        style["title"]["text"] = title
    return style | more


def make_figure(data: list[dict[str, Any]], theme: Theme, **layout: Any) -> go.Figure:
    """A figure of the house style. What a reader zoomed to survives an update of the data."""
    palette = PALETTES[theme]
    style: dict[str, Any] = {
        "template": None,
        "paper_bgcolor": palette.paper,
        "plot_bgcolor": palette.paper,
        "font": {"family": FONT, "size": 13, "color": palette.text},
        "margin": MARGIN,
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": palette.paper,
            "bordercolor": palette.muted,
            "font": {"family": FONT, "size": 12, "color": palette.text},
            "align": "left",
            "namelength": -1,
        },
        "legend": LEGEND,
        "showlegend": True,
        "dragmode": "zoom",
        "modebar": {
            "bgcolor": translucent(palette.paper, 0.85),
            "color": palette.muted,
            "activecolor": palette.text,
        },
        "uirevision": "mmhealth",
    }
    return go.Figure(data=data, layout=style | layout)


def empty_figure(reason: str, theme: Theme = "light") -> go.Figure:
    """A figure without data that says why."""
    note = {
        "text": safe_text(reason, 44),
        "showarrow": False,
        "x": 0.5,
        "y": 0.5,
        "xref": "paper",
        "yref": "paper",
        "font": {"color": PALETTES[theme].muted, "size": 14},
    }
    hidden = {"visible": False}
    return make_figure(
        [],
        theme,
        annotations=[note],
        xaxis=hidden,
        yaxis=hidden,
        showlegend=False,
        uirevision="empty",
    )


def note(text: str, theme: Theme) -> dict[str, Any]:
    """Small words in the lower left corner."""
    return {
        "text": safe_text(text, 60),
        "showarrow": False,
        "xref": "paper",
        "yref": "paper",
        "x": 0.01,
        "xanchor": "left",
        "y": 0.02,
        "yanchor": "bottom",
        "align": "left",
        "font": {"color": PALETTES[theme].muted, "size": 11},
    }
