"""The horizon generalization matrix as a heat map."""

from collections.abc import Mapping

import plotly.graph_objects as go

from mmhealth.estimators import HorizonMatrix
from mmhealth.figures.style import PALETTES, Theme, axis, empty_figure, make_figure, safe_text
from mmhealth.health.heldout import matrix_rows

_SMALL = "<br><span style='font-size:11px'>{}</span>"


def horizon_figure(matrices: Mapping[str, HorizonMatrix], *, theme: Theme = "light") -> go.Figure:
    """Success rate by training regime (rows) and evaluation horizon (columns).

    ``matrices`` by name of the run; a regime that several runs share has a row for each.
    """
    palette = PALETTES[theme]
    rows = matrix_rows(matrices)
    horizons = sorted({h for matrix in matrices.values() for h in matrix.horizons})
    if not rows:
        return empty_figure(
            "insufficient data: no evaluation is logged with train_horizons and eval_horizon", theme
        )
    labels, rates, texts, hovers = [], [], [], []
    for name, regime, several in rows:
        trained = ", ".join(map(str, regime))
        labels.append(
            f"{safe_text(name, 22)}<br>at {trained}" if several else f"trained at<br>{trained}"
        )
        cells = [matrices[name].cell(regime, horizon) for horizon in horizons]
        rates.append([None if cell is None else cell.success_rate for cell in cells])
        texts.append(["" if cell is None else f"{cell.success_rate:.0%}" for cell in cells])
        hovers.append(
            [
                "not measured"
                if cell is None
                else f"{cell.successes} of {cell.episodes} episodes solved<br>"
                "95 % interval {:.1%} to {:.1%}".format(*cell.interval())
                for cell in cells
            ]
        )
        for column, cell in enumerate(cells):
            if cell is not None:
                low, high = cell.interval()
                texts[-1][column] += _SMALL.format(f"{100 * low:.0f}–{100 * high:.0f}")
    heat = {
        "type": "heatmap",
        "x": [str(horizon) for horizon in horizons],
        "y": list(range(len(rows))),
        "z": rates,
        "text": texts,
        "texttemplate": "%{text}",
        "textfont": {"size": 15, "color": palette.text},
        "customdata": hovers,
        "hovertemplate": "evaluated at %{x} turns<br>%{customdata}<extra></extra>",
        "hoverongaps": False,
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, palette.low], [1, palette.high]],
        "showscale": False,
        "xgap": 4,
        "ygap": 4,
    }
    y_axis = axis(theme, range=[len(rows) - 0.5, -0.5], showgrid=False, fixedrange=True)
    ticks = {"tickmode": "array", "tickvals": list(range(len(rows))), "ticktext": labels}
    return make_figure(
        [heat],
        theme,
        dragmode=False,
        xaxis=axis(
            theme, title="evaluated at (turns)", type="category", showgrid=False, fixedrange=True
        ),
        yaxis=y_axis | ticks,
    )
