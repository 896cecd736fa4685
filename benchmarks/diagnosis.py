"""Whether `mmhealth diagnose` names the cause that was put into a run.

    python benchmarks/causes.py FOLDER
    python benchmarks/fleet.py FLEET
    python benchmarks/diagnosis.py FOLDER [--fleet FLEET]

Writes docs/benchmarks/diagnosis.md. The figures are of seeds that chose no threshold.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from causes import CAUSES, CHOOSING, FIRST_JUDGING, HEALTHY, JUDGING, Member, members
from fleet import JUDGING as FLEET_JUDGING
from fleet import members as fleet_members
from tables import DOCS, machine, markdown_table

from mmhealth.estimators import clopper_pearson
from mmhealth.health.diagnosis import Diagnosis, diagnose
from mmhealth.health.diagnosis.modes import MODES
from mmhealth.health.diagnosis.rank import SIGNS
from mmhealth.runlog import open_run

UNDETERMINED = "undetermined"
SHORT = {
    "non-finite values": "non-finite",
    "resume fault": "resume",
    "tool-context variance growth": "tool context",
    "train-inference mismatch": "mismatch",
    "staleness": "stale",
    "estimator collapse": "collapse",
    "dead groups": "dead groups",
    "gradient domination": "domination",
    "reward-component divergence": "hacking",
    "serial collapse": "serial",
    "needless sub-agents": "needless",
    "horizon overfitting": "horizon",
    "premature specialisation": "premature",
    HEALTHY: HEALTHY,
    UNDETERMINED: UNDETERMINED,
}
"""Heads of the columns."""
BINS = (0.0, 0.05, 0.5, 0.75, 0.9, 1.0)
"""Edges of the confidences that are compared with how often they are right."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A run, the causes put into it, and what was said of it."""

    causes: tuple[str, ...]
    seed: int
    found: Diagnosis

    @property
    def guess(self) -> str:
        """First guess: a mode, healthy, or undetermined."""
        if self.found.first is not None:
            return self.found.first.mode
        return HEALTHY if self.found.outcome == HEALTHY else UNDETERMINED

    @property
    def named(self) -> set[str]:
        """All modes that were found."""
        return {item.mode for item in self.found.findings}


def judge(fleet: Iterable[Member]) -> list[Judged]:
    """Diagnose the runs that are there."""
    there = [member for member in fleet if (member.path / "done").exists()]
    return [Judged(m.causes, m.seed, diagnose(open_run(m.path))) for m in there]


def columns(fleet: Iterable[Member]) -> str:
    """In words, that the columns of all runs are the same. Raises ValueError if they are not."""
    kinds = Counter()
    for member in fleet:
        if (member.path / "done").exists():
            run = open_run(member.path)
            tables = (run.trajectories, run.updates, run.steps, run.evaluations)
            kinds[tuple(tuple(sorted(table.columns)) for table in tables)] += 1
    if len(kinds) != 1:
        raise ValueError(f"runs differ in their columns: {len(kinds)} kinds")
    [(kind, runs)] = kinds.items()
    return f"all {runs} runs have the same {sum(map(len, kind))} columns"


def share(right: int, of: int) -> str:
    """A share with its exact 95 % interval."""
    if not of:
        return ""
    low, high = clopper_pearson(right, of)
    return f"{right} of {of}: {right / of:.0%} ({low:.0%} to {high:.0%})"


def matrix(runs: Sequence[Judged]) -> str:
    """Rows: the cause put in; columns: the first guess."""
    heads = [*MODES, HEALTHY, UNDETERMINED]
    rows = []
    for truth in (*MODES, HEALTHY):
        own = [run.guess for run in runs if (run.causes or (HEALTHY,)) == (truth,)]
        counts = Counter(own)
        decided = len(own) - counts[UNDETERMINED]
        cells = [str(counts[name] or "") for name in heads]
        place = heads.index(truth)
        cells[place] = f"**{counts[truth]}**"
        rows.append([truth, *cells, share(counts[truth], decided)])
    return markdown_table(["cause", *(SHORT[n] for n in heads), "right, of those decided"], rows)


