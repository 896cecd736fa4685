"""Time in interleaved rounds, matmul FLOPs and peak memory of forward and backward passes."""

import gc
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils import flop_counter

from gradnorms.arm import Arm

Size = tuple[int, ...]
LEAST_SECONDS = 0.02
"""Of a timed sample: short updates are repeated."""
WARM_BELOW = 0.2
"""Seconds: before shorter updates are timed, one is made to fill the caches."""


@dataclass
class Samples:
    """Seconds an update, one value a round, with the same round's plain ones."""

    cpu: list[float] = field(default_factory=list)
    """CPU time of the process; on a GPU the time between CUDA events."""
    wall: list[float] = field(default_factory=list)
    plain_cpu: list[float] = field(default_factory=list)
    plain_wall: list[float] = field(default_factory=list)

    @property
    def cpu_ratios(self) -> list[float]:
        """Of this arm to plain, round by round."""
        return [a / b for a, b in zip(self.cpu, self.plain_cpu, strict=True)]

    @property
    def wall_ratios(self) -> list[float]:
        """The same of wall time."""
        return [a / b for a, b in zip(self.wall, self.plain_wall, strict=True)]


def rounds(
    arms: Mapping[str, Arm], plain: str, pairs: int, cuda: bool, every: Mapping[str, int]
) -> dict[str, Samples]:
    """All arms in each of ``pairs`` rounds, in an order drawn anew.

    An arm named in ``every`` takes part in one round out of so many.
    """
    for arm in arms.values():
        _timed(arm, 1, cuda)
    once = {name: _timed(arm, 1, cuda)[1] for name, arm in arms.items()}
    repeats = {name: max(1, round(LEAST_SECONDS / taken)) for name, taken in once.items()}
    chance = random.Random(0)
    samples = {name: Samples() for name in arms}
    for number in range(pairs):
        order = [n for n in arms if number % every.get(n, 1) == 0]
        chance.shuffle(order)
        gc.collect()
        times = {}
        for name in order:
            if once[name] < WARM_BELOW:
                _timed(arms[name], 1, cuda)
            times[name] = _timed(arms[name], repeats[name], cuda)
        for name, (cpu, wall) in times.items():
            samples[name].cpu.append(cpu)
            samples[name].wall.append(wall)
            samples[name].plain_cpu.append(times[plain][0])
            samples[name].plain_wall.append(times[plain][1])
    return samples


def matmul_flops(arm: Arm) -> int:
    """As `torch.utils.flop_counter` counts them, and attention on the CPU, which it leaves out."""
    aten = torch.ops.aten
    mapping = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    arm.reset()
    with flop_counter.FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        arm.run()
    arm.reset()
    return counter.get_total_flops()


def peak_bytes(arm: Arm, cuda: bool) -> int:
    """Most bytes that one call holds at a time beyond what was held before it."""
    arm.reset()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        arm.run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        arm.run()
    arm.reset()
    events = []
    nodes = list(recorded.profiler.kineto_results.experimental_event_tree())
    while nodes:
        node = nodes.pop()
        nodes.extend(node.children)
        if node.tag.name == "Allocation":
            events.append((node.start_time_ns, node.extra_fields.alloc_size))
    held = peak = 0
    for _, size in sorted(events, key=lambda event: event[0]):
        held += size
        peak = max(peak, held)
    return peak


def _attention(query: Size, key: Size, value: Size, *_: object, **__: object) -> int:
    return flop_counter.sdpa_flop_count(query, key, value)


def _attention_backward(gradient: Size, query: Size, key: Size, *rest: Any, **_: object) -> int:
    return flop_counter.sdpa_backward_flop_count(gradient, query, key, rest[0])


def _timed(arm: Arm, repeats: int, cuda: bool) -> tuple[float, float]:
    """CPU (or CUDA) and wall seconds a call; the collector rests, and no reset is in them."""
    cpu = wall = 0.0
    enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(repeats):
            arm.reset()
            began, cpu_before, wall_before = _start(cuda), time.process_time(), time.perf_counter()
            arm.run()
            if began is not None:
                ended = torch.cuda.Event(enable_timing=True)
                ended.record()
                torch.cuda.synchronize()
                cpu += began.elapsed_time(ended) / 1e3
            else:
                cpu += time.process_time() - cpu_before
            wall += time.perf_counter() - wall_before
        arm.reset()
    finally:
        if enabled:
            gc.enable()
    return cpu / repeats, wall / repeats


def _start(cuda: bool) -> torch.cuda.Event | None:
    if not cuda:
        return None
    torch.cuda.synchronize()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
