"""docs/benchmarks/gradnorm.md: what was measured, in tables that a person can read."""

from collections.abc import Sequence

from tables import machine, markdown_table

from gradnorms import curves, ours, sketch_error
from gradnorms.compare import Ratio, Row
from gradnorms.curves import Point
from gradnorms.peers import PEERS, versions
from gradnorms.sketch_error import Errors
from gradnorms.verdict import MET, MISSED, of_number, time_bar, verdicts

NOTHING = "–"
SAME = {"cpu": 1e-3, "cuda": 1e-2}
"""Norms and gradients that differ by more are not those asked for; bfloat16 differs more."""


def ours_table(rows: Sequence[Row]) -> str:
    """mmhealth and the control, with bars and verdicts."""
    header = ["workload", "method", "pairs", "plain ms", "CPU time / plain", "bar", "wall"]
    header += ["FLOPs", "bar", "memory", "bar"]
    lines = []
    for row in rows:
        if row.method in PEERS or row.method == ours.PLAIN:
            continue
        if row.cpu is None:
            lines.append([row.workload.name, row.method, row.reason, *[NOTHING] * 8])
            continue
        assert row.wall is not None
        time, flops, memory = verdicts(row)
        bars = row.bars
        lines.append(
            [
                row.workload.name,
                row.method,
                str(row.pairs),
                f"{row.plain_ms:.1f}",
                _ratio(row.cpu) + _milliseconds(row),
                _bar(time_bar(row), time, bars.stretch),
                f"{row.wall.median:.3f}",
                f"{row.flops:.3f}",
                _bar(bars.flops, flops),
                f"{row.memory:.3f}",
                _bar(bars.memory, memory),
            ]
        )
    return markdown_table(header, lines)


def peers_table(rows: Sequence[Row]) -> str:
    """Everybody, exact norms first; who cannot run a workload says why."""
    header = [
        "workload",
        "method",
        "CPU time / plain",
        "FLOPs",
        "memory",
        "largest error of a norm",
        "mmhealth ahead",
    ]
    lines = []
    for name in dict.fromkeys(row.workload.name for row in rows):
        mine = [row for row in rows if row.workload.name == name]
        best = _best(mine)
        for row in mine:
            if row.method in PEERS or row.method.startswith("exact"):
                lines.append([name, row.method, *_peer_cells(row, best)])
    return markdown_table(header, lines)


def behind(rows: Sequence[Row]) -> list[str]:
    """Where a peer took less time than mmhealth, in sentences."""
    found = []
    for name in dict.fromkeys(row.workload.name for row in rows):
        mine = [row for row in rows if row.workload.name == name]
        best = _best(mine)
        for row in mine:
            if best is not None and row.method in PEERS and _ahead(best, row) == "no":
                assert row.cpu is not None
                assert best.cpu is not None
                found.append(
                    f"- **{name}**: {row.method} {row.cpu.median:.2f}, mmhealth ({best.method}) "
                    f"{best.cpu.median:.2f} times plain; memory {row.memory:.2f} and "
                    f"{best.memory:.2f}, largest error of a norm {_error(row.error)}."
                )
    return found


def curves_table(points: Sequence[Point]) -> str:
    """Ratios by what grows."""
    lines = [
        [
            curves.WORDS[p.curve],
            str(p.value),
            f"{p.exact.plain_ms:.1f}",
            _ratio(p.exact.cpu),
            _ratio(p.control.cpu),
            f"{p.exact.flops:.3f}",
            f"{p.exact.memory:.3f}",
        ]
        for p in points
    ]
    header = ["grows", "to", "plain ms", "exact / plain", "plain / plain", "FLOPs", "memory"]
    return markdown_table(header, lines)


def sketch_table(errors: Sequence[Errors]) -> str:
    """Errors of sketched norms, with bars where there are."""
    lines = []
    for e in errors:
        promised = e.workload in sketch_error.PROMISED
        norm = sketch_error.NORM_BARS.get(e.size) if promised else None
        spread = sketch_error.GINI_BARS.get(e.size) if promised else None
        lines.append(
            [
                e.workload,
                str(e.size),
                f"{e.norm:.3f}{_judged(e.norm, norm)}",
                f"{e.worst:.2f}",
                f"{e.gini:.2%}{_judged(e.gini, spread)}",
                f"{e.ess:.2%}",
            ]
        )
    header = ["workload", "k", "norm, RMS", "norm, largest", "Gini, RMS", "ESS, RMS"]
    return markdown_table(header, lines)


def measured_on(device: str, threads: int) -> str:
    """Machine, threads, versions."""
    import torch

    where = torch.cuda.get_device_name() if device == "cuda" else f"the CPU, threads: {threads}"
    return f"{machine()} torch {torch.__version__} on {where}. {versions()}"


def _best(rows: Sequence[Row]) -> Row | None:
    exact = [r for r in rows if r.method.startswith("exact") and r.cpu is not None]
    return min(exact, key=lambda r: r.cpu.median if r.cpu else 0.0, default=None)


def _ahead(best: Row, peer: Row) -> str:
    if best.cpu is None or peer.cpu is None:
        return NOTHING
    same = SAME[peer.workload.device.type]
    if peer.gradient_error > same:
        return f"other gradient ({peer.gradient_error:.1%} off)"
    if peer.error is not None and peer.error > same:
        return "other norm"
    if best.cpu.high < peer.cpu.low:
        return "yes"
    return "no" if peer.cpu.high < best.cpu.low else "not resolved"


def _peer_cells(row: Row, best: Row | None) -> list[str]:
    if row.cpu is None:
        return [row.reason, *[NOTHING] * 4]
    ahead = NOTHING if best is None or row.method not in PEERS else _ahead(best, row)
    return [_ratio(row.cpu), f"{row.flops:.3f}", f"{row.memory:.2f}", _error(row.error), ahead]


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return NOTHING
    return f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def _milliseconds(row: Row) -> str:
    return f", {row.extra_ms:+.2f} ms" if row.bars.extra_ms else ""


def _bar(bar: float | None, verdict: str, stretch: float | None = None) -> str:
    if bar is None:
        return NOTHING
    more = f" (stretch {stretch:g})" if stretch is not None else ""
    return f"≤ {bar:.4g}{more}: {'**' + verdict + '**' if verdict == MISSED else verdict}"


def _judged(value: float, bar: float | None) -> str:
    if bar is None:
        return ""
    verdict = of_number(value, bar)
    return f" (≤ {bar:g}: {verdict if verdict == MET else '**' + verdict + '**'})"


def _error(error: float | None) -> str:
    return NOTHING if error is None else f"{error:.1e}" if error < 0.01 else f"{error:.0%}"
