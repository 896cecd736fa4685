"""Bars: met, missed, or not resolved by what was measured."""

from gradnorms.compare import Ratio, Row

MET, MISSED, UNRESOLVED = "met", "missed", "not resolved"


def time_bar(row: Row) -> float | None:
    """Largest time ratio that passes: the bar, or what its milliseconds come to."""
    bars = row.bars
    if bars.time is None:
        return None
    if not (bars.extra_ms and row.plain_ms):
        return bars.time
    return max(bars.time, 1 + bars.extra_ms / row.plain_ms)


def of_interval(ratio: Ratio, bar: float) -> str:
    """Met if the whole interval is at or under the bar, missed if none of it is."""
    if ratio.high <= bar:
        return MET
    return MISSED if ratio.low > bar else UNRESOLVED


def of_number(value: float, bar: float) -> str:
    """For what is the same in every run; as many decimals count as the bar has, at least 3."""
    return MET if round(value, 3) <= bar else MISSED


def verdicts(row: Row) -> list[str]:
    """Of time, FLOPs and memory; "stated" where nothing was promised."""
    bar, bars = time_bar(row), row.bars
    time = "stated" if bar is None or row.cpu is None else of_interval(row.cpu, bar)
    flops = "stated" if bars.flops is None else of_number(row.flops, bars.flops)
    memory = "stated" if bars.memory is None else of_number(row.memory, bars.memory)
    return [time, flops, memory]
