"""The slow obvious oracle: one backward pass per trajectory."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


def one_backward_each(
    model: nn.Module, term: Callable[[int], Tensor], count: int
) -> dict[str, Tensor]:
    """(count,) float64 norms by parameter; ``term(i)`` is trajectory i's term in the loss."""
    norms = {n: torch.zeros(count).double() for n, p in model.named_parameters() if p.requires_grad}
    for i in range(count):
        model.zero_grad()
        loss = term(i)
        if loss.requires_grad:
            loss.backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                norms[name][i] = parameter.grad.double().norm()
    model.zero_grad()
    return norms


@pytest.fixture(scope="session")
def oracle() -> Callable[[nn.Module, Callable[[int], Tensor], int], dict[str, Tensor]]:
    """The function `one_backward_each`."""
    return one_backward_each