def headline(runs: Sequence[Judged]) -> list[str]:
    """What the matrix comes to."""
    single = [run for run in runs if len(run.causes) == 1]
    decided = [run for run in single if run.guess != UNDETERMINED]
    right = [run for run in decided if run.guess == run.causes[0]]
    healthy = [run for run in runs if not run.causes]
    mixed = [run for run in runs if len(run.causes) > 1]
    sure = [run for run in mixed if run.guess != UNDETERMINED]
    false = [run for run in healthy if run.guess not in (HEALTHY, UNDETERMINED)]
    open_ = len([run for run in healthy if run.guess == UNDETERMINED])
    also = [run for run in single if run.named - set(run.causes)]
    alone = [
        run
        for run in single
        if any(
            item.follows_from is None and item.mode not in run.causes for item in run.found.findings
        )
    ]
    return [
        f"**One cause.** First guess right, of those decided: {share(len(right), len(decided))}; "
        f"undetermined: {share(len(single) - len(decided), len(single))}; right of all: "
        f"{share(len(right), len(single))}.",
        f"**Healthy.** Named a failure mode: {share(len(false), len(healthy))}; undetermined: "
        f"{share(open_, len(healthy))}.",
        "**Two causes.** First guess is one of them, of those decided: "
        f"{share(len([r for r in sure if r.guess in r.causes]), len(sure))}; both are found: "
        f"{share(len([r for r in mixed if set(r.causes) <= r.named]), len(mixed))}; undetermined: "
        f"{share(len(mixed) - len(sure), len(mixed))}.",
        "**Beside the cause** of runs with one another mode was found in "
        f"{share(len(also), len(single))}; as a cause of its own, not as following from another, "
        f"in {share(len(alone), len(single))}.",
    ]


def mixed_table(runs: Sequence[Judged]) -> str:
    """What became of pairs of causes."""
    pairs = dict.fromkeys(run.causes for run in runs if len(run.causes) > 1)
    rows = []
    for pair in pairs:
        own = [run for run in runs if run.causes == pair]
        guesses = Counter(run.guess for run in own)
        rows.append(
            [
                " and ".join(pair),
                str(len(own)),
                ", ".join(f"{name} {count}" for name, count in guesses.most_common()),
                str(len([run for run in own if set(pair) <= run.named])),
            ]
        )
    return markdown_table(["causes", "runs", "first guesses", "both found"], rows)


def reliability(runs: Sequence[Judged]) -> str:
    """Confidence of every mode in every run against whether it was put in, and the Brier score."""
    pairs = [
        (item.confidence if item is not None else 0.0, name in run.causes)
        for run in runs
        for name in SIGNS
        for item in [_item(run.found, name)]
    ]
    brier = sum((sure - put) ** 2 for sure, put in pairs) / len(pairs)
    rows = []
    for low, high in pairwise(BINS):
        inside = [(s, p) for s, p in pairs if low <= s < high or s == high == 1.0]
        if inside:
            mean = sum(s for s, _ in inside) / len(inside)
            right = sum(p for _, p in inside)
            rows.append([f"{low:.2f} to {high:.2f}", f"{mean:.2f}", share(right, len(inside))])
    base = sum(p for _, p in pairs) / len(pairs)
    text = f"Brier score {brier:.4f} over {len(pairs)} pairs of a run and a mode; "
    text += f"{base * (1 - base):.4f} without looking.\n\n"
    return text + markdown_table(["confidence", "mean", "were put in"], rows)


def misses(runs: Sequence[Judged]) -> str:
    """Every run whose first guess is not its cause."""
    rows = []
    for run in runs:
        if run.guess in (run.causes or (HEALTHY,)):
            continue
        strengths = ", ".join(
            f"{item.mode} {item.strength:.2f}"
            for item in (*run.found.findings, *run.found.borderline)
        )
        rows.append([" and ".join(run.causes) or HEALTHY, str(run.seed), run.guess, strengths])
    return markdown_table(["cause", "seed", "said", "strengths"], rows) if rows else "None."


