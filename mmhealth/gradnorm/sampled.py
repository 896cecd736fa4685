"""Measuring some layers, some trajectories or some steps: what is drawn, and what it stands for.

*Layers*: in each step some layers are drawn, the others are not touched. Layers whose names differ
in numbers only and whose parameters have the same shapes, block after block, form a stratum, and
each of those drawn stands for its stratum's share: squared norms are weighted by the inverse
probability of being drawn (Horvitz and Thompson, 1952, J. Am. Stat. Assoc. 47), unbiased. A layer
without its like is always measured, and of each stratum at least two are: from one there is no
telling how layers differ.

*Trajectories*: a random subset is measured, the others' norms are not known.

*Steps*: every n-th step is measured, the others pass as if there was no meter.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mmhealth.errors import GradNormError
from mmhealth.gradnorm.layout import Layout
from mmhealth.gradnorm.segments import NOBODY
from mmhealth.gradnorm.target import Target


@dataclass(frozen=True, slots=True)
class Sampled:
    """Mode of `GradNorms`: measure ``layers`` (a fraction), or so many ``trajectories``, drawn
    anew in each step from ``seed``, or ``every`` n-th step, the first among them.

    ``every`` may be combined with one of the others. Raises `GradNormError` for numbers out of
    range.
    """

    layers: float | None = None
    trajectories: int | None = None
    every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.layers is not None and self.trajectories is not None:
            raise GradNormError("Sampled: draw layers or trajectories, not both")
        if self.layers is not None and not 0 < self.layers <= 1:
            raise GradNormError(f"Sampled(layers={self.layers}): a fraction in (0, 1]")
        if self.trajectories is not None and self.trajectories < 3:
            raise GradNormError(
                f"Sampled(trajectories={self.trajectories}): an error can be known from three on"
            )
        if self.every < 1:
            raise GradNormError(f"Sampled(every={self.every}): every n-th step, n from 1")

    def measures(self, step: int) -> bool:
        """Whether a step, counted from 0, is measured."""
        return step % self.every == 0

    def generator(self, step: int) -> np.random.Generator:
        """What draws the sample of a step."""
        return np.random.default_rng([self.seed, step])


@dataclass(frozen=True, slots=True)
class Kind:
    """Layers of one kind: those drawn, of how many."""

    drawn: list[list[Target]]
    size: int

    @property
    def share(self) -> float:
        """Probability of each to be drawn."""
        return len(self.drawn) / self.size


def draw_layers(
    model: nn.Module, targets: Mapping[int, Target], share: float, generator: np.random.Generator
) -> list[Kind]:
    """A stratified random sample of the layers, without replacement."""
    strata: dict[object, list[list[Target]]] = {}
    for layer in _layers(model, targets):
        alike = sorted((re.sub(r"\d+", "*", t.name), tuple(t.shape)) for t in layer)
        strata.setdefault(tuple(alike), []).append(layer)
    kinds = []
    for layers in strata.values():
        count = min(len(layers), max(2, math.ceil(share * len(layers))))
        chosen = sorted(generator.choice(len(layers), count, replace=False))
        kinds.append(Kind([layers[i] for i in chosen], len(layers)))
    return kinds


def _layers(model: nn.Module, targets: Mapping[int, Target]) -> list[list[Target]]:
    """Targets by the module that owns them; modules with a common parameter are one layer.

    One operation may take all parameters of a layer, so they are measured together or not at all.
    """
    layer_of: dict[int, list[int]] = {}
    for module in model.modules():
        whole = isinstance(module, nn.MultiheadAttention)
        own = [id(p) for p in module.parameters(recurse=whole) if id(p) in targets]
        merged = list(dict.fromkeys(i for key in own for i in layer_of.get(key, [key])))
        layer_of |= dict.fromkeys(merged, merged)
    distinct = {id(layer): layer for layer in layer_of.values()}
    return [[targets[key] for key in layer] for layer in distinct.values()]


def draw_trajectories(size: int, count: int, generator: np.random.Generator) -> list[int]:
    """``size`` of the trajectories 0 .. count - 1, or all if there are no more; ascending."""
    return sorted(generator.choice(count, min(size, count), replace=False).tolist())


def thinned(layouts: Sequence[Layout], drawn: Sequence[int], count: int) -> list[Layout]:
    """The layouts with the trajectories drawn as they are, and whatever lies between them without
    a gap as one trajectory each, numbered from ``count`` on: rows that are added up in one piece,
    and whose norms say nothing.
    """
    known = torch.zeros(count, dtype=torch.bool)
    known[torch.tensor(drawn, dtype=torch.long)] = True
    result = []
    for layout in layouts:
        ids, count = _thinned(layout.ids, known, count, apart=layout.mask is not None)
        result.append(Layout(ids, layout.per_row, layout.mask))
    return result


def _thinned(ids: Tensor, known: Tensor, count: int, *, apart: bool) -> tuple[Tensor, int]:
    """The numbers, and the next that is free; ``apart``: rows with padding between them."""
    flat = ids.reshape(-1)
    rest = (flat != NOBODY) & ~known[flat]
    starts = rest.clone()
    if not apart:
        starts[1:] &= ~rest[:-1]
    runs = count - 1 + starts.cumsum(0)
    return torch.where(rest, runs, flat).view(ids.shape), count + int(starts.sum())
