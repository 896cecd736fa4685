import numpy as np
import pytest

pytest.importorskip("torch")

from mmhealth.reference.experiments import CLAIMS, FIGURES, Claim, Criterion, Result, Results, judge
from mmhealth.reference.experiments.claims.courses import first_below, stall, trailing_mean
from mmhealth.reference.experiments.claims.criteria import (
    better,
    counted,
    every_in,
    mean_in,
    not_worse,
    worse,
)

SEEDS = range(3)


def result(seed, *, final=0.5, success=(), series=None, **more) -> Result:
    columns = dict(series or {})
    steps = len(next(iter(columns.values()), success))
    return Result(
        {
            "seed": seed,
            "final": [{"horizon": 10, "episodes": 10_000, "successes": round(final * 10_000)}],
            "evaluations": [
                {"step": step, "horizon": 10, "episodes": 1000, "successes": round(rate * 1000)}
                for step, rate in enumerate(success)
            ],
            "series": {"step": list(range(steps)), **columns},
        }
        | more
    )


def claim(name: str) -> Claim:
    return next(one for one in CLAIMS if one.name == name)


def collapsing(seed, cross=60, stop=95) -> Result:
    """ESS falls to 10 % at ``cross``; success rises until ``stop``."""
    steps = np.arange(160)
    return result(
        seed,
        success=np.minimum(steps, stop) / 200,
        series={"ess_signal": np.where(steps < cross + seed, 0.5, 0.1).tolist()},
    )


@pytest.mark.parametrize(
    ("holds", "verdict"),
    [
        ([True, True], "reproduced"),
        ([True, False], "reproduced in part"),
        ([False, False], "not reproduced"),
        ([True, None], "insufficient data"),
        ([False, None], "insufficient data"),
        ([], "insufficient data"),
    ],
)
def test_verdicts(holds, verdict):
    criteria = [Criterion(what="x", measured="1", bound="2", holds=held) for held in holds]
    stretch = Criterion(what="s", measured="1", bound="2", holds=not all(holds), stretch=True)
    made = Claim(name="c", figure="2", text="t", criteria=lambda _: [*criteria, stretch])
    judged = judge(made, Results())
    assert judged.name == verdict
    assert bool(judged.because) == (verdict not in ("reproduced",) and bool(holds))
    assert "s:" not in judged.because


@pytest.mark.parametrize("one", CLAIMS, ids=lambda one: f"{one.figure}: {one.name}")
def test_without_results_every_claim_has_insufficient_data(one):
    judged = judge(one, Results())
    assert judged.name == "insufficient data"
    assert all(criterion.holds is None for criterion in judged.criteria)
    assert one.figure in FIGURES


def test_claims_have_names_of_their_own():
    assert len({one.name for one in CLAIMS}) == len(CLAIMS)
    assert {one.figure for one in CLAIMS} == set(FIGURES)


def test_bounds_hold_for_means_or_for_every_seed():
    values = {0: 0.1, 1: 0.3}
    assert mean_in("x", values, 0.2, 0.2).holds
    assert not every_in("x", values, 0.15, None).holds
    assert every_in("x", values, 0.1, 0.3).holds
    assert not every_in("x", {0: 0.2, 1: None}, 0.1, 0.3).holds
    assert "never in 1 of 2 seeds" in every_in("x", {0: 0.2, 1: None}, 0.1, 0.3).measured
    for one in (mean_in("x", {0: 0.2}, 0, 1), every_in("x", {0: 0.2}, 0, 1)):
        assert one.holds is None
        assert "insufficient data" in one.measured
    assert counted("x", {0: True, 1: True}).holds
    assert not counted("x", {0: True, 1: False}).holds


def test_better_needs_the_interval_and_the_size():
    base = {0: 0.5, 1: 0.5, 2: 0.5}
    up, mixed, down = ({s: 0.5 + d for s, d in enumerate(gaps)} for gaps in
                       ([0.10, 0.11, 0.12], [0.1, -0.1, 0.0], [-0.2, -0.21, -0.19]))  # fmt: skip
    assert better("x", up, base).holds
    assert not better("x", up, base, by=0.15).holds
    assert not better("x", mixed, base).holds
    assert not_worse("x", up, base).holds
    assert not_worse("x", mixed, base).holds is None, "0 +- 0.25 does not rule out a loss of 0.1"
    assert not_worse("x", down, base).holds is False
    assert worse("x", down, base).holds
    assert not worse("x", mixed, base).holds
    assert better("x", {0: 1.0}, base).holds is None


def test_crossings_are_of_the_five_step_mean():
    run = result(0, series={"x": [1.0] * 10 + [0.0] * 10})
    assert trailing_mean(run.series("x"), 5)[10] == pytest.approx(0.8)
    assert first_below(run, "x", 0.5) == 12
    assert first_below(run, "x", -1) is None
    assert np.isnan(trailing_mean(np.zeros(3), 5)).all()
    assert np.isnan(run.series("unknown")).all()


