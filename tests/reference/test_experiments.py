import json
import math
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

pytest.importorskip("torch")

from mmhealth.errors import MmhealthError
from mmhealth.estimators import ess
from mmhealth.reference import LoopConfig, TrainConfig, preset
from mmhealth.reference.environments.majority_rule import MajorityRuleConfig
from mmhealth.reference.experiments import (
    FIGURES,
    Arm,
    Plan,
    arms_of,
    reproduce,
    write_report,
)
from mmhealth.reference.experiments.results import result_path
from mmhealth.reference.experiments.statistics import paired, summarise
from mmhealth.reference.loop import Trainer

TINY = TrainConfig(
    environment=MajorityRuleConfig(prompts=8),
    steps=4,
    loop=LoopConfig(group_size=8, hidden=4, lag=1, updates=2, eval_episodes=16),
)


def tiny_arms() -> tuple[Arm, ...]:
    plain = Arm(
        figure="2",
        name="baseline",
        about="plain",
        config=TINY,
        against=None,
        final_episodes=64,
    )
    ess_loop = replace(TINY, fixes=preset("F2", "ess").fixes)
    return plain, replace(plain, name="ESS loop", config=ess_loop, against="baseline")


def plan(out: Path, **more) -> Plan:
    return Plan(out=out, figures=("2",), arms=tiny_arms(), **{"seeds": 2, "jobs": 2, **more})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory):
    found = reproduce(plan(tmp_path_factory.mktemp("reproduction")))
    assert found.failed == ()
    return found


def test_every_run_leaves_one_file_and_a_second_call_makes_none(done):
    out = done.plan.out
    files = sorted(path.relative_to(out).as_posix() for path in out.glob("runs/**/*.json"))
    arms = ("baseline", "ess-loop")
    assert files == [f"runs/2/{arm}/{seed}.json" for arm in arms for seed in (100, 101)]
    assert done.made == 4
    assert not (out / ".scratch").exists()
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/**/*.json")}
    assert reproduce(plan(out)).made == 0
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("runs/**/*.json")}


def test_what_changed_or_is_damaged_is_run_again(done, tmp_path):
    arms = done.arms[:1]
    few = replace(plan(tmp_path, seeds=1, jobs=1), arms=arms)
    path = result_path(tmp_path, arms[0], 100)
    path.parent.mkdir(parents=True)
    content = result_path(done.plan.out, arms[0], 100).read_text()
    path.write_text(content[:100])
    assert reproduce(few).made == 1, "half a file is none"
    kept, written = json.loads(content), json.loads(path.read_text())
    for name in ("seconds", "memory"):
        kept.pop(name), written.pop(name)
    assert written == kept, "a run is the same whenever it is made"
    other = replace(arms[0], config=replace(TINY, steps=3))
    assert reproduce(replace(few, arms=(other,))).made == 1
    assert len(json.loads(path.read_text())["series"]["step"]) == 3


def test_a_killed_reproduction_goes_on_and_damages_nothing(tmp_path):
    long = replace(TINY, steps=4000)
    short, _ = tiny_arms()
    arms = (short, replace(short, name="long", config=long))
    code = (
        "import pickle, sys\n"
        "from mmhealth.reference.experiments import reproduce\n"
        "if __name__ == '__main__': reproduce(pickle.load(open(sys.argv[1], 'rb')))\n"
    )
    whole = Plan(out=tmp_path / "out", figures=("2",), arms=arms, seeds=1, jobs=2)
    (tmp_path / "plan").write_bytes(pickle.dumps(whole))
    (tmp_path / "go.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "go.py", tmp_path / "plan"], stderr=subprocess.PIPE
    )
    path = result_path(whole.out, short, 100)
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    with pytest.raises(MmhealthError, match="another process"):
        reproduce(whole)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in said
    assert [p.name for p in whole.out.glob("runs/*/*/*")] == ["100.json"]
    assert not (whole.out / ".scratch").exists()
    again = replace(whole, arms=(short, replace(arms[1], config=replace(long, steps=2))))
    assert reproduce(again).made == 1


def test_a_run_that_dies_is_named_and_the_others_are_made(tmp_path):
    short, _ = tiny_arms()
    bad = replace(short, name="bad", config=replace(TINY, loop=replace(TINY.loop, hidden=-1)))
    found = reproduce(replace(plan(tmp_path, seeds=1, jobs=1), arms=(short, bad)))
    assert found.failed == ("figure 2, bad, seed 100",)
    assert found.made == 1
    assert {v.name for v in found.verdicts} == {"insufficient data"}


def test_series_say_what_the_log_says(done):
    result = done.results.of("2", "baseline")[100]
    trainer = Trainer(TINY, 100)
    logs = [trainer.step(step) for step in range(TINY.steps)]
    for step, log in enumerate(logs):
        assert result.series("reward")[step] == pytest.approx(
            float(np.mean(log.trajectories["reward"].numpy())), rel=1e-6
        )
        last = log.updates[-1]["log_weight"].numpy()
        assert result.series("ess_weight")[step] == pytest.approx(ess(last) / 64, rel=1e-6)
    steps, success = result.success()
    assert steps.tolist() == [0, 1, 2, 3]
    assert success[-1] == logs[-1].evaluations[0].successes / 16
    assert result.final() == trainer.evaluate(10, 64).successes / 64


