"""Commits in columns against commits in dictionaries, and what is there against a slow count."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.runlog.batches import Batches
from mmhealth.runlog.commit_table import Rows, columns_of
from mmhealth.runlog.commits import PARTIAL_AFTER, Commit, Commits, StepKey
from mmhealth.runlog.completeness import COMMITTED, Awaited, step_counts
from mmhealth.runlog.layout import Writer
from mmhealth.runlog.scan import Found, Key

RANKS, ATTEMPTS = 3, 3


steps = st.integers(0, 12) | st.sampled_from([1 - 2**63, 2**63 - 5, 2**63 - 4, 2**63 - 1])


@st.composite
def commits(draw: st.DrawFn) -> Commit:
    writer = Writer(draw(st.integers(0, RANKS - 1)), draw(st.integers(0, ATTEMPTS - 1)))
    seqs = st.none() | st.integers(0, 12)
    return Commit(
        writer,
        draw(st.integers(0, 9)),
        draw(steps),
        draw(st.none() | st.just(64)),
        draw(st.integers(1, RANKS)),
        draw(seqs),
        draw(st.integers(0, 3)),
        draw(seqs),
        draw(st.integers(0, 3)),
        draw(st.none() | st.just(1.5)),
    )


looks = st.lists(st.lists(commits(), max_size=12), max_size=4)


@dataclass
class Slow:
    """All commits, one object each."""

    by_step: dict[StepKey, dict[int, Commit]] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)

    def add(self, commit: Commit) -> None:
        key = StepKey(commit.writer.attempt, commit.step)
        of_step = self.by_step.setdefault(key, {})
        first = of_step.setdefault(commit.writer.rank, commit)
        if commit.seq < first.seq:
            of_step[commit.writer.rank] = commit
        self.starts[key.attempt] = min(key.step, self.starts.get(key.attempt, key.step))

    def is_visible(self, key: StepKey) -> bool:
        return all(key.step < s for a, s in self.starts.items() if a > key.attempt)

    def is_overdue(self, key: StepKey) -> bool:
        hiding = [a for a, s in self.starts.items() if a > key.attempt and s <= key.step]
        end = min(hiding, default=ATTEMPTS)
        later = [k.step for k in self.by_step if key.attempt <= k.attempt < end]
        return max(later) >= key.step + PARTIAL_AFTER


def row(commit: Commit) -> pl.DataFrame:
    said = {n: v for n, v in commit._asdict().items() if n not in ("writer", "seq")}
    return pl.DataFrame(said, schema_overrides={"time": pl.Float64}, strict=False)


def take_in(found: list[list[Commit]]) -> tuple[Commits, Slow]:
    fast, slow = Commits(), Slow()
    for look in found:
        for attempt in range(ATTEMPTS):
            these = [c for c in look if c.writer.attempt == attempt]
            rows = Rows()
            for commit in these:
                rows.append(columns_of(commit.writer.rank, np.array([commit.seq]), row(commit)))
            assert fast.add(attempt, rows).tolist() == sorted({c.step for c in these})
            for commit in these:
                slow.add(commit)
    return fast, slow


@given(looks)
def test_commits_in_columns_are_the_commits(found: list[list[Commit]]) -> None:
    fast, slow = take_in(found)
    assert list(fast.lived()) == sorted(slow.by_step)
    for key, expected in slow.by_step.items():
        assert fast.of(key) == expected
        assert [*fast.of(key)] == sorted(expected)
        assert fast.ranks_expected(key) == max(c.ranks_expected for c in expected.values())
    assert fast.of(StepKey(9, 0)) == fast.of(StepKey(0, 99)) == {}


@given(looks)
def test_steps_stand_and_are_overdue_as_they_were_one_by_one(found: list[list[Commit]]) -> None:
    fast, slow = take_in(found)
    visible = sorted((k for k in slow.by_step if slow.is_visible(k)), key=lambda key: key.step)
    assert fast.visible() == visible
    assert fast.last_visible() == (visible[-1] if visible else None)
    for step in range(14):
        standing = [key for key in visible if key.step == step]
        assert fast.standing(step) == (standing[0] if standing else None)
    for attempt, table in fast.tables.items():
        overdue = fast.are_overdue(attempt, table.steps)
        expected = [slow.is_overdue(StepKey(attempt, s)) for s in table.steps.tolist()]
        assert overdue.tolist() == expected


there = st.dictionaries(
    st.tuples(st.sampled_from(COMMITTED), st.integers(0, RANKS - 1), st.integers(0, ATTEMPTS - 1)),
    st.sets(st.integers(0, 12)),
)


@given(looks, there, st.sets(st.integers(0, 12)))
def test_what_is_there_of_steps_is_what_one_finds_one_by_one(
    found: list[list[Commit]], there: dict[tuple[str, int, int], set[int]], reduced: set[int]
) -> None:
    fast, slow = take_in(found)
    batches = {table: Batches() for table in COMMITTED}
    for (table, rank, attempt), seqs in there.items():
        here = {seq: pa.table({"step": [1]}) for seq in seqs}
        batches[table].put(Found(Writer(rank, attempt), here, np.array(sorted(seqs), np.int64)))
    gone = np.array(sorted(reduced), np.int64)
    for attempt, commits in fast.tables.items():
        for counts in step_counts(fast, batches, attempt, commits.steps, gone):
            for place, step in enumerate(counts.steps.tolist()):
                of_step = slow.by_step[StepKey(attempt, step)].values()
                spoken = {t: [c for c in of_step if c.key(t) is not None] for t in COMMITTED}
                absent = {t: [c for c in spoken[t] if c.key(t) not in batches[t]] for t in spoken}
                if step in reduced:
                    absent = {key: [] for key in spoken}
                lacking = max(c.ranks_expected for c in of_step) - len(of_step)
                assert counts.ranks_missing[place] == max(lacking, 0)
                assert counts.batches_missing[place] == sum(map(len, absent.values()))
                assert counts.rows_missing[place] == sum(
                    c.rows(t) for t in absent for c in absent[t]
                )
                rows = sum(c.rows("trajectories") for c in spoken["trajectories"])
                assert counts.trajectories[place] == rows
                complete = lacking <= 0 and not any(absent.values())
                assert counts.complete[place] == complete
        awaited = Awaited()
        awaited.put(fast, batches["updates"], "updates", attempt, commits.steps)
        for rank in range(RANKS):
            writer = Writer(rank, attempt)
            for seq in range(13):
                missing = Key(writer, seq) not in batches["updates"]
                waiting = {
                    key.step
                    for key, of_step in slow.by_step.items()
                    if key.attempt == attempt and rank in of_step
                    if missing and of_step[rank].updates_seq == seq
                }
                assert set(awaited.take(writer, np.array([seq])).tolist()) == waiting
                assert not len(awaited.take(writer, np.array([seq])))
