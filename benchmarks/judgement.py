"""What the default policy is worth: harm seen coming in a labelled fleet, false alarms in streams.

    python benchmarks/fleet.py FLEET
    python benchmarks/streams.py STREAMS
    python benchmarks/judgement.py FLEET STREAMS

Writes docs/benchmarks/judgement.md. Every figure on it is of seeds that chose nothing.
"""

import argparse
import multiprocessing as mp
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from fleet import ARMS, CHOOSING, JUDGING, Member, courses, members, reachable
from packs import NAIVE, PEER, VERL
from streams import CHOOSING as CHOOSING_STREAMS
from streams import JUDGING as JUDGING_STREAMS
from streams import KINDS, LOW_ESS, read
from tables import DOCS, machine, markdown_table

from mmhealth.health import default_policy
from mmhealth.health.calibration import Course, Score, calibrate, play, score
from mmhealth.health.rules import Rule
from mmhealth.health.verdict import ON_THE_DATA

TARGET = 1 / 1000
BESIDE_FLEET = 10
"""Healthy choosing streams that a calibration is given beside the fleet: about twice its steps."""
WORLDS = {
    "1": "I tools and syntax",
    "2": "II majority rule",
    "3": "III mixed sources",
    "4": "IV width limits",
    "5": "V horizons",
    "orchestrator": "orchestrator",
}

Pack = tuple[Rule, ...]
HEADER = ["", "sees", "share (95 %)", "median lead", "never learned: alert at", "false", "runs"]


def packs() -> dict[str, Pack]:
    """Rules that are judged together, by name; those on the data themselves always have data, and
    would make a step at which no other can fire a step without false alarm."""
    rules = tuple(rule for rule in default_policy().rules if rule.metric not in ON_THE_DATA)
    return {
        "default policy, critical rules": tuple(r for r in rules if r.severity == "critical"),
        "default policy, all rules": rules,
        "naive: ess_signal < 0.2": NAIVE,
        "verl's documented ESS < 0.3": VERL,
        "closest peer's high findings": PEER,
    }


def line(name: str, found: Score) -> list[str]:
    detection, false, runs = found.detection, found.false_per_1000, found.runs_with_false_alarms
    return [
        name,
        f"{found.detected} of {found.sick}" if found.sick else "",
        f"{detection[0]:.0%} ({detection[1]:.0%} to {detection[2]:.0%})" if detection else "",
        f"{found.lead:g} ({found.leads[0]} to {found.leads[-1]})" if found.lead is not None else "",
        f"{median(found.told_at):g} ({found.told_at[0]} to {found.told_at[-1]})"
        if found.told_at
        else "",
        f"{false:.2g} (at most {found.false_per_1000_upper:.2g}) in {found.healthy_steps:,}"
        if false is not None
        else "",
        f"{sum(n > 0 for n in found.false_alarms)} of {found.healthy_runs}" if runs else "",
    ]


def labels(runs: Sequence[Course]) -> str:
    """A table of how many runs of each world came to what."""
    kinds = ("none", "borderline", "stall", "regression", "never", "unknown")
    rows = []
    for figure, world in WORLDS.items():
        counts = Counter(course.harm.kind for course in runs if course.family == figure)
        rows.append([world, *(str(counts[kind]) for kind in kinds)])
    return markdown_table(["", "healthy", *kinds[1:4], "never learned", "unknown"], rows)


def left_out(chosen: Sequence[Course], judged: Sequence[Course]) -> list[list[str]]:
    """The critical rules, their thresholds chosen on all worlds but the one they are judged on."""
    rows = []
    for figure, world in WORLDS.items():
        others = [course for course in chosen if course.family != figure]
        rules = calibrate(others, default_policy(), TARGET).policy.rules
        critical = [rule for rule in rules if rule.severity == "critical"]
        own = [course for course in judged if course.family == figure]
        rows.append(line(world, score(critical, own)))
    return rows


def score_streams(folder: Path, seeds: Iterable[int], jobs: int) -> dict[str, dict[str, Score]]:
    """False alarms by pack and by kind of stream."""
    asked = [(folder, seed) for seed in seeds]
    found: dict[str, dict[str, list[tuple[int, int, int]]]] = {name: {} for name in packs()}
    with mp.get_context("spawn").Pool(jobs) as pool:
        for kind, played in pool.imap(_play, asked, chunksize=8):
            for name, counts in played.items():
                found[name].setdefault(kind, []).append(counts)
    return {
        name: {kind: _score(counts) for kind, counts in kinds.items()}
        for name, kinds in found.items()
    }


def _play(asked: tuple[Path, int]) -> tuple[str, dict[str, tuple[int, int, int]]]:
    course = read(*asked)
    played = {name: play(rules, course.steps) for name, rules in packs().items()}
    counts = {name: (p.alarms, p.quiet_steps, p.judged_steps) for name, p in played.items()}
    return course.family, counts


