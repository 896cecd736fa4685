"""Cost of exact norms as batch, length, width and depth grow, around one decoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradnorms import ours
from gradnorms.compare import Row, compare
from gradnorms.workloads import dense
from mmhealth.figures.style import PALETTES, axis, make_figure, run_colour

BASE = {"rows": 16, "time": 128, "width": 256, "depth": 4}
GROW = {
    "rows": (4, 8, 16, 32, 64),
    "time": (32, 64, 128, 256, 512, 1024),
    "width": (64, 128, 256, 512, 1024),
    "depth": (1, 2, 4, 8, 16),
}
METHODS = {ours.PLAIN: ours.plain, ours.CONTROL: ours.plain, "exact": ours.exact("")}
WORDS = {
    "rows": "trajectories B",
    "time": "tokens a trajectory T",
    "width": "width d",
    "depth": "blocks",
}


@dataclass
class Point:
    """One size of one curve."""

    curve: str
    value: int
    exact: Row
    control: Row


def measure(pairs: int, device: str, quick: bool) -> list[Point]:
    """Four curves; the base is measured in each."""
    points = []
    for curve, values in GROW.items():
        for value in values[:2] if quick else values:
            size = BASE | ({"rows": 4, "time": 32} if quick else {}) | {curve: value}
            workload = dense(f"{curve}-{value}", **size).to(device)
            rows = {row.method: row for row in compare(workload, pairs, METHODS)}
            points.append(Point(curve, value, rows["exact"], rows[ours.CONTROL]))
            print(f"  {curve} {value}: {rows['exact'].cpu}", flush=True)
    return points


def chart(points: list[Point], path: Path) -> str | None:
    """Write the chart; where that is not possible, why not."""
    try:
        from kaleido.errors import BrowserFailedError
    except ModuleNotFoundError:
        return "no chart: kaleido is not installed (pip install 'mmhealth[reproduce]')"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure(points).write_image(path, width=1200, height=720, scale=1)
    except (RuntimeError, BrowserFailedError) as error:
        return f"no chart: no usable Chrome or Chromium ({str(error).splitlines()[0][:100]})"
    return None


def figure(points: list[Point]) -> Any:
    """Four panels: CPU time ratio with its interval, plain against plain beside it."""
    data, axes, notes = [], {}, []
    for number, curve in enumerate(GROW):
        column, line = number % 2, number // 2
        across = [0.0, 0.46] if column == 0 else [0.54, 1.0]
        up = [0.58, 0.96] if line == 0 else [0.0, 0.38]
        suffix = str(number + 1) if number else ""
        mine = [p for p in points if p.curve == curve]
        data += [_trace(mine, "exact", suffix, 0), _trace(mine, "control", suffix, 5)]
        ticks = {"tickvals": [p.value for p in mine], "ticktext": [str(p.value) for p in mine]}
        axes[f"xaxis{suffix}"] = axis(
            "light", title=WORDS[curve], type="log", domain=across, anchor=f"y{suffix}", **ticks
        )
        axes[f"yaxis{suffix}"] = axis(
            "light", title="CPU time / plain", domain=up, anchor=f"x{suffix}", matches="y"
        )
        notes.append(_line(suffix))
    margin = {"l": 56, "r": 20, "t": 56, "b": 48}
    return make_figure(data, "light", shapes=notes, margin=margin, **axes)


def _trace(points: list[Point], which: str, suffix: str, colour: int) -> dict[str, Any]:
    ratios = [getattr(p, which).cpu for p in points]
    name = {"exact": "exact norms / plain", "control": "plain / plain"}[which]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "legendgroup": name,
        "showlegend": not suffix,
        "x": [p.value for p in points],
        "y": [r.median for r in ratios],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [r.high - r.median for r in ratios],
            "arrayminus": [r.median - r.low for r in ratios],
            "thickness": 1,
            "width": 3,
        },
        "xaxis": f"x{suffix}",
        "yaxis": f"y{suffix}",
        "line": {"color": run_colour("light", colour), "width": 2 if which == "exact" else 1},
    }


def _line(suffix: str) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": f"x{suffix} domain",
        "yref": f"y{suffix}",
        "x0": 0,
        "x1": 1,
        "y0": 1,
        "y1": 1,
        "line": {"color": PALETTES["light"].muted, "width": 1, "dash": "dot"},
    }
