"""Training under the meter is the training without it."""

import pytest
import torch
from torch import Tensor, nn

from mmhealth.gradnorm import GradNorms


def decoder(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
    return nn.Sequential(nn.Embedding(11, 8), layer, nn.LayerNorm(8), nn.Linear(8, 11)).to(dtype)


def trained(dtype: torch.dtype, *, measured: bool) -> tuple[list[float], list[Tensor]]:
    """Losses of 20 steps of Adam with clipped gradients, and the optimizer's last moments."""
    model = decoder(dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    meter, losses = GradNorms(model), []
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        tokens = torch.randint(0, 11, (6, 7), generator=generator)

        def loss(tokens: Tensor = tokens) -> Tensor:
            predicted = model(tokens[:, :-1]).flatten(0, 1)
            return nn.functional.cross_entropy(predicted, tokens[:, 1:].flatten())

        optimizer.zero_grad()
        if measured:
            with meter.step(6) as norms:
                value = loss()
                value.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
            assert (norms.per_trajectory() > 0).all()
        else:
            value = loss()
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        losses.append(value.item())
    return losses, [state["exp_avg"] for state in optimizer.state.values()]


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_20_steps_give_the_same_losses_and_the_same_optimizer_state(dtype, rounding):
    plain, moments = trained(dtype, measured=False)
    losses, owned = trained(dtype, measured=True)
    assert losses == pytest.approx(plain, rel=rounding)
    for ours, theirs in zip(owned, moments, strict=True):
        assert (ours - theirs).norm() <= 10 * rounding * theirs.norm()


def test_the_gradient_is_handed_over_without_a_copy():
    """One that somebody still holds is cloned by autograd: a second buffer of the weight's size."""
    model = nn.Linear(64, 64, bias=False)
    seen: list[int] = []
    with GradNorms(model).step(2):
        model.weight.register_hook(lambda g: seen.append(g.data_ptr()) or None)
        model(torch.randn(2, 3, 64)).square().sum().backward()
    assert seen == [model.weight.grad.data_ptr()]