def _score(counts: Sequence[tuple[int, int, int]]) -> Score:
    judged = [count for count in counts if count[1]]
    return Score(
        sick=0,
        detected=0,
        leads=(),
        told_at=(),
        warning_steps=0,
        healthy_runs=len(judged),
        healthy_steps=sum(steps for _, steps, _ in judged),
        false_alarms=tuple(alarms for alarms, _, _ in judged),
        steps_of_runs=tuple(steps for _, steps, _ in judged),
        judged_steps=sum(steps for _, _, steps in judged),
    )


def together(scores: Iterable[Score]) -> Score:
    """Several scores of streams as one."""
    parts = list(scores)
    return replace(
        parts[0],
        healthy_runs=sum(part.healthy_runs for part in parts),
        healthy_steps=sum(part.healthy_steps for part in parts),
        false_alarms=tuple(n for part in parts for n in part.false_alarms),
        steps_of_runs=tuple(n for part in parts for n in part.steps_of_runs),
        judged_steps=sum(part.judged_steps for part in parts),
    )


def false_line(name: str, found: Score) -> list[str]:
    share = found.runs_with_false_alarms
    if share is None:
        return [name, "no data", "", ""]
    return [
        name,
        f"{found.false_per_1000:.2g} (at most {found.false_per_1000_upper:.2g})",
        f"{found.healthy_steps:,}",
        f"{share[0]:.1%} (at most {share[2]:.1%}) of {found.healthy_runs}",
    ]


def stream_tables(found: Mapping[str, Mapping[str, Score]]) -> list[str]:
    """By pack, and for the critical rules by kind of stream."""
    header = ["", "false alarms per 1,000 steps", "steps", "streams with any"]
    parts = []
    classes: dict[str, Callable[[str], bool]] = {
        "Healthy streams": lambda kind: kind not in LOW_ESS,
        "Streams whose true ESS is low without harm": lambda kind: kind in LOW_ESS,
    }
    for title, belongs in classes.items():
        rows = [
            false_line(name, together(s for kind, s in kinds.items() if belongs(kind)))
            for name, kinds in found.items()
        ]
        parts += [f"### {title}", markdown_table(header, rows)]
    critical = found["default policy, critical rules"]
    rows = [false_line(kind, critical[kind]) for kind in KINDS]
    return [*parts, "### The critical rules, by kind of stream", markdown_table(header, rows)]


def goals(judged: Sequence[Course], streams: Mapping[str, Mapping[str, Score]]) -> str:
    """What was to be reached, and what was."""
    name, critical = next(iter(packs().items()))
    whole = score(critical, judged)
    onset = score(critical, [c for c in judged if c.harm.kind != "never"])
    never = score(critical, [c for c in judged if c.harm.kind == "never"])
    led = score(critical, [course for course in judged if course.family in ("1", "2")])
    healthy = together(s for kind, s in streams[name].items() if kind not in LOW_ESS)
    low = together(s for kind, s in streams[name].items() if kind in LOW_ESS)
    borderline = [course for course in judged if course.harm.kind == "borderline"]
    alarmed = sum(bool(play(critical, course.steps).alarms) for course in borderline)
    rows = [
        _seen("harms seen, all", whole, ">= 95 %"),
        _seen("of these stalls and regressions", onset, ""),
        _seen("of these runs that never learned", never, ""),
        _lead(led),
        *_false("healthy streams", healthy),
        *_false("healthy runs of the fleet", whole),
        *_false("streams whose true ESS is low without harm", low),
        ["borderline runs with a critical alert", "", f"{alarmed} of {len(borderline)}", ""],
    ]
    return markdown_table(["of the critical rules together", "goal", "figure", ""], rows)


def _reached(is_reached: bool) -> str:
    return "reached" if is_reached else "**not reached**"


def _seen(what: str, found: Score, goal: str) -> list[str]:
    assert found.detection is not None
    share, low, high = found.detection
    figure = f"{found.detected} of {found.sick}: {share:.0%} ({low:.0%} to {high:.0%})"
    return [what, goal, figure, _reached(share >= 0.95) if goal else ""]


def _lead(found: Score) -> list[str]:
    steps = ", ".join(map(str, found.leads))
    figure = f"{found.lead:g} (of {len(found.leads)} that were seen: {steps})"
    return ["median lead, I and II", ">= 20 steps", figure, _reached((found.lead or 0) >= 20)]


def _false(where: str, found: Score) -> list[list[str]]:
    upper, runs = found.false_per_1000_upper, found.runs_with_false_alarms
    assert upper is not None
    assert runs is not None
    rate = f"{found.false_per_1000:.2g} (at most {upper:.2g})"
    share = f"{runs[0]:.1%} (at most {runs[2]:.1%})"
    return [
        [f"false alarms per 1,000 steps, {where}", "<= 1", rate, _reached(upper <= 1)],
        [f"{where} with any", "<= 2 %", share, _reached(runs[2] <= 0.02)],
    ]


