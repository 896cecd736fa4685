"""Parameters that become trainable after the meter was built."""

import pytest
import torch
from torch import nn

from mmhealth.errors import UncoveredParameterError
from mmhealth.gradnorm import GradNorms


def test_names_what_was_unfrozen_after_construction():
    convolution, linear = nn.Conv1d(4, 8, 1).requires_grad_(False), nn.Linear(8, 1)
    meter = GradNorms(nn.Sequential(convolution, linear))
    meter.step(4)
    convolution.requires_grad_(True)
    with pytest.raises(UncoveredParameterError, match=r"0\.weight \(Conv1d\)"):
        meter.step(4)
    convolution.requires_grad_(False)
    meter.step(4)


def test_a_layer_added_after_construction_is_named():
    model = nn.Sequential(nn.Linear(4, 4))
    meter = GradNorms(model)
    model.append(nn.PReLU())
    with pytest.raises(UncoveredParameterError, match=r"1\.weight \(PReLU\)"):
        meter.step(4)


def test_a_linear_unfrozen_after_construction_is_measured_and_named():
    first, last = nn.Linear(3, 3, dtype=torch.float64), nn.Linear(3, 1, dtype=torch.float64)
    first.requires_grad_(False)
    model = nn.Sequential(first, last)
    meter = GradNorms(model)
    first.requires_grad_(True)
    x = torch.randn(5, 3, dtype=torch.float64)
    with meter.step(5) as norms:
        model(x).sum().backward()
    for row, norm in zip(x, norms.per_trajectory().tolist(), strict=True):
        model.zero_grad()
        model(row[None]).sum().backward()
        square = sum(float(p.grad.square().sum()) for p in model.parameters())
        assert norm == pytest.approx(square**0.5)
    with pytest.raises(UncoveredParameterError, match=r"0\.weight"), meter.step(4):
        model(x)
