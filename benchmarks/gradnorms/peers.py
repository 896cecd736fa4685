"""The other ways to the same norms, by what the table calls them."""

from importlib import import_module, metadata

from gradnorms import backpack_norms, fastdp_norms, functional, opacus_hooks, ours
from gradnorms.arm import Prepare

LOOP = "loop, trimmed"
PEERS: dict[str, Prepare] = {
    LOOP: ours.loop,
    "vmap(grad), chunks of 4": functional.chunks_of(4),
    "vmap(grad), at once": functional.chunks_of(None),
    "Opacus GradSampleModule": opacus_hooks.hooks,
    "Opacus ghost": opacus_hooks.ghost,
    "BackPACK batch_l2": backpack_norms.batch_l2,
    "fastDP MixOpt": fastdp_norms.mix_opt,
}
_PACKAGES = {
    "opacus": "opacus",
    "backpack": "backpack-for-pytorch",
    "fastDP": "fastDP",
    "transformers": "transformers",
}


def versions() -> str:
    """What is installed of the peers and of what they run on, in a sentence."""
    found = [f"{name} {_version(module, name)}" for module, name in _PACKAGES.items()]
    return f"Beside it: {', '.join(found)}."


def _version(module: str, distribution: str) -> str:
    try:
        loaded = import_module(module)
    except ImportError:
        return "(not installed)"
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return str(getattr(loaded, "__version__", "of unknown version"))
