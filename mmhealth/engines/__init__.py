"""Where work runs: in this process, in processes of this machine, or on a Ray cluster."""

from mmhealth.engines.engine import Engine, Progress, SerialEngine
from mmhealth.engines.local import LocalEngine
from mmhealth.engines.named import parse_engine
from mmhealth.engines.ray import RayEngine
from mmhealth.engines.surviving import map_surviving

__all__ = [
    "Engine",
    "LocalEngine",
    "Progress",
    "RayEngine",
    "SerialEngine",
    "map_surviving",
    "parse_engine",
]
