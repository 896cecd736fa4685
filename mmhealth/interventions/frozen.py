"""Frozen sub-agents: their outputs are observations, not part of what is optimised.

After Challapally (2026), fourth intervention: the orchestrator's gradient is not to be polluted by
the variance of sub-agents. The price is that it cannot teach them. Cost: `check` reads every
parameter once (and copies it to the CPU); 16 bytes are kept for each. Bias: none for the
orchestrator given these sub-agents.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


class FrozenSubagents:
    """Freezes modules at construction: no gradients, evaluation mode. Needs torch.

    ::

        frozen = FrozenSubagents(coder, searcher)
        with frozen.observing():
            observation = coder(task)
        ...
        frozen.check()   # now and then, for instance at checkpoints
    """

    def __init__(self, *modules: "nn.Module") -> None:
        if not modules:
            raise ValueError("modules: none given; there is nothing to freeze")
        self._modules = modules
        for module in modules:
            module.requires_grad_(False)
            module.eval()
        self._digests = self._measure()

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Calls inside record no gradient and run in evaluation mode, whoever called ``train``."""
        import torch

        for module in self._modules:
            module.eval()
        with torch.no_grad():
            yield

    def check(self) -> None:
        """Raise RuntimeError, naming it, if a parameter or buffer was changed or unfrozen since."""
        for position, module in enumerate(self._modules):
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    raise RuntimeError(f"{position}.{name} is trainable again; freeze it once more")
        digests = self._measure()
        changed = [n for n in self._digests if digests.get(n) != self._digests[n]]
        added = [n for n in digests if n not in self._digests]
        if changed or added:
            raise RuntimeError(
                f"frozen sub-agents changed: {', '.join(changed + added)}; keep them out of the "
                "optimizer, or freeze the new ones with another FrozenSubagents"
            )

    def state_dict(self) -> dict[str, Any]:
        """Digests of all parameters and buffers: plain text, for a checkpoint."""
        return {"digests": dict(self._digests)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave: `check` then tells whether these are the sub-agents."""
        self._digests = dict(state["digests"])

    def _measure(self) -> dict[str, str]:
        return {
            f"{position}.{name}": _digest(tensor)
            for position, module in enumerate(self._modules)
            for name, tensor in module.state_dict().items()
        }


def _digest(tensor: "Tensor") -> str:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.blake2b(flat.view(torch.uint8).numpy().tobytes(), digest_size=16).hexdigest()
