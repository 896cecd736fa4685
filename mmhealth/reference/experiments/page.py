"""The report as one HTML file that needs nothing from outside itself, in light and dark."""

import json
from collections.abc import Sequence
from html import escape
from typing import Any, get_args

from plotly.offline import get_plotlyjs

from mmhealth import figures
from mmhealth._version import __version__
from mmhealth.reference.experiments.claims import Criterion, Verdict
from mmhealth.reference.experiments.drawings import Drawing
from mmhealth.reference.experiments.tables import ArmRow
from mmhealth.reference.experiments.words import (
    INTRODUCTION,
    code_words,
    difference_words,
    figure_title,
    holds_words,
    success_words,
)
from mmhealth.report.html_style import SCRIPT, STYLE

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
_CLASSES = {
    "reproduced": "healthy",
    "reproduced in part": "warning",
    "not reproduced": "critical",
    "insufficient data": "insufficient",
}
_MORE_STYLE = """
figure { margin-bottom: 1rem; } .wide td { min-width: 7rem; white-space: normal; }
.wide td:first-child { min-width: 12rem; }
"""


def render_page(
    rows: Sequence[ArmRow],
    verdicts: Sequence[Verdict],
    drawings: Sequence[Drawing],
    seeds: Sequence[int],
) -> str:
    """Verdicts first, then figure by figure the drawings, arms and criteria."""
    listed = ", ".join(map(str, seeds))
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<link rel="icon" href="data:,">',
            "<title>mmhealth reproduce</title>",
            f"<style>{STYLE}{_MORE_STYLE}</style></head><body>",
            "<h1>Reproduction of the article’s claims</h1>",
            f"<section><p>{escape(INTRODUCTION).replace('*', '')} Seeds: {listed}."
            f"{code_words(rows)}</p>",
            _summary(verdicts),
            "</section>",
            "<noscript><p>The figures need JavaScript; all numbers are in the tables.</p>"
            "</noscript>",
            *_sections(rows, verdicts, drawings),
            f"<footer>mmhealth {__version__}</footer>",
            f"<script>{get_plotlyjs()}</script>",
            f'<script id="figures" type="application/json">{_data(drawings)}</script>',
            f"<script>{SCRIPT}</script>",
            "</body></html>",
            "",
        )
    )


def _sections(
    rows: Sequence[ArmRow], verdicts: Sequence[Verdict], drawings: Sequence[Drawing]
) -> list[str]:
    parts = []
    names = dict.fromkeys([v.claim.figure for v in verdicts] + [r.arm.figure for r in rows])
    for figure in names:
        stem = f"figure-{figure}" if figure.isdigit() else figure
        parts.append(f"<h2>{escape(figure_title(figure))}</h2>")
        parts += [_block(one) for one in drawings if one.name in (stem, f"{stem}-arms")]
        own = [row for row in rows if row.arm.figure == figure]
        judged = [verdict for verdict in verdicts if verdict.claim.figure == figure]
        tables = [_arms(own)] if own else []
        parts.append(f"<section>{''.join([*tables, *map(_claim, judged)])}</section>")
    return parts


def _summary(verdicts: Sequence[Verdict]) -> str:
    rows = [(figure_title(v.claim.figure), escape(v.claim.name), _badge(v)) for v in verdicts]
    return _table(("figure", "claim", "verdict"), rows)


def _badge(verdict: Verdict) -> str:
    return f'<span class="verdict {_CLASSES[verdict.name]}">{verdict.name}</span>'


def _arms(rows: Sequence[ArmRow]) -> str:
    cells = [
        (
            escape(row.arm.name),
            escape(row.arm.about),
            success_words(row),
            escape(difference_words(row)),
        )
        for row in rows
    ]
    return _table(("arm", "what", "held-out success", "paired difference"), cells)


def _claim(verdict: Verdict) -> str:
    claim = verdict.claim
    rows = [
        (_what(one), *map(escape, (one.measured, one.bound, one.article)), holds_words(one.holds))
        for one in verdict.criteria
    ]
    head = ("criterion", "measured", "bound", "article", "holds")
    why = f"<p>Because: {escape(verdict.because)}.</p>" if verdict.because else ""
    return (
        f"<h3>{_badge(verdict)} {escape(claim.name)}</h3><p>{escape(claim.text)}</p>"
        f"{_table(head, rows)}{why}"
    )


def _what(one: Criterion) -> str:
    return f"{'<i>stretch:</i> ' if one.stretch else ''}{escape(one.what)}"


def _block(drawing: Drawing) -> str:
    title = escape(drawing.title)
    return (
        f"<figure><figcaption><b>{title}</b>{escape(drawing.shows)}</figcaption>"
        f'<div class="plot" id="{drawing.name}" style="height:{drawing.height}px" role="img" '
        f'aria-label="{title}"></div></figure>'
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    kind = "scroll wide" if len(head) > 3 else "scroll"
    cells = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="{kind}" tabindex="0"><table><thead><tr>'
        f"{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _data(drawings: Sequence[Drawing]) -> str:
    themes: dict[str, dict[str, Any]] = {
        one.name: {
            theme: json.loads(one.draw(theme).to_json()) for theme in get_args(figures.Theme)
        }
        for one in drawings
    }
    text = json.dumps({"themes": themes, "config": figures.CONFIG}, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
