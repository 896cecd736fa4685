"""A fleet as one HTML file that sorts and filters by itself and needs nothing from outside."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from mmhealth._version import __version__
from mmhealth.fleet.headroom import WorstMetric
from mmhealth.fleet.judge import Fleet
from mmhealth.fleet.page_style import FIRST_SCRIPT, SCRIPT, STYLE
from mmhealth.fleet.select import FIELDS, run_text, varied_settings
from mmhealth.fleet.summary import RunSummary
from mmhealth.fleet.terminal import describe_fleet
from mmhealth.fleet.words import firing_words, headroom_words, lead_words, trend_words, worst_words
from mmhealth.report.html_style import STYLE as SHARED_STYLE

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
_WIDTH, _HEIGHT = 96, 22
_MOST_SETTINGS = 40
_LONGEST = 200
_FIRST = 200
"""Rows that are laid out before the reader comes near the others."""
_LONGEST_TEXT = 2000
_COLUMNS: tuple[tuple[str, str, str, str], ...] = (
    ("verdict", "verdict", "up", "The gravest first; among equals the least headroom"),
    ("name", "run", "up", "Name of the run; its path where names are not unique"),
    ("headroom", "worst metric", "up", "Sorted by headroom: how many times the threshold is away"),
    ("course", "course", "", "The worst metric over the run; dashed: its threshold"),
    ("crossing", "trend", "up", "Sorted by steps to the next crossing that is forecast"),
    ("since", "firing since", "down", "First step since which an alert fires"),
    ("lead", "lead", "down", "Steps from the first alert to the stall of held-out success"),
    ("step", "step", "down", "Last step judged"),
    ("commit", "last commit", "down", "When a step was last committed (UTC)"),
    ("state", "state", "up", "recording, finished (closed by its recorder), or silent"),
)
"""Key, heading, which way it sorts first (not at all where empty), and what it means."""
_CLASSES = {"headroom": "worst", "crossing": "trend", "since": "firing"}


def render_fleet_page(
    fleet: Fleet, shown: Sequence[RunSummary], pages: Mapping[str, str] | None = None
) -> str:
    """The page, with the runs in this order; ``pages`` has links to audits, by path of the run."""
    settings = varied_settings(shown)[:_MOST_SETTINGS]
    title = f"mmhealth fleet: {describe_fleet(fleet, len(shown))}"
    head = "".join(_heading(*column) for column in _COLUMNS)
    links = pages or {}
    rows = [_row(run, links.get(run.path)) for run in shown]
    data = {
        "fields": [*FIELDS],
        "settings": settings,
        "first": _FIRST,
        "runs": [_data(run, settings) for run in shown],
    }
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title>",
            f"<style>{SHARED_STYLE}{STYLE}</style><script>{FIRST_SCRIPT}</script></head><body>",
            "<h1>mmhealth fleet</h1>",
            f"<section><p>{escape(describe_fleet(fleet, len(shown)))}.</p>",
            _controls(shown, settings),
            '<table class="fleet"><caption hidden>Runs</caption>',
            f'<thead><tr><th class="k-more"></th>{head}</tr></thead><tbody>',
            *rows[:_FIRST],
            '</tbody><tbody class="later">',
            *rows[_FIRST:],
            '</tbody></table><div id="end"></div></section>',
            f"<footer>mmhealth {__version__}; judged by {escape(fleet.policy.source)}, "
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC</footer>",
            f'<script id="fleet" type="application/json">{_json(data)}</script>',
            f"<script>{SCRIPT}</script>",
            "</body></html>",
            "",
        )
    )


def _controls(shown: Sequence[RunSummary], settings: Sequence[str]) -> str:
    verdicts = dict.fromkeys(run.verdict for run in shown)
    counts = {name: sum(run.verdict == name for run in shown) for name in verdicts}
    chips = "".join(
        f'<label class="chip"><input type="checkbox" value="{name}" checked>'
        f'<span class="verdict {name}">{name}</span> {count:,}</label>'
        for name, count in counts.items()
    )
    example = f"{settings[0]}=…" if settings else "trend=worsening"
    return (
        '<div class="controls"><label class="search"><span>Filter (press /)</span>'
        '<input type="search" id="search" autocomplete="off" spellcheck="false" '
        f'placeholder="words, headroom&lt;1.5, lead&gt;0, {escape(example)}"></label>'
        f"<fieldset><legend>Verdict</legend>{chips}</fieldset>"
        f'<output id="count">{len(shown):,} runs</output></div>'
        '<p class="problem" id="problem" role="alert"></p>'
        '<p class="noscript">Sorting, filtering and details need JavaScript.</p>'
    )


def _heading(key: str, name: str, first: str, about: str) -> str:
    kind = f'class="k-{_CLASSES.get(key, key)}" scope="col" title="{escape(about)}"'
    if not first:
        return f"<th {kind}>{name}</th>"
    order = ' aria-sort="ascending"' if key == "verdict" else ""
    return (
        f'<th {kind} data-key="{key}" data-first="{first}"{order}>'
        f'<button type="button">{name}</button></th>'
    )


def _row(run: RunSummary, link: str | None) -> str:
    name = escape(run.label)
    if link is not None:
        name = f'<a href="{escape(link)}">{name}</a>'
    why = escape(" ".join(run.why.split()))
    worst = why if run.worst is None else _worst(run.worst)
    step = "" if run.step is None else f"{run.step:,}"
    cells = {
        "verdict": f'<span class="verdict {run.verdict}">{run.verdict}</span>',
        "name": name,
        "worst": worst,
        "course": "" if run.worst is None else _curve(run.worst),
        "trend": escape(trend_words(run)),
        "firing": escape(firing_words(run)),
        "lead": lead_words(run),
        "step": step,
        "commit": _commit(run),
        "state": "" if run.verdict == "unreadable" else run.state,
    }
    more = (
        f'<td class="k-more"><button type="button" class="more" aria-expanded="false" '
        f'aria-label="Details of {escape(run.label)}">▸</button></td>'
    )
    titles = {"name": escape(run.path), "worst": why, "trend": cells["trend"]}
    shown = "".join(
        f'<td class="k-{key}{" run" if key == "name" else ""}"'
        + (f' title="{titles[key]}"' if titles.get(key) else "")
        + f">{cell}</td>"
        for key, cell in cells.items()
    )
    return f"<tr>{more}{shown}</tr>"


def _commit(run: RunSummary) -> str:
    if run.last_commit is None:
        return ""
    return f"{datetime.fromtimestamp(run.last_commit, UTC):%Y-%m-%d %H:%M}"


def _worst(worst: WorstMetric) -> str:
    room = headroom_words(worst)
    return escape(worst_words(worst)) + (f" <small>{escape(room)}</small>" if room else "")


def _curve(worst: WorstMetric) -> str:
    """The course as a line with gaps, and the threshold where it is in sight."""
    known = [value for value in worst.course if value is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    span, wide = (high - low) or 1.0, max(len(worst.course) - 1, 1)

    def y(value: float) -> str:
        share = (value - low) / span if high > low else 0.5
        return f"{2 + (_HEIGHT - 4) * (1 - share):.1f}"

    path, pen = [], "M"
    for index, value in enumerate(worst.course):
        if value is None:
            pen = "M"
            continue
        path.append(f"{pen}{_WIDTH * index / wide:.0f} {y(value)}")
        pen = "L"
    limit = ""
    if math.isfinite(worst.threshold) and low <= worst.threshold <= high:
        limit = f'<path class="limit" d="M0 {y(worst.threshold)}H{_WIDTH}"/>'
    kind = ' class="firing"' if worst.firing else ""
    return (
        f'<svg{kind} width="{_WIDTH}" height="{_HEIGHT}" aria-hidden="true">'
        f'{limit}<path class="curve" d="{"".join(path)}"/></svg>'
    )


def _data(run: RunSummary, settings: Sequence[str]) -> dict[str, Any]:
    """What the script sorts, filters and shows in the details."""
    varied = [_setting(run.config.get(key)) for key in settings]
    return {
        "verdict": run.verdict,
        "fields": [_sortable(get(run)) for get in FIELDS.values()],
        "settings": varied,
        "text": run_text(run)[:_LONGEST_TEXT],
        "details": [[term, words] for term, words in _details(run) if words],
    }


def _details(run: RunSummary) -> list[tuple[str, str]]:
    lead = run.lead_reason
    if run.lead is not None:
        lead = f"first alert at step {run.lead.alert_step}, stall at step {run.lead.stall_step}"
    alerts = (
        f"{a.severity} {a.rule} {a.state} @{a.step}"
        + ("" if a.resolved_step is None else f" to {a.resolved_step}")
        for a in run.alerts[-12:]
    )
    more = f"{len(run.alerts) - 12} earlier; " if len(run.alerts) > 12 else ""
    config = ", ".join(f"{key}={_short(value)}" for key, value in run.config.items())
    return [
        ("why", run.why),
        ("failure mode", ", ".join(run.failure_modes)),
        ("forecast", "" if run.forecast is None else run.forecast.message),
        ("alerts", more + ", ".join(alerts) if run.alerts else ""),
        ("lead time", "" if run.verdict == "unreadable" else lead),
        ("data", "some of the log is lost: see the audit" if run.data_lost else ""),
        ("settings", config if len(config) < 2000 else f"{config[:2000]}…"),
        (
            "state",
            "" if run.verdict == "unreadable" else f"{run.state}, last commit {_commit(run)} UTC",
        ),
        ("path", run.path),
        ("audit", f"mmhealth audit {shlex.quote(run.path)} --html audit.html"),
    ]


def _setting(value: Any) -> Any:
    """What is sorted and filtered by: NaN is not known."""
    if isinstance(value, float):
        return None if math.isnan(value) else _sortable(value)
    return _short(value)


def _short(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return _finite(value)
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _finite(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _sortable(value: Any) -> Any:
    """The same where JSON has it; infinite is the largest number."""
    return math.copysign(1e308, value) if value in (math.inf, -math.inf) else value


def _json(content: Any) -> str:
    text = json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
