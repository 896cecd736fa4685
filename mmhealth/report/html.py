"""The audit as one HTML file that needs nothing from outside itself."""

import json
from collections.abc import Callable
from html import escape
from typing import Any, get_args

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mmhealth import figures
from mmhealth._version import __version__
from mmhealth.health.contribution import step_contribution
from mmhealth.health.heldout import held_out_course
from mmhealth.report.audit import Audit
from mmhealth.report.html_parts import run_details, run_summary, section_html
from mmhealth.report.html_style import SCRIPT, STYLE
from mmhealth.report.sections import closing_sections

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
_SHARING = _POLICY.replace("script-src", "script-src 'self' file:")

Draw = Callable[[figures.Theme], go.Figure]


def render_html(audit: Audit, plotly: str | None = None) -> str:
    """The page: verdicts and sentences, figures in light and dark, then the evidence as text.

    ``plotly``: name of a file beside the page that holds plotly.js, for many pages that share it;
    where None it is part of the page.
    """
    drawn = _figures(audit)
    allowed = _POLICY if plotly is None else _SHARING
    title = f"mmhealth audit: {', '.join(run.label for run in audit.runs)}"
    summaries = [run_summary(run, number) for number, run in enumerate(audit.runs)]
    closing = (section_html(section, "h2") for section in closing_sections(audit))
    blocks = [_block(name) for name in drawn]
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{allowed}">',
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style></head><body>",
            f'<h1><span class="verdict {audit.verdict}">{audit.verdict}</span> mmhealth audit</h1>',
            *summaries,
            "<noscript><p>The figures need JavaScript; all numbers are in the text.</p></noscript>",
            f'<div class="figures">{"".join(blocks)}</div>',
            *(run_details(run) for run in audit.runs),
            *(f'<section class="closing">{section}</section>' for section in closing),
            f"<footer>mmhealth {__version__}; judged by {escape(audit.policy.source)}</footer>",
            _script(plotly),
            f'<script id="figures" type="application/json">{_data(drawn)}</script>',
            f"<script>{SCRIPT}</script>",
            "</body></html>",
            "",
        )
    )


def _script(plotly: str | None) -> str:
    if plotly is None:
        return f"<script>{get_plotlyjs()}</script>"
    return f'<script src="{escape(plotly)}"></script>'


def _figures(audit: Audit) -> dict[str, Draw]:
    """By name of the caption, how to draw each figure."""
    policy = audit.policy
    views = [
        figures.RunView(
            name=run.label,
            timeline=run.monitor.timeline.frame,
            alerts=run.standing,
            reasons=run.monitor.timeline.reasons(),
            number=number,
            held_out=held_out_course(run.run.evaluations),
            sources=run.monitor.timeline.sources,
        )
        for number, run in enumerate(audit.runs)
    ]
    steps = [
        (view, step_contribution(data, run.run.loss_ratio))
        for view, run in zip(views, audit.runs, strict=True)
        if run.steps and (data := run.run.step_data(run.steps[-1])) is not None
    ]
    matrices = audit.horizons.matrices
    drawn: dict[str, Draw] = {
        "ess": lambda theme: figures.ess_figure(views, policy, basis="all", theme=theme),
        "heldout": lambda theme: figures.heldout_figure(views, theme=theme),
        "reward_ess": lambda theme: figures.reward_ess_figure(views, theme=theme),
        "gini": lambda theme: figures.gini_figure(views, policy, theme=theme),
        "noise": lambda theme: figures.noise_figure(views, policy, theme=theme),
        "sources": lambda theme: figures.sources_figure(views, theme=theme),
        "lorenz": lambda theme: figures.lorenz_figure(steps, theme=theme),
        "entropy": lambda theme: figures.entropy_figure(views, policy, theme=theme),
        "groups": lambda theme: figures.groups_figure(views, policy, theme=theme),
        "horizon": lambda theme: figures.horizon_figure(matrices, theme=theme),
    }
    return {name: draw for name, draw in drawn.items() if figures.has_data(name, views)}


def _block(name: str) -> str:
    caption = figures.CAPTIONS[name]
    step = " The last step of each run." if name == "lorenz" else ""
    wide = ' class="wide"' if name in ("ess", "heldout") else ""
    words = f"{escape(caption.shows)}{step} {escape(caption.good)}"
    return (
        f"<figure{wide}><figcaption><b>{escape(caption.title)}</b>{words}</figcaption>"
        f'<div class="plot" id="{name}" role="img" aria-label="{escape(caption.title)}"></div>'
        "</figure>"
    )


def _data(drawn: dict[str, Draw]) -> str:
    themes: dict[str, dict[str, Any]] = {
        name: {theme: json.loads(draw(theme).to_json()) for theme in get_args(figures.Theme)}
        for name, draw in drawn.items()
    }
    text = json.dumps({"themes": themes, "config": figures.CONFIG}, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
