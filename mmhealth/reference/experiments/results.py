"""Results of runs: one JSON file each, and what they say arm by arm."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import mmhealth
from mmhealth.reference.experiments.arms import Arm

FORMAT = 1
"""Raised when results mean something else than before: those of older ones are run again."""

Array = npt.NDArray[np.float64]


def digest(arm: Arm, seed: int) -> str:
    """What a result depends on: configuration, seed, episodes of the last evaluation, format."""
    world = type(arm.config.environment)
    content = {
        "format": FORMAT,
        "world": f"{world.__module__}.{world.__qualname__}",
        "config": asdict(arm.config),
        "audit": arm.audit,
        "before_final": getattr(arm.before_final, "__qualname__", None),
        "seed": seed,
        "final_episodes": arm.final_episodes,
    }
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_version() -> str:
    """Digest of the sources that a run's numbers come from: trainer, worlds, fixes."""
    package = Path(mmhealth.__file__).parent
    files = sorted(
        path
        for folder in ("reference", "interventions", "gradnorm", "estimators")
        for path in (package / folder).rglob("*.py")
        if "experiments" not in path.parts
    )
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:12]


def result_path(folder: Path, arm: Arm, seed: int) -> Path:
    """Where the result of a run lies."""
    return folder / "runs" / arm.figure / arm.slug / f"{seed}.json"


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is whole or not there, whenever the process may die."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def load(folder: Path, arm: Arm, seed: int) -> "Result | None":
    """The result of a run; None where there is none, or only one of another configuration."""
    try:
        content = json.loads(result_path(folder, arm, seed).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if content.get("digest") != digest(arm, seed):
        return None
    return Result(content)


@dataclass(frozen=True, slots=True)
class Result:
    """What one run left."""

    content: Mapping[str, Any]
    """The file."""

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.content["seed"])

    def series(self, name: str) -> Array:
        """(steps,) numbers; NaN where they are not known, and everywhere if they never were."""
        columns = self.content["series"]
        steps = len(columns["step"])
        return np.array(columns.get(name, [None] * steps), dtype=np.float64)

    def success(self, horizon: int | None = None) -> tuple[Array, Array]:
        """(steps, held-out success) of all evaluations, mean over the horizons or at one."""
        solved: dict[int, list[int]] = {}
        for row in self.content["evaluations"]:
            if horizon in (None, row["horizon"]):
                sums = solved.setdefault(row["step"], [0, 0])
                sums[0] += row["successes"]
                sums[1] += row["episodes"]
        rates = [won / played for won, played in solved.values()]
        return np.array(list(solved), dtype=np.float64), np.array(rates, dtype=np.float64)

    def final(self, horizon: int | None = None) -> float:
        """Held-out success of the trained policy, mean over the horizons or at one."""
        rows = [row for row in self.content["final"] if horizon in (None, row["horizon"])]
        episodes = sum(int(row["episodes"]) for row in rows)
        return sum(int(row["successes"]) for row in rows) / episodes


@dataclass(frozen=True, slots=True)
class Results:
    """All results there are, by figure, arm and seed."""

    runs: dict[tuple[str, str], dict[int, Result]] = field(default_factory=dict)

    @classmethod
    def gather(cls, folder: Path, arms: Iterable[Arm], seeds: Iterable[int]) -> "Results":
        """Read what lies in ``folder``."""
        wanted = list(seeds)
        runs: dict[tuple[str, str], dict[int, Result]] = {}
        for arm in arms:
            found = {seed: load(folder, arm, seed) for seed in wanted}
            runs[arm.figure, arm.name] = {s: r for s, r in found.items() if r is not None}
        return cls(runs)

    def of(self, figure: str, arm: str) -> dict[int, Result]:
        """By seed; empty where nothing was run."""
        return self.runs.get((figure, arm), {})

    def final(self, figure: str, arm: str, horizon: int | None = None) -> dict[int, float]:
        """Held-out success of the trained policies by seed."""
        return {seed: result.final(horizon) for seed, result in self.of(figure, arm).items()}

    def tail(self, figure: str, arm: str, name: str, steps: int = 20) -> dict[int, float]:
        """Mean of a series over its last known ``steps`` steps, by seed; only where it is known."""
        means = {}
        for seed, result in self.of(figure, arm).items():
            last = result.series(name)[-steps:]
            if np.isfinite(last).any():
                means[seed] = float(np.nanmean(last))
        return means
