"""Where work runs: in this process, in processes of this machine, or on a Ray cluster."""

from mmhealth.engines.engine import Engine, Progress, SerialEngine
from mmhealth.engines.local import LocalEngine

__all__ = ["Engine", "LocalEngine", "Progress", "SerialEngine"]