def other_worlds(fleet: Path) -> str:
    """What is said of the labelled fleet of all worlds: one line an arm."""
    rows = []
    own = fleet_members(fleet, FLEET_JUDGING)
    for figure, arm in dict.fromkeys((member.figure, member.arm) for member in own):
        said = [
            Judged((), member.seed, diagnose(open_run(member.path))).guess
            for member in own
            if (member.figure, member.arm) == (figure, arm) and (member.path / "done").exists()
        ]
        counts = Counter(said).most_common()
        if counts:
            rows.append([figure, arm, ", ".join(f"{name} {count}" for name, count in counts)])
    return markdown_table(["world", "arm", "first guesses"], rows)


def _item(found: Diagnosis, name: str):  # type: ignore[no-untyped-def]
    every = (*found.findings, *found.borderline)
    return next((item for item in every if item.mode == name), None)


def write(
    judged: Sequence[Judged],
    first: Sequence[Judged],
    chose: Sequence[Judged],
    same: str,
    fleet: str,
) -> None:
    """Print the page and write it to docs/benchmarks/."""
    parts = [
        "# Whether the failure mode is named",
        f"{len(judged)} short runs of the reference trainer, all in the orchestrator's world "
        "(`benchmarks/causes.py`), into each of which none, one or two of "
        f"{len(CAUSES)} causes were put. Neither the name of the world nor the configuration is in "
        f"any log; {same}; every run was restarted once, without a fault unless that is the cause, "
        "but those that died of values that are not finite before. "
        f"Thresholds of evidence were chosen on seeds {CHOOSING[0]} to {CHOOSING[-1]} "
        f"({len(chose)} runs); the figures are of seeds {JUDGING[0]} to {JUDGING[-1]}, which chose "
        "nothing. Intervals are Clopper and Pearson's, 95 %.",
        f"Written by `benchmarks/diagnosis.py`. {machine()}",
        "\n".join(f"- {line}" for line in headline(judged)),
        "## First guesses\n\nRows: the cause put in. Columns: the first guess.",
        matrix(judged),
        "## Two causes at once",
        mixed_table(judged),
        "## Confidence",
        reliability(judged),
        "## Every miss",
        misses(judged),
        "## Runs that chose",
        f"Seeds {CHOOSING[0]} to {CHOOSING[-1]} chose the thresholds:",
        "\n".join(f"- {line}" for line in headline(chose)),
        f"Seeds {FIRST_JUDGING[0]} to {FIRST_JUDGING[-1]} judged the first version of the signs, "
        "and told which modes to mend (docs/diagnosis.md). Of the signs as they are now:",
        "\n".join(f"- {line}" for line in headline(first)),
    ]
    if fleet:
        parts += [
            "## Other worlds\n\nThe judged half of `benchmarks/fleet.py`: whole runs of the worlds "
            "in which the article's failures emerge, with and without the fixes. Nothing was put "
            "in and nobody knows the cause, so this is no matrix; two seeds of the other half were "
            "looked at while the signs were written.",
            fleet,
        ]
    text = "\n\n".join(parts) + "\n"
    DOCS.mkdir(parents=True, exist_ok=True)
    (DOCS / "diagnosis.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fleet", type=Path)
    asked = parser.parse_args()
    folder = asked.folder
    fleet, before = members(folder, JUDGING), members(folder, FIRST_JUDGING)
    choosing = members(folder, CHOOSING, len(CHOOSING))
    assert set(CAUSES) == set(MODES)
    worlds = other_worlds(asked.fleet) if asked.fleet else ""
    same = columns([*fleet, *before, *choosing])
    write(judge(fleet), judge(before), judge(choosing), same, worlds)