def page(
    chosen: Sequence[Course], judged: Sequence[Course], streams: dict[str, dict[str, Score]]
) -> str:
    """The whole page."""
    critical = next(iter(packs().values()))
    by_world = [
        line(world, score(critical, [c for c in judged if c.family == figure]))
        for figure, world in WORLDS.items()
    ]
    by_rule = [
        line(f"{rule.name} ({rule.severity})", score([rule], judged))
        for rule in default_policy().rules
    ]
    parts = [
        "# What the default policy is worth",
        "Written by `benchmarks/judgement.py`, from runs of the reference trainer "
        "(`benchmarks/fleet.py`) and synthetic streams (`benchmarks/streams.py`). Thresholds and "
        f"rules were chosen on the fleet's seeds {CHOOSING[0]} to {CHOOSING[-1]} and on streams "
        f"{CHOOSING_STREAMS.start} to {CHOOSING_STREAMS.stop - 1}; all figures here are of seeds "
        f"{JUDGING[0]} to {JUDGING[-1]} and streams {JUDGING_STREAMS.start} to "
        f"{JUDGING_STREAMS.stop - 1}, which chose nothing; they were looked at twice "
        f"([why](../calibration.md#the-shipped-defaults)). {machine()}",
        goals(judged, streams),
        "## The fleet",
        f"{len(judged)} runs, labelled by held-out success alone ([how](../calibration.md)). A "
        "stall is harm where it ends more than 0.05 below what the world's cure reaches in the "
        "median of the choosing runs; what ends below that without a stall is borderline. "
        "Borderline runs count as neither.",
        labels(judged),
        "Intervals of shares are Clopper-Pearson's (95 %) and take runs for independent; runs of "
        "one arm are much alike, so they are too short.",
        "*Sees*: an alert stands when the harm comes; for a run that never learned, when its "
        "evaluations can first tell so. *Lead*: steps from the alert to the stall or regression. "
        "*False*: alarms per 1,000 steps of healthy runs at which one could fire, with a "
        "one-sided 95 % bound, and the steps. *Runs*: healthy runs with any.",
        markdown_table(HEADER, [line(name, score(p, judged)) for name, p in packs().items()]),
        "### Critical rules, by world",
        markdown_table(HEADER, by_world),
        "### Rule by rule",
        "Runs that log nothing for a rule are left out.",
        markdown_table(HEADER, by_rule),
        "### Thresholds moved without the world they are judged on",
        "Critical rules whose thresholds `mmhealth calibrate` chose on the choosing runs of all "
        f"*other* worlds and {BESIDE_FLEET} choosing streams. Which rules there are, their "
        "persistence, and the thresholds of drifts were settled with all worlds in view.",
        markdown_table(HEADER, left_out(chosen, judged)),
        "## Synthetic streams",
        f"{len(JUDGING_STREAMS):,} streams of 500 steps with 16 to 64 trajectories each. The bound "
        "of a rate is one-sided 95 %, the larger of the exact Poisson one and that of a bootstrap "
        "over streams; that of a share is the upper end of its Clopper-Pearson interval (95 %). "
        "Streams and steps with fewer rows than `min_rows` (32) are no data, and are left out. "
        "The streams say nothing of `stuck_choices`, `settled_while_failing`, `retreat` and "
        "`weight_tail`: choices never settle in them, few trajectories are serial, and there are "
        "fewer than 100 rows. The peer's floor of 1 nat is one for language models; policies of "
        "the fleet start at 1.1 to 1.8.",
        *stream_tables(streams),
    ]
    return "\n\n".join(parts) + "\n"


def existing(folder: Path, seeds: Sequence[int]) -> list[Member]:
    """Runs of the fleet that are there."""
    return [member for member in members(folder, seeds) if (member.path / "done").exists()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fleet", type=Path)
    parser.add_argument("streams", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    chose, judge = existing(given.fleet, CHOOSING), existing(given.fleet, JUDGING)
    assert len(chose) + len(judge) == 2 * 4 * sum(map(len, ARMS.values())), "make the fleet first"
    levels = reachable(chose)
    beside = [seed for seed in CHOOSING_STREAMS if KINDS[seed % len(KINDS)] not in LOW_ESS][
        :BESIDE_FLEET
    ]
    choosing = courses(chose, levels) + [read(given.streams, seed) for seed in beside]
    text = page(
        choosing, courses(judge, levels), score_streams(given.streams, JUDGING_STREAMS, given.jobs)
    )
    (DOCS / "judgement.md").write_text(text, encoding="utf-8")
    print(text)
