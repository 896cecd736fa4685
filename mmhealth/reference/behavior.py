"""The policy that samples: the one that learns, as it was some steps ago."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmhealth.reference.policy import Policy


class BehaviorPolicy:
    """Keeps the ``lag + 1`` newest versions of a policy, and samples with the oldest."""

    def __init__(self, policy: Policy, lag: int) -> None:
        self.policy = policy
        """Weights of the version that samples."""
        self.updates = 0
        """Optimizer updates that version had seen."""
        self._lag = lag
        self._versions: deque[tuple[int, dict[str, Tensor]]] = deque()

    def follow(self, learner: Policy, updates: int) -> None:
        """Take note of the policy that learns, at the beginning of a step."""
        now = {name: value.clone() for name, value in learner.state_dict().items()}
        self._versions.append((updates, now))
        while len(self._versions) > self._lag + 1:
            self._versions.popleft()
        self.updates, version = self._versions[0]
        self.policy.load_state_dict(version)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {
            "updates": self.updates,
            "policy": self.policy.state_dict(),
            "versions": [{"updates": count, "policy": kept} for count, kept in self._versions],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.updates = state["updates"]
        self.policy.load_state_dict(state["policy"])
        self._versions = deque((item["updates"], item["policy"]) for item in state["versions"])
