import pytest
import torch
from torch import nn

from mmhealth.interventions import FrozenSubagents


@pytest.fixture
def agent():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def test_outputs_are_observations(agent):
    frozen = FrozenSubagents(agent)
    agent.train()
    task = torch.randn(8, 3, requires_grad=True)
    with frozen.observing():
        first, second = agent(task), agent(task)
    assert not first.requires_grad
    assert torch.equal(first, second)
    frozen.check()


def test_the_orchestrator_learns_and_the_subagent_does_not(agent):
    frozen, orchestrator = FrozenSubagents(agent), nn.Linear(4, 1)
    parameters = [*agent.parameters(), *orchestrator.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, weight_decay=0.1)
    before = orchestrator.weight.clone()
    with frozen.observing():
        seen = agent(torch.randn(8, 3))
    orchestrator(seen).sum().backward()
    optimizer.step()
    frozen.check()
    assert not torch.equal(orchestrator.weight, before)


def test_a_changed_parameter_is_named(agent):
    frozen = FrozenSubagents(nn.Linear(1, 1), agent)
    agent[0].weight.data[0, 0] += 1e-3
    with pytest.raises(RuntimeError, match=r"1\.0\.weight"):
        frozen.check()


def test_buffers_count_too(agent):
    frozen = FrozenSubagents(agent)
    agent.train()(torch.randn(8, 3))
    with pytest.raises(RuntimeError, match="running_mean"):
        frozen.check()


def test_an_unfrozen_parameter_is_named(agent):
    frozen = FrozenSubagents(agent)
    agent[0].bias.requires_grad_(True)
    with pytest.raises(RuntimeError, match=r"0\.0\.bias is trainable"):
        frozen.check()


def test_after_a_restart_other_subagents_are_noticed(agent):
    state = FrozenSubagents(agent).state_dict()
    same = FrozenSubagents(agent)
    same.load_state_dict(state)
    same.check()
    other = FrozenSubagents(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    other.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"0\.0\.weight"):
        other.check()


def test_half_precision_can_be_frozen():
    FrozenSubagents(nn.Linear(2, 2).bfloat16()).check()


def test_needs_something_to_freeze():
    with pytest.raises(ValueError, match="modules"):
        FrozenSubagents()
