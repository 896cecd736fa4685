"""Engines by their names, as ``--engine`` takes them."""

from mmhealth.engines.engine import Engine, SerialEngine
from mmhealth.engines.local import LocalEngine
from mmhealth.engines.ray import RayEngine
from mmhealth.errors import EngineError

NAMES = "serial, local, local:WORKERS, ray, ray:WORKERS, ray:auto, ray://HOST:PORT"
"""All that `parse_engine` knows."""


def parse_engine(name: str) -> Engine:
    """An engine by its name; whoever asks for it closes it.

    ``serial``: here, one task after the other. ``local``: processes of this machine, as many as it
    has cores, or ``local:4``. ``ray``: the cluster that ``RAY_ADDRESS`` names, or one begun here,
    ``ray:4`` with so many CPUs; ``ray:auto``: the one that runs on this machine;
    ``ray://host:10001``: one elsewhere, through its client port.

    Raises EngineError for any other name, and as `RayEngine` does.
    """
    kind, _, rest = name.partition(":")
    workers = int(rest) if rest.isdecimal() and int(rest) else None
    if name == "serial":
        return SerialEngine()
    if name == "local":
        return LocalEngine()
    if kind == "local" and workers is not None:
        return LocalEngine(workers)
    if name == "ray" or (kind == "ray" and workers is not None):
        return RayEngine(workers=workers)
    if kind == "ray" and (rest == "auto" or (rest.startswith("//") and rest != "//")):
        return RayEngine("auto" if rest == "auto" else name)
    raise EngineError(f"{name!r} is no engine; engines are {NAMES}")