def test_the_report_says_what_the_files_say(done):
    out = done.plan.out
    assert write_report(done, images=False) is None
    said = json.loads((out / "results.json").read_text())
    rates = {}
    for arm in done.arms:
        files = [json.loads(result_path(out, arm, seed).read_text()) for seed in (100, 101)]
        rates[arm.name] = [file["final"][0]["successes"] / 64 for file in files]
    for row in said["arms"]:
        values = rates[row["arm"]]
        assert row["success"] == {
            "seeds": 2, "mean": sum(values) / 2, "low": min(values), "high": max(values)
        }  # fmt: skip
    gaps = [a - b for a, b in zip(rates["ESS loop"], rates["baseline"], strict=True)]
    assert said["arms"][1]["difference"]["mean"] == pytest.approx(np.mean(gaps))
    assert said["arms"][0]["difference"] is None
    page, text = (out / "results.html").read_text(), (out / "results.md").read_text()
    for claim in said["claims"]:
        assert claim["verdict"] in text
        assert f"### {claim['claim']}: {claim['verdict']}" in text
        assert claim["claim"] in page
    assert f"{np.mean(rates['baseline']):.3f}" in text
    assert "https://" not in page.replace("https://plotly.com", "").split("<script>")[0]


def test_paired_interval_is_students():
    arm, other = {1: 0.5, 2: 0.9, 3: 0.4, 9: 1.0}, {1: 0.1, 2: 0.4, 3: 0.3, 7: 0.0}
    gap = paired(arm, other)
    first, second = [0.5, 0.9, 0.4], [0.1, 0.4, 0.3]
    expected = scipy.stats.ttest_rel(first, second).confidence_interval(0.95)
    assert gap is not None
    assert gap.seeds == 3
    assert (gap.low, gap.high) == pytest.approx((expected.low, expected.high))
    # closed form for two: t(0.975, 1) = tan(0.475 pi)
    two = paired({1: 1.0, 2: 3.0}, {1: 0.0, 2: 0.0})
    assert two is not None
    half = math.tan(0.475 * math.pi) * math.sqrt(2) / math.sqrt(2)
    assert (two.low, two.high) == pytest.approx((2 - half, 2 + half))


def test_one_seed_is_insufficient_data_and_none_is_nothing():
    one = paired({1: 0.5}, {1: 0.4})
    assert one is not None
    assert (one.low, one.high, one.better, one.not_worse) == (None, None, None, None)
    assert paired({1: 0.5}, {2: 0.4}) is None
    assert summarise([]) is None


def changes(arm: Arm, other: Arm) -> set[str]:
    """Dotted names of what differs between two configurations."""

    def flat(value, path=""):
        if isinstance(value, dict):
            return {
                k: v for key, item in value.items() for k, v in flat(item, f"{path}.{key}").items()
            }
        return {path.lstrip("."): value}

    first, second = flat(asdict(arm.config)), flat(asdict(other.config))
    keys = first.keys() | second.keys()
    return {key for key in keys if first.get(key, "absent") != second.get(key, "absent")}


def figure(name: str) -> dict[str, Arm]:
    try:
        return {arm.name: arm for arm in arms_of(name)}
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", FIGURES)
def test_arms_differ_from_what_they_are_compared_with(name):
    arms = figure(name)
    for arm in arms.values():
        if arm.against is not None and name != "unified":
            assert changes(arm, arms[arm.against]), arm.name
        assert arm.config.steps > 0
        assert arm.about


CHANGES = {
    ("1", "staged 10 %", "staged 30 %"): {"fixes.staged.warmup"},
    ("1", "staged 50 %", "staged 30 %"): {"fixes.staged.warmup"},
    ("1", "entropy bonus", "baseline"): {"loop.entropy_bonus"},
    ("2", "hard negatives", "ESS loop"): {"fixes.repair.kind"},
    ("2", "near misses alone", "ESS loop"): {"fixes.ess.kl_coef"},
    ("2", "sqrt(ESS) learning rate", "baseline"): {"fixes.ess_learning_rate"},
    ("2", "stale baseline", "baseline"): {"loop.lag", "loop.updates"},
    ("2", "stale ESS loop", "ESS loop"): {"loop.lag", "loop.updates"},
    ("3", "source spread alone", "variance correction"): {"fixes.variance.by_length"},
    ("3", "sqrt(length) alone", "variance correction"): {"fixes.variance.by_source"},
    ("3", "per-task normalisation", "baseline"): {"fixes.bucket"},
    ("3", "by modality", "by capability"): {"fixes.bucket"},
    ("3", "minimum-variance baseline", "baseline"): {"fixes.minimum_variance"},
    ("3", "changing mixture", "steady mixture"): {"environment.later_mixture"},
    ("4", "looser hard", "hard"): {"loop.violation_cost"},
    ("4", "tighter hard", "hard"): {"loop.violation_cost"},
    ("4", "soft", "hard"): {"fixes.constraints"},
    ("4", "softplus alone", "soft"): {"fixes.constraints"},
    ("5", "trained at 25", "trained at 6"): {"loop.horizon_schedule", "steps"},
    ("5", "curriculum", "mixed"): {"loop.horizon_schedule", "fixes.horizons"},
    ("5", "images early", "images late"): {"environment.schedule"},
}


@pytest.mark.parametrize("pair", CHANGES, ids=lambda pair: f"{pair[0]}: {pair[1]}")
def test_an_arm_changes_only_what_its_name_says(pair):
    name, arm, other = pair
    arms = figure(name)
    assert changes(arms[arm], arms[other]) == CHANGES[pair]


def test_regimes_of_figure_5_sample_as_many_turns():
    arms = figure("5")
    turns = {}
    for name, arm in arms.items():
        if name.startswith("images"):
            continue
        total, begun = 0.0, 0.0
        for until, horizon in arm.config.loop.horizon_schedule or [(1.0, 14.25)]:
            total += (until - begun) * arm.config.steps * horizon
            begun = until
        turns[name] = total
    assert max(turns.values()) / min(turns.values()) < 1.02


def test_no_seed_of_a_report_was_used_for_tuning():
    assert min(Plan(out=Path()).seed_numbers()) >= 100
