"""Norms of a model whose layers compute in a lower precision than their parameters have."""

import pytest
import torch
from torch import nn

from mmhealth.errors import UncoveredParameterError
from mmhealth.gradnorm import GradNorms


@pytest.mark.parametrize("bias", [True, False])
def test_autocast_is_measured_to_its_own_precision(bias):
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(32, 64, bias=bias), nn.ReLU(), nn.Linear(64, 1, bias=bias))
    x = torch.randn(256, 32).abs()
    with GradNorms(model).step(256) as norms:
        with torch.autocast("cpu", torch.bfloat16):
            output = model(x)
        output.float().mean().backward()
    expected = []
    for row in x:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            output = model(row[None])
        (output.float().sum() / 256).backward()
        expected.append(sum(float(p.grad.square().sum()) for p in model.parameters()) ** 0.5)
    assert norms.per_trajectory().tolist() == pytest.approx(expected, rel=1e-2)


def test_autocast_does_not_hide_a_parameter_used_outside_its_module():
    torch.manual_seed(8)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
    refused = pytest.raises(UncoveredParameterError, match=r"1\.weight .*'square'")
    with refused, GradNorms(model).step(16), torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(16, 8)).mean() + model[1].weight.square().sum()