def test_stall_is_the_estimators():
    assert stall(collapsing(0, stop=95)) == pytest.approx(95, abs=12)
    assert stall(result(0)) is None


def test_the_lead_of_the_ess_is_judged_seed_by_seed():
    runs = {seed: collapsing(seed) for seed in SEEDS}
    judged = judge(claim("ESS leads the stall"), Results({("2", "baseline"): runs}))
    assert judged.name == "reproduced"
    assert judged.criteria[0].measured == "64 (63 to 65)", "60 to 62, then five steps' mean"
    late = {seed: collapsing(seed, cross=120) for seed in SEEDS}
    judged = judge(claim("ESS leads the stall"), Results({("2", "baseline"): late}))
    assert judged.name == "not reproduced"
    never = runs | {2: collapsing(2, cross=500)}
    judged = judge(claim("ESS leads the stall"), Results({("2", "baseline"): never}))
    assert judged.name == "reproduced in part"
    assert "never in 1 of 3 seeds" in judged.because


def test_the_reserve_is_measured_against_what_training_takes():
    memory = {
        "reserve_bytes": 30,
        "batch_bytes": 20,
        "peak_bytes": 1300,
        "before_training_bytes": 1000,
    }
    loop = {s: result(s, memory=memory) for s in SEEDS}
    judged = judge(claim("memory of the reserve"), Results({("2", "ESS loop"): loop}))
    assert judged.name == "reproduced"
    large = {s: result(s, memory=memory | {"reserve_bytes": 60}) for s in SEEDS}
    assert judge(claim("memory of the reserve"), Results({("2", "ESS loop"): large})).name == (
        "not reproduced"
    )
    assert judged.criteria[0].measured.startswith("0.100 (0.100 to 0.100)")
    assert "1.50 (1.50 to 1.50) batches" in judged.criteria[0].measured


def test_the_orchestrators_health_is_read_off_the_audits():
    def audited(seed, critical, active):
        modes = [
            {"name": name, "severity": "critical", "active": name in active} for name in critical
        ]
        return result(seed, audit={"failure_modes": modes})

    bad = {s: audited(s, ["a", "b", "c"], ["a", "b", "c"]) for s in SEEDS}
    good = {s: audited(s, ["a"], []) for s in SEEDS}
    runs = {("orchestrator", "baseline"): bad, ("orchestrator", "all"): good}
    assert judge(claim("health of the orchestrator"), Results(runs)).name == "reproduced"
    runs["orchestrator", "all"] = good | {1: audited(1, ["b"], ["b"])}
    assert judge(claim("health of the orchestrator"), Results(runs)).name == "reproduced in part"
    resolved = {s: audited(s, ["a", "b", "c"], ["a"]) for s in SEEDS}
    runs["orchestrator", "baseline"] = resolved
    assert "1 (a)" in judge(claim("health of the orchestrator"), Results(runs)).criteria[0].measured
    runs["orchestrator", "all"] = {s: result(s, audit=None) for s in SEEDS}
    judged = judge(claim("health of the orchestrator"), Results(runs))
    assert judged.name == "insufficient data"


def test_missing_runs_decide_nothing():
    runs = {seed: collapsing(seed) for seed in SEEDS}
    results = Results({("2", "baseline"): runs})
    assert judge(claim("ESS leads the stall"), results).name == "reproduced"
    judged = judge(claim("ESS leads the stall"), results, ("baseline (3 of 10 seeds)",))
    assert judged.name == "insufficient data"
    assert "baseline (3 of 10 seeds)" in judged.because


def test_a_flat_policy_is_no_diagonal_band():
    def flat(seed):
        jitter = 0.002 * seed
        rows = [
            {"horizon": h, "episodes": 1000, "successes": 300 + (10 if h == 10 else 0)}
            for h in (6, 10, 16, 25)
        ]
        rows[0]["successes"] += int(1000 * jitter)
        return Result(dict(result(seed).content) | {"final": rows})

    names = [f"trained at {h}" for h in (6, 10, 16, 25)]
    runs = {("5", name): {s: flat(s) for s in SEEDS} for name in names}
    assert judge(claim("diagonal band"), Results(runs)).name != "reproduced"


def test_a_loop_whose_ess_never_fell_has_recovered_nothing():
    steps = {"ess_signal": [0.5] * 40, "active": [0.0] * 40, "ess_signal_update": [0.5] * 40}
    runs = {seed: result(seed, series=steps) for seed in SEEDS}
    judged = judge(claim("ESS loop"), Results({("2", "ESS loop"): runs}))
    recovers = next(one for one in judged.criteria if "recovers" in one.what)
    assert recovers.holds is False
