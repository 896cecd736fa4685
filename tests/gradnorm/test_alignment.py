"""Cosines of trajectories' gradients with the gradient of the whole step."""

import pytest
import torch
from torch import Tensor, nn

from mmhealth.errors import GradNormError
from mmhealth.gradnorm import GradNorms, Sketch, batch_rows, segment_ids, summands


def model_of(width: int = 6) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(9, width), nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Tanh(),
        nn.Linear(2 * width, 3),
    ).double()  # fmt: skip


def losses(model: nn.Module, tokens: Tensor) -> Tensor:
    """(rows, time)."""
    return (model(tokens).log_softmax(-1) * torch.arange(1.0, 4.0)).sum(-1)


def cosines(model: nn.Module, tokens: Tensor, ids: Tensor) -> Tensor:
    """Slow and obvious: one backward pass a trajectory of the positions in ``ids``."""
    gradients = []
    for i in range(int(ids.max()) + 1):
        model.zero_grad()
        (losses(model, tokens) * (ids == i)).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    model.zero_grad()
    each = torch.stack(gradients)
    whole = each.sum(0)
    return (each @ whole) / (each.norm(dim=1) * whole.norm())


TOKENS = torch.randint(0, 9, (6, 5), generator=torch.Generator().manual_seed(1))


def test_of_trajectories_scattered_over_rows():
    model, ids = model_of(), torch.arange(30).reshape(6, 5) % 4
    with GradNorms(model, alignment=True).step(segment_ids(ids)) as norms:
        losses(model, TOKENS).sum().backward()
    torch.testing.assert_close(norms.alignment(), cosines(model, TOKENS, ids))


def test_skipping_padding_changes_nothing():
    model = model_of()
    mask = torch.arange(5) < torch.tensor([[5], [2], [3], [1], [5], [4]])
    rows = torch.where(mask, torch.arange(6)[:, None], -1)
    with GradNorms(model, alignment=True).step(batch_rows(6, mask)) as norms:
        (losses(model, TOKENS) * mask).sum().backward()
    torch.testing.assert_close(norms.alignment(), cosines(model, TOKENS, rows))


@pytest.mark.parametrize("bitwise", [False, True])
def test_micro_batches_align_with_the_whole_step(bitwise):
    """Trajectory 1 has rows in both parts."""
    model, owner = model_of(), torch.tensor([0, 1, 2, 1, 3, 3])
    meter = GradNorms(model, alignment=True, bitwise=bitwise)
    with meter.step(owner[:3], owner[3:]) as norms:
        for part, rows in enumerate((TOKENS[:3], TOKENS[3:])):
            norms.part(part)
            losses(model, rows).sum().backward()
    expected = cosines(model, TOKENS, owner[:, None].expand(6, 5))
    torch.testing.assert_close(norms.alignment(), expected)


def test_too_much_to_keep_takes_one_more_product_instead(monkeypatch):
    monkeypatch.setattr(summands, "_KEPT", 0)
    model, ids = model_of(), torch.arange(6)[:, None].expand(6, 5)
    with GradNorms(model, alignment=True).step(6) as norms:
        losses(model, TOKENS).sum().backward()
    torch.testing.assert_close(norms.alignment(), cosines(model, TOKENS, ids))


def test_float32_is_exact_to_rounding():
    exact, ids = model_of(), torch.arange(6)[:, None].expand(6, 5)
    model = model_of().float()
    with GradNorms(model, alignment=True).step(6) as norms:
        losses(model, TOKENS).sum().backward()
    expected = cosines(exact, TOKENS, ids)
    torch.testing.assert_close(norms.alignment(), expected, rtol=0, atol=2e-6)


def test_a_trajectory_without_a_gradient_has_no_cosine():
    model = model_of()
    with GradNorms(model, alignment=True).step(6) as norms:
        (losses(model, TOKENS) * torch.tensor([1.0, 1, 0, 1, 1, 1])[:, None]).sum().backward()
    assert norms.alignment().isnan().tolist() == [False, False, True, False, False, False]


def test_is_not_there_unless_asked_for():
    model = model_of()
    with GradNorms(model).step(6) as norms:
        losses(model, TOKENS).sum().backward()
    with pytest.raises(GradNormError, match="alignment=True"):
        norms.alignment()


def test_refuses_what_is_no_exact_gradient():
    with pytest.raises(GradNormError, match="alignment"):
        GradNorms(model_of(), Sketch(k=4), alignment=True)


def test_refuses_more_memory_than_allowed():
    meter = GradNorms(model_of(), alignment=True, memory_limit=1000)
    meter.step(6)
    with pytest.raises(GradNormError, match="memory_limit"):
        meter.step(3, torch.tensor([3, 4, 5]))
