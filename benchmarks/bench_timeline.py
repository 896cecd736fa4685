"""A timeline beside a bare scan of its columns, and beside Polars and DuckDB for the same metrics.

20,000,000 rows: 2,000 steps of 10,000 trajectories with 13 columns. All contestants take turns in
one process, `--rounds` times; the file system's cache is warm. Writes docs/benchmarks/timeline.md.

    pip install 'mmhealth[bench]'    # for the row of DuckDB, which is left out otherwise
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
from big_runs import ROWS, write_run
from tables import machine, write_table

from mmhealth import open_run
from mmhealth.engines import LocalEngine
from mmhealth.health import build_timeline

FEW = ["ess_weight", "ess_signal", "ess_contribution", "gini_grad_norm", "entropy"]
SAME = [*FEW, "top5_share"]
TAIL = [*SAME, "weight_khat"]
UPDATES = ["step", "advantage", "log_weight", "grad_norm"]
TRAJECTORIES = ["step", "entropy", "length"]


def scan(path: Path) -> None:
    """The columns of the metrics, and nothing done with them."""
    pl.scan_parquet(path / "updates/*.parquet").select(UPDATES).collect()
    pl.scan_parquet(path / "trajectories/*.parquet").select(TRAJECTORIES).collect()


def in_polars(path: Path) -> pl.DataFrame:
    """The metrics of `SAME` as a query, sums in the order in which rows come."""

    def ess(logs: pl.Expr) -> pl.Expr:
        w = (logs - logs.max()).exp()
        return w.sum() ** 2 / (w * w).sum() / pl.len()

    norm = pl.col("grad_norm").sort()
    rank = pl.int_range(1, pl.len() + 1)
    top = (pl.len() * 0.05).cast(pl.Int64)
    advantage = pl.col("advantage").abs().log()
    updates = (
        pl.scan_parquet(path / "updates/*.parquet")
        .group_by("step")
        .agg(
            ess_weight=ess(pl.col("log_weight")),
            ess_signal=ess(pl.col("log_weight") + advantage),
            ess_contribution=ess(pl.col("grad_norm").log()),
            gini_grad_norm=((2 * rank - pl.len() - 1) * norm).sum() / (pl.len() * norm.sum()),
            top5_share=norm.tail(top).sum() / norm.sum(),
        )
    )
    weights = pl.col("length")
    trajectories = (
        pl.scan_parquet(path / "trajectories/*.parquet")
        .group_by("step")
        .agg(entropy=(pl.col("entropy") * weights).sum() / weights.sum())
    )
    return updates.join(trajectories, on="step").sort("step").collect()


def in_duckdb(path: Path) -> pl.DataFrame:
    """The same as SQL."""
    import duckdb

    query = f"""
    with ranked as (
        select step, grad_norm, ln(abs(advantage)) + log_weight as s, log_weight as w,
            row_number() over (partition by step order by grad_norm) as r,
            count(*) over (partition by step) as n,
            max(log_weight) over (partition by step) as top_w,
            max(ln(abs(advantage)) + log_weight) over (partition by step) as top_s
        from '{path}/updates/*.parquet'
    ), u as (
        select step, any_value(n) as n,
            sum(exp(w - top_w)) ** 2 / sum(exp(2 * (w - top_w))) / any_value(n) as ess_weight,
            sum(exp(s - top_s)) ** 2 / sum(exp(2 * (s - top_s))) / any_value(n) as ess_signal,
            sum(grad_norm) ** 2 / sum(grad_norm ** 2) / any_value(n) as ess_contribution,
            sum((2 * r - n - 1) * grad_norm) / (any_value(n) * sum(grad_norm)) as gini_grad_norm,
            sum(grad_norm) filter (r > n - floor(n * 0.05)) / sum(grad_norm) as top5_share
        from ranked group by step
    ), t as (
        select step, sum(entropy * length) / sum(length) as entropy
        from '{path}/trajectories/*.parquet' group by step
    )
    select u.*, t.entropy from u join t using (step) order by step
    """
    found = duckdb.sql(query).pl()
    assert isinstance(found, pl.DataFrame)
    return found


def timeline(path: Path, metrics: list[str] | None, workers: int) -> pl.DataFrame:
    if workers == 1:
        return build_timeline(open_run(path), metrics).frame
    with LocalEngine(workers) as engine:
        return build_timeline(open_run(path), metrics, engine).frame


def check(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    for name in SAME:
        assert np.allclose(found[name], expected[name], rtol=1e-9), name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "mmhealth-bench")
    asked = parser.parse_args()
    path = write_run(asked.dir / f"timeline-{asked.steps}", asked.steps)

    contestants: dict[str, Callable[[], object]] = {"bare scan": lambda: scan(path)}
    for name, metrics in (
        ("ESS on three bases, Gini, entropy", FEW),
        ("... and top 5 %", SAME),
        ("... and k-hat", TAIL),
        ("all 44 metrics, ESS of each update, sources", None),
    ):
        for workers in (1, 2):
            processes = "" if workers == 1 else f", {workers} processes"
            contestants[f"mmhealth: {name}{processes}"] = (
                lambda m=metrics, w=workers: timeline(path, m, w)  # type: ignore[misc]
            )
    contestants["Polars: ESS on three bases, Gini, entropy, top 5 %"] = lambda: in_polars(path)
    if importlib.util.find_spec("duckdb"):
        contestants["DuckDB: the same"] = lambda: in_duckdb(path)
        check(in_duckdb(path), timeline(path, SAME, 1))
    check(in_polars(path), timeline(path, SAME, 1))

    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(asked.rounds):
        for name, run in contestants.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    bare = seconds["bare scan"]
    rows = []
    for name, times in seconds.items():
        ratios = [time / scan for time, scan in zip(times, bare, strict=True)]
        spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
        per_step = f"{1e3 * median(times) / asked.steps:.2f}"
        rows.append([name, f"{median(times):.2f}", per_step, f"{median(ratios):.1f}", spread])
    about = (
        f"{asked.steps * ROWS:,} trajectories, {asked.steps:,} steps of {ROWS:,} with 13 columns, "
        f"{asked.rounds} rounds in which all take turns; medians, and the ratio to the scan of the "
        "same round. Processes are begun within the time. Polars and DuckDB add up in the order in "
        "which rows come, and neither knows k-hat. " + machine()
    )
    header = ["what", "seconds", "ms a step", "to the scan", "least to most"]
    write_table("timeline", "A timeline beside a bare scan", about, header, rows)


if __name__ == "__main__":
    main()
