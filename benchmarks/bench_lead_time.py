"""Lead time of the ESS alert and worth of the fix, on seeds that chose no knob and no threshold.

Real runs of the reference trainer, judged by the default policy. Writes
docs/benchmarks/lead_time.md.

    python benchmarks/bench_lead_time.py [SEED ...]
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tables import write_table

from mmhealth.estimators import stall_step
from mmhealth.health import Alert, Monitor, default_policy
from mmhealth.reference import train
from mmhealth.report.gate import gate_runs

FRESH_SEEDS = (50, 51, 52, 53, 54)


def watch(run_dir: Path, preset: str, seed: int) -> tuple[Monitor, float, int | None]:
    """Train and judge one run; its final held-out success and the step at which it stalls."""
    result = train("F2", preset, run_dir=run_dir, seed=seed, checkpoint_every=0)
    monitor = Monitor(run_dir)
    monitor.poll()
    final = sum(result.success[-10:]) / 10
    return monitor, final, stall_step(range(len(result.success)), result.success)


def first_firing(monitor: Monitor, is_meant: Callable[[Alert], bool]) -> int | None:
    return next((alert.step for alert in monitor.alerts if is_meant(alert)), None)


def measure(seed: int, folder: Path) -> list[str]:
    baseline, plain, stall = watch(folder / "baseline", "baseline", seed)
    _, cured, _ = watch(folder / "fix", "ess", seed)
    alert = first_firing(baseline, lambda alert: alert.rule == "ess_signal")
    critical = first_firing(baseline, lambda alert: alert.severity == "critical")
    lag = "" if alert is None or stall is None else str(stall - alert)
    gates = [gate_runs([folder / arm], default_policy()).exit_code for arm in ("baseline", "fix")]
    numbers = [seed, alert, critical, stall, lag, f"{plain:.3f}", f"{cured:.3f}", *gates]
    return ["none" if number is None else str(number) for number in numbers]


if __name__ == "__main__":
    seeds = [int(seed) for seed in sys.argv[1:]] or FRESH_SEEDS
    rows = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as temporary:
            rows.append(measure(seed, Path(temporary)))
    write_table(
        "lead_time",
        "Lead time of the ESS alert, and what the fix is worth",
        "Reference trainer (environment F2), 160 steps, default policy. *alert*: `ess_signal` "
        "fires (ESS below 20 % of the batch for 3 steps); *critical*: the first critical alert "
        "(ESS has lost half of its beginning, or more, and not because tasks are solved); "
        "*stall*: first step after which the 15-step mean "
        "of held-out success gains less than 0.02 over the next 40; *lag*: stall - alert, in "
        "steps; success: mean of the last 10 held-out evaluations; gate: exit code of "
        "`mmhealth gate` on the finished run. "
        f"Seeds {', '.join(map(str, seeds))} chose neither knobs nor thresholds.",
        [
            "seed",
            "alert",
            "critical",
            "stall",
            "lag",
            "success, baseline",
            "success, fix",
            "gate, baseline",
            "gate, fix",
        ],
        rows,
    )
