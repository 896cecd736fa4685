"""Dumps that other processes read are imported as they are here, to the last byte of a row."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmhealth import open_run
from mmhealth.engines import Engine, LocalEngine, Progress, SerialEngine
from mmhealth.integrations.dumps import ImportedDump, import_dump

ALONE = ("areal", "nemo", "prime", "rllm", "skyrl", "slime", "tinker", "verl")
"""Formats whose files another process can read; the others are streams, or need the trainer's
state."""


class Posted(SerialEngine):
    """Hands tasks and results through pickle, as another process would get them."""

    def __init__(self) -> None:
        self.tasks = 0

    def map(
        self,
        function: Callable[[Any], Any],
        tasks: Iterable[Any],
        told: Progress | None = None,
    ) -> Iterator[Any]:
        drawn = list(tasks)  # an engine draws ahead
        for task in drawn:
            self.tasks += 1
            [result] = super().map(function, [pickle.loads(pickle.dumps(task))], told)
            yield pickle.loads(pickle.dumps(result))


def dump_of(kind: str, writers: Any, folder: Path, steps: range) -> Path:
    if kind == "slime":
        pytest.importorskip("torch")
    folder.mkdir(exist_ok=True)
    return getattr(writers, f"write_{kind}")(folder, steps)


def rows_on_disk(run_dir: Path) -> dict[str, bytes]:
    """What was written of trajectories: the names of segments hold their checksums."""
    tables = ("trajectories", "updates")
    return {
        str(path.relative_to(run_dir)): path.read_bytes()
        for table in tables
        for path in sorted((run_dir / table).iterdir())
    }


def assert_same(one: ImportedDump, other: ImportedDump) -> None:
    assert (one.steps, one.rows, one.problems) == (other.steps, other.rows, other.problems)
    assert rows_on_disk(one.run_dir) == rows_on_disk(other.run_dir)
    left, right = open_run(one.run_dir), open_run(other.run_dir)
    assert left.steps.drop("time").equals(right.steps.drop("time"))


@pytest.mark.parametrize("kind", [*ALONE, "trl", "open_instruct", "swift"])
def test_every_format_is_the_same_on_an_engine(tmp_path: Path, writers: Any, kind: str) -> None:
    dump = dump_of(kind, writers, tmp_path / "dump", range(1, 6))
    engine = Posted()
    there = import_dump(dump, tmp_path / "there", engine=engine)
    assert_same(there, import_dump(dump, tmp_path / "here"))
    assert there.steps == 5
    assert engine.tasks == (5 if kind in ALONE else 0)


def harm(dump: Path) -> None:
    """One file that ends too soon, one line that is none, one that is a folder."""
    first, second, third = sorted(path for path in dump.rglob("*.jsonl"))[:3]
    first.write_bytes(first.read_bytes()[:-20])
    second.write_text("[]\n" + second.read_text())
    third.unlink()
    third.mkdir()


def test_what_cannot_be_read_is_left_out_all_the_same(tmp_path: Path, writers: Any) -> None:
    dump = dump_of("nemo", writers, tmp_path / "dump", range(1, 6))
    harm(dump)
    there = import_dump(dump, tmp_path / "there", engine=Posted())
    assert there.problems.count
    assert_same(there, import_dump(dump, tmp_path / "here"))


@pytest.fixture(scope="module")
def two() -> Iterator[Engine]:
    with LocalEngine(2) as engine:
        yield engine


def test_processes_read_the_same(tmp_path: Path, writers: Any, two: Engine) -> None:
    dump = dump_of("nemo", writers, tmp_path / "dump", range(1, 30))
    said: list[tuple[int, int, int]] = []
    there = import_dump(
        dump, tmp_path / "there", engine=two, progress=lambda *how_far: said.append(how_far)
    )
    assert_same(there, import_dump(dump, tmp_path / "here"))
    assert [rows for *_, rows in said] == [8 * step for step in range(1, 30)]
    # Imported again, nothing is new; what is new goes on.
    assert import_dump(dump, tmp_path / "there", engine=two).steps == 0
    dump_of("nemo", writers, tmp_path / "dump", range(30, 33))
    assert import_dump(dump, tmp_path / "there", engine=two).steps == 3
