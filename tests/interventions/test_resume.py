"""A restart in the middle changes nothing: neither results nor what the next checkpoint holds."""

from typing import Any

import numpy as np
import pytest
import torch

from mmhealth.interventions import (
    AdaptiveNormalisation,
    BucketNormalizer,
    EssLearningRate,
    MixedHorizons,
    NearMissReserve,
    ReliabilityConfig,
    ReliabilitySchedule,
    UnifiedConfig,
    VarianceCorrection,
)

STEPS = 24


def rows(step):
    rng = np.random.default_rng(step)
    live = 3 if 6 <= step < 14 else 40
    advantage = np.where(np.arange(40) < live, rng.normal(size=40), 0)
    return advantage, rng.choice(["a", "b"], 40), rng.integers(1, 99, 40)


def schedule():
    config = ReliabilityConfig(ready=0.5, ramp_steps=4, min_ratings=4, min_batches=2, drop=0.45)
    return ReliabilitySchedule({"v": 1, "x": 1, "y": 2}, config, verifiable=["v"])


def use_schedule(part, step):
    rng = np.random.default_rng(step)
    part.observe(
        step, "xy"[step % 2], confidence=np.clip(rng.random(20) / 2 + 0.2 + step / 50, 0, 1)
    )
    return part.weights(step)


def use_reserve(part, step):
    for number in range(3):
        part.add((step + number) % 4, "failed", {"x": np.full(3, step * 10 + number, np.float32)})
    return [[i["x"].tolist() for i in part.take(p, "failed", 9)] for p in range(4)], part.nbytes


def use_unified(part, step):
    got = part.normalise(*rows(step))
    return got.advantage.tolist(), got.active, got.kl_coef, got.replay


PARTS = {
    "horizons": (MixedHorizons, lambda part, _: part.sample(5).tolist()),
    "variance": (VarianceCorrection, lambda part, step: part.normalise(*rows(step)).tolist()),
    "buckets": (BucketNormalizer, lambda part, step: part.normalise(*rows(step)[:2]).tolist()),
    "rate": (lambda: EssLearningRate(decay=0.9), lambda part, step: part.factor(rows(step)[0])),
    "unified": (lambda: AdaptiveNormalisation(UnifiedConfig(hold=2)), use_unified),
    "schedule": (schedule, use_schedule),
    "reserve": (lambda: NearMissReserve(2, max_bytes=60), use_reserve),
}


def as_tensors(value: Any) -> Any:
    """What a checkpoint makes of a state."""
    if isinstance(value, dict):
        return {key: as_tensors(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_tensors(item) for item in value]
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("tensors", [False, True])
def test_resumed_is_uninterrupted(name, tensors, tmp_path):
    make, use = PARTS[name]
    whole = make()
    expected = [use(whole, step) for step in range(STEPS)]
    part, got = make(), []
    for step in range(STEPS):
        if step % 5 == 4:
            state = part.state_dict()
            if tensors:
                torch.save(as_tensors(state), tmp_path / "state.pt")
                state = torch.load(tmp_path / "state.pt", weights_only=True)
            part = make()
            part.load_state_dict(state)
        got.append(use(part, step))
    assert got == expected
    assert repr(part.state_dict()) == repr(whole.state_dict())


def test_the_course_is_worth_resuming():
    """Otherwise the test above would prove little."""
    plan = schedule()
    weights = [use_schedule(plan, step) for step in range(STEPS)]
    assert max(w["x"] for w in weights) > 0
    layer = AdaptiveNormalisation(UnifiedConfig(hold=2))
    assert {use_unified(layer, step)[2] for step in range(STEPS)} > {0.0, 0.5}
