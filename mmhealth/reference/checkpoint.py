"""Checkpoints of a reference run: one file, replaced atomically."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmhealth.errors import RunError

_FILE = "checkpoint.pt"


def save(
    directory: Path, *, next_step: int, config: dict[str, Any], states: list[dict[str, Any]]
) -> None:
    """Keep the states of all ranks from which ``next_step`` follows, in place of those before."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / _FILE
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    with scratch.open("wb") as file:
        kept = [_arrays_to_tensors(state) for state in states]
        torch.save({"next_step": next_step, "config": config, "states": kept}, file)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def load(directory: Path, *, config: dict[str, Any]) -> tuple[int, list[dict[str, Any]]] | None:
    """``(next_step, states of the ranks)`` of the checkpoint in ``directory``; None: there is none.

    Raises `RunError` if it was made with another configuration than ``config``.
    """
    path = directory / _FILE
    if not path.exists():
        return None
    saved = torch.load(path, weights_only=True)
    if saved["config"] != config:
        names = sorted(saved["config"].keys() | config.keys())
        differ = [name for name in names if saved["config"].get(name) != config.get(name)]
        raise RunError(
            f"{path} was made with another {', '.join(differ)}; resume with the same "
            "configuration, or train into another run directory"
        )
    return saved["next_step"], saved["states"]


def _arrays_to_tensors(value: Any) -> Any:
    """The same containers with tensors for arrays, so that loading needs no unpickling of code."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        return {key: _arrays_to_tensors(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_arrays_to_tensors(item) for item in value]
    return value
