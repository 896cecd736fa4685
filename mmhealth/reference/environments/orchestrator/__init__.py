"""The orchestrator: all five failures in one world and one policy; see `world`."""

from mmhealth.reference.environments.orchestrator.config import OrchestratorConfig
from mmhealth.reference.environments.orchestrator.world import Orchestrator

__all__ = ["Orchestrator", "OrchestratorConfig"]
