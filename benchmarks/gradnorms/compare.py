"""All methods on one workload in the same rounds, relative to plain training."""

import copy
import statistics
from dataclasses import dataclass

import torch
from tables import bootstrap_interval
from torch import Tensor

from gradnorms import ours
from gradnorms.arm import Arm, Prepare, UnableError
from gradnorms.measure import Samples, matmul_flops, peak_bytes, rounds
from gradnorms.peers import LOOP, PEERS
from gradnorms.workload import Bars, Workload
from mmhealth.errors import MmhealthError

PEERS_EVERY = 3
"""Peers take part in one round out of so many."""
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MmhealthError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    UnableError,
    ValueError,
)
"""What a method raises where it cannot run a workload."""


@dataclass
class Ratio:
    """Median of paired ratios, with its 95 % bootstrap interval."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Ratio":
        """Of one value a round."""
        return cls(statistics.median(values), *bootstrap_interval(values))


@dataclass
class Row:
    """One method on one workload; everything is relative to plain training."""

    workload: Workload
    method: str
    reason: str = ""
    """Why there are no figures; "" where there are."""
    cpu: Ratio | None = None
    wall: Ratio | None = None
    extra_ms: float = 0.0
    """CPU milliseconds an update beyond plain, median."""
    plain_ms: float = 0.0
    """CPU milliseconds of plain training, median of the same rounds."""
    pairs: int = 0
    flops: float = 0.0
    memory: float = 0.0
    error: float | None = None
    """Largest relative difference of a norm to the reference; None where there are no norms."""
    gradient_error: float = 0.0
    """Relative difference of the norm of the whole gradient in ``.grad`` to plain training's."""

    @property
    def bars(self) -> Bars:
        """What was promised of it; of a peer nothing."""
        if self.method.startswith("sketch"):
            return self.workload.bars.get("sketch", Bars())
        layouts = {f"exact, {name}" if name else "exact": name for name in self.workload.layouts}
        return self.workload.bars.get(layouts.get(self.method, "no bars"), Bars())


def compare(workload: Workload, pairs: int, methods: dict[str, Prepare] | None = None) -> list[Row]:
    """Measure every method (or these) that can run it; the others' rows say why not."""
    cuda = workload.device.type == "cuda"
    methods = methods or ours.methods(workload) | PEERS
    trials, reasons = _tried(workload, methods)
    arms = {name: trial.arm for name, trial in trials.items()}
    exact = ours.reference(workload, copy.deepcopy(workload.model)) if LOOP in methods else None
    pairs = max(3, round(pairs * workload.effort))
    every = dict.fromkeys(PEERS, PEERS_EVERY) if pairs >= 3 * PEERS_EVERY else {}
    samples = rounds(arms, ours.PLAIN, pairs, cuda, every)
    flops = {name: matmul_flops(arm) for name, arm in arms.items()}
    peak = {name: peak_bytes(arm, cuda) for name, arm in arms.items()}
    held = workload.bytes_held()
    rows = []
    for name in methods:
        if name in reasons:
            rows.append(Row(workload, name, reasons[name]))
            continue
        row = _timed_row(workload, name, samples[name])
        row.flops = flops[name] / flops[ours.PLAIN]
        row.memory = (held + peak[name]) / (held + peak[ours.PLAIN])
        row.error = _error(trials[name].norms, exact)
        row.gradient_error = abs(trials[name].gradient / trials[ours.PLAIN].gradient - 1)
        rows.append(row)
    return rows


@dataclass
class _Trial:
    """A method that ran once."""

    arm: Arm
    norms: Tensor | None
    gradient: float
    """Norm of the whole gradient that it left."""


def _tried(
    workload: Workload, methods: dict[str, Prepare]
) -> tuple[dict[str, _Trial], dict[str, str]]:
    trials, reasons = {}, {}
    for name, prepare in methods.items():
        model = copy.deepcopy(workload.model)
        try:
            arm = prepare(workload, model)
            arm.reset()
            norms = arm.run()
        except FAILURES as error:
            reasons[name] = _short(error)
            continue
        gradients = [p.grad.double().norm() for p in model.parameters() if p.grad is not None]
        whole = float(torch.stack(gradients).norm()) if gradients else 0.0
        arm.reset()
        norms = None if norms is None else norms.detach().double().cpu()
        trials[name] = _Trial(arm, norms, whole)
    return trials, reasons


def _timed_row(workload: Workload, name: str, samples: Samples) -> Row:
    extra = [a - b for a, b in zip(samples.cpu, samples.plain_cpu, strict=True)]
    return Row(
        workload,
        name,
        cpu=Ratio.of(samples.cpu_ratios),
        wall=Ratio.of(samples.wall_ratios),
        extra_ms=1e3 * statistics.median(extra),
        plain_ms=1e3 * statistics.median(samples.plain_cpu),
        pairs=len(samples.cpu),
    )


def _error(norms: Tensor | None, exact: Tensor | None) -> float | None:
    if norms is None or exact is None:
        return None
    tiny = torch.finfo(torch.float32).tiny
    return float(((norms - exact).abs() / exact.clamp(min=tiny)).max())


def _short(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"not installed: {error.name}"
    words = " ".join(str(error).split()).replace("|", "/")
    if isinstance(error, UnableError):
        return words
    return f"{type(error).__name__}: {words[:100]}{'…' if len(words) > 100 else ''}"
