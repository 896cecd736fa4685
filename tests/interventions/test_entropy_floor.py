import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.interventions import EntropyFloor


def floor_of_one(log_probs, allowed, threshold):
    """KL(uniform || policy) of one decision, the slow way."""
    logs = [x for x, ok in zip(log_probs, allowed, strict=True) if ok]
    norm = math.log(sum(math.exp(x) for x in logs)) if logs else 0
    probs = [math.exp(x - norm) for x in logs]
    entropy = -sum(p * math.log(p) for p in probs if p)
    if not logs or entropy >= threshold:
        return 0.0
    return sum((math.log(1 / len(logs)) - (x - norm)) / len(logs) for x in logs)


@given(
    st.lists(
        st.tuples(st.lists(st.floats(-4, 4), min_size=4, max_size=4), st.integers(0, 15)),
        min_size=1,
    )
)
def test_penalty_is_the_divergence_below_the_threshold_and_zero_above(rows):
    logits = torch.tensor([row for row, _ in rows], dtype=torch.float64)
    allowed = torch.tensor([[bool(bits >> k & 1) for k in range(4)] for _, bits in rows])
    got = EntropyFloor(0.9, coef=2).penalty(logits, allowed)
    for row, ok, value in zip(logits.tolist(), allowed.tolist(), got.tolist(), strict=True):
        assert value == pytest.approx(2 * floor_of_one(row, ok, 0.9), abs=1e-9)


def test_gradient_is_policy_minus_uniform_and_only_below():
    logits = torch.tensor([[5.0, 0, 0], [0.1, 0, 0]], dtype=torch.float64, requires_grad=True)
    EntropyFloor(0.5, coef=3).penalty(logits.log_softmax(-1)).sum().backward()
    expected = 3 * (logits.detach().softmax(-1) - 1 / 3)
    np.testing.assert_allclose(logits.grad[0], expected[0], atol=1e-12)
    assert logits.grad[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("given_mask", [True, False])
def test_masked_choices_give_no_nan(given_mask):
    allowed = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    logits = torch.tensor([[9.0, 0, 1]] * 3, requires_grad=True)
    masked = logits.masked_fill(~allowed, -math.inf)
    logs = torch.where(allowed.any(-1, keepdim=True), masked.log_softmax(-1), masked)
    penalty = EntropyFloor(0.5).penalty(logs, allowed if given_mask else None)
    assert penalty[0] > 1
    assert penalty[1:].tolist() == [0, 0]
    penalty[:2].sum().backward()
    assert torch.isfinite(logits.grad[:2]).all()
    assert logits.grad[0, 0] > 0
    assert logits.grad[0, 2] == 0


def test_a_decision_without_choices_has_no_gradient_either():
    logs = torch.full((1, 3), -math.inf, requires_grad=True)
    EntropyFloor(1.0).penalty(logs).sum().backward()
    assert logs.grad.tolist() == [[0, 0, 0]]


def test_nan_stays_nan():
    assert EntropyFloor(1.0).penalty(torch.tensor([math.nan, 0.0])).isnan()


@pytest.mark.parametrize("wrong", [{"threshold": 0}, {"threshold": 1, "coef": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        EntropyFloor(**wrong)
