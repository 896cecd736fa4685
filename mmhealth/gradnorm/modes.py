"""What one step measures under a mode, and how its squares become norms with an error.

A `Plan` is made for each step: which parameters are intercepted, with which layouts, and what the
squared norms that come back stand for. The plain one measures everything, without error.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mmhealth.gradnorm.layout import Layout
from mmhealth.gradnorm.replicates import Floats, Replicates, Stratum
from mmhealth.gradnorm.sampled import Kind, Sampled, draw_layers, draw_trajectories, thinned
from mmhealth.gradnorm.sketch import Sketch
from mmhealth.gradnorm.target import Target

Mode = Sketch | Sampled | None
"""How `GradNorms` measures; None: exactly."""

Squares = Mapping[str, Tensor]
"""Squared norms by parameter: (count,), or (count, k) by column of a sketch."""


class Plan:
    """Everything is measured, trajectories 0 .. count - 1."""

    def __init__(self, targets: dict[int, Target], layouts: Sequence[Layout]) -> None:
        self.targets = targets
        self.layouts = [layout.again() for layout in layouts]
        self.count = 1 + max(layout.highest for layout in layouts)
        self.known = list(range(self.count))
        """Trajectories that are measured."""

    @property
    def accounts(self) -> int:
        """Trajectories of the layouts, with those that stand for what is not measured."""
        return 1 + max(layout.highest for layout in self.layouts)

    def elements(self, shape: torch.Size) -> int:
        """Numbers kept of a trajectory's gradient of this shape while it waits for other parts."""
        return shape.numel()

    def told(self, squares: Tensor) -> Tensor:
        """(count,) of (accounts,) squares, NaN where unknown."""
        return squares

    def total(self, squares: Squares) -> Tensor:
        """(count,) float64 squared norms over all parameters."""
        if not squares:
            return self.told(torch.zeros(self.accounts, dtype=torch.float64))
        first = next(iter(squares.values())).device
        return self.told(torch.stack([s.to(first) for s in squares.values()]).sum(0))

    def replicates(self, squares: Squares, columns: Squares, scale: Floats) -> Replicates:
        """Norms of the known trajectories, and without each part of the sample; (count,) scale."""
        whole = _host(self.total(squares))[self.known]
        strata = self._strata(squares, columns, whole)
        unit = scale[self.known]
        return Replicates(_root(whole) / unit, [_scaled(stratum, unit) for stratum in strata])

    def standard_errors(self, squares: Squares, columns: Squares, scale: Floats) -> Floats:
        """(count,) standard error of each norm, 0 where it is exact, NaN where it is unknown."""
        return self.replicates(squares, columns, scale).standard_errors()

    def _strata(self, _squares: Squares, _columns: Squares, _whole: Floats) -> list[Stratum]:
        """Strata whose replicates are squared norms."""
        return []


class SketchPlan(Plan):
    """Columns of sketches are the sample, of endlessly many."""

    def __init__(self, targets: dict[int, Target], layouts: Sequence[Layout], mode: Sketch) -> None:
        super().__init__(targets, layouts)
        self._mode = mode

    def elements(self, shape: torch.Size) -> int:
        """Of sketches where they pay."""
        return self._mode.elements(shape)

    def _strata(self, _squares: Squares, columns: Squares, whole: Floats) -> list[Stratum]:
        if not columns:
            return []
        by_column = np.sum([_host(c) for c in columns.values()], axis=0)
        mean = by_column.mean(1)
        k = by_column.shape[1]
        return [Stratum([whole + (mean - by_column[:, j]) / (k - 1) for j in range(k)])]


class LayersPlan(Plan):
    """Layers drawn stand for all of their kind."""

    def __init__(
        self, targets: dict[int, Target], layouts: Sequence[Layout], kinds: Sequence[Kind]
    ) -> None:
        drawn = {t.name for kind in kinds for layer in kind.drawn for t in layer}
        super().__init__({key: t for key, t in targets.items() if t.name in drawn}, layouts)
        self._kinds = kinds

    def total(self, squares: Squares) -> Tensor:
        """Weighted by the inverse probability of being drawn."""
        share = {t.name: k.share for k in self._kinds for layer in k.drawn for t in layer}
        return super().total({name: square / share[name] for name, square in squares.items()})

    def _strata(self, squares: Squares, _columns: Squares, whole: Floats) -> list[Stratum]:
        strata = []
        for kind in self._kinds:
            if len(kind.drawn) == kind.size:
                continue
            own = np.stack([self._of_layer(layer, squares) for layer in kind.drawn])
            mean, drawn = own.mean(0), len(own)
            changes = [kind.size * (mean - one) / (drawn - 1) for one in own]
            strata.append(Stratum([whole + change for change in changes], kind.share))
        return strata

    def _of_layer(self, layer: list[Target], squares: Squares) -> Floats:
        found = [_host(squares[t.name]) for t in layer if t.name in squares]
        return np.sum(found, axis=0) if found else np.zeros(self.count)


class TrajectoriesPlan(Plan):
    """Some trajectories are known, the others' norms are NaN: never a number."""

    def __init__(
        self,
        targets: dict[int, Target],
        layouts: Sequence[Layout],
        size: int,
        generator: np.random.Generator,
    ) -> None:
        super().__init__(targets, layouts)
        self.known = draw_trajectories(size, self.count, generator)
        self.layouts = thinned(layouts, self.known, self.count)

    def told(self, squares: Tensor) -> Tensor:
        """Without the accounts that stand for trajectories not drawn."""
        told = torch.full((self.count,), torch.nan, dtype=torch.float64, device=squares.device)
        told[self.known] = squares[self.known]
        return told

    def replicates(self, squares: Squares, columns: Squares, scale: Floats) -> Replicates:
        """Norms of the known trajectories, and of all of them but one."""
        norms = super().replicates(squares, columns, scale).norms
        if len(norms) == self.count:
            return Replicates(norms)
        without = [np.delete(norms, at) for at in range(len(norms))]
        return Replicates(norms, [Stratum(without, len(norms) / self.count)])

    def standard_errors(self, _squares: Squares, _columns: Squares, _scale: Floats) -> Floats:
        """Those that are known are exact."""
        errors = np.full(self.count, np.nan)
        errors[self.known] = 0.0
        return errors


def plan(
    mode: Mode, step: int, model: nn.Module, targets: dict[int, Target], layouts: Sequence[Layout]
) -> Plan:
    """The plan of a step, counted from 0."""
    if isinstance(mode, Sketch):
        return SketchPlan(targets, layouts, mode)
    if isinstance(mode, Sampled) and mode.layers is not None:
        kinds = draw_layers(model, targets, mode.layers, mode.generator(step))
        return LayersPlan(targets, layouts, kinds)
    if isinstance(mode, Sampled) and mode.trajectories is not None:
        return TrajectoriesPlan(targets, layouts, mode.trajectories, mode.generator(step))
    return Plan(targets, layouts)


def _host(squares: Tensor) -> Floats:
    array: Floats = squares.detach().cpu().double().numpy()
    return array


def _root(squares: Floats) -> Floats:
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)), dtype=np.float64)


def _scaled(stratum: Stratum, unit: Floats) -> Stratum:
    return Stratum([_root(squares) / unit for squares in stratum.without], stratum.share)
