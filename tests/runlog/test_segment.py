import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmhealth import Recorder, open_run
from mmhealth.runlog.checksum import checksum_of
from mmhealth.runlog.layout import Writer, sealed_path
from mmhealth.runlog.segment import described_batches, write_segment

STEPS = 40


@pytest.fixture
def run_dir(tmp_path: Path, batch: Any) -> Path:
    """A run with several sealed segments in each table."""
    with Recorder(tmp_path / "run", segment_bytes=20_000) as rec:
        for step in range(STEPS):
            rec.log_step(step, batch(step))
    return tmp_path / "run"


def segments(run_dir: Path, table: str = "trajectories") -> list[Path]:
    return sorted((run_dir / table).glob("*.parquet"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(10_000))


def flip_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, empty, garbage, flip_one_bit])
@pytest.mark.parametrize("table", ["trajectories", "updates"])
def test_a_damaged_segment_is_quarantined_by_name_and_the_rest_is_read(
    run_dir: Path, damage: Any, table: str
) -> None:
    victim = segments(run_dir, table)[1]
    damage(victim)
    run = open_run(run_dir)
    status = run.status()
    [quarantined] = status.quarantined
    assert quarantined.file == f"{table}/{victim.name}"
    assert quarantined.reason
    rows = {"trajectories": run.trajectories, "updates": run.updates}[table]
    lost = {item.step for item in status.incomplete}
    assert lost
    assert set(rows["step"].to_list()) == set(range(STEPS)) - lost
    assert status.steps_complete == STEPS - len(lost)
    assert status.data_lost
    assert victim.name in " ".join(status.describe_losses())


def test_a_damaged_commit_segment_hides_its_steps_and_is_named(run_dir: Path) -> None:
    victim = segments(run_dir, "steps")[0]
    flip_one_bit(victim)
    status = open_run(run_dir).status()
    assert [item.file for item in status.quarantined] == [f"steps/{victim.name}"]
    assert status.rows_pending > 0
    assert status.data_lost


def test_any_flipped_bit_is_noticed(run_dir: Path) -> None:
    victim = segments(run_dir)[0]
    content = victim.read_bytes()
    for bit in random.Random(1).sample(range(8 * len(content)), 60):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        victim.write_bytes(damaged)
        assert len(open_run(run_dir).status().quarantined) == 1


def test_a_missing_segment_is_a_gap(run_dir: Path) -> None:
    segments(run_dir)[1].unlink()
    status = open_run(run_dir).status()
    assert status.batches_missing > 0
    assert status.rows_read < status.rows_present


def test_a_file_with_a_strange_name_is_named(run_dir: Path) -> None:
    (run_dir / "trajectories" / "backup.parquet").write_bytes(segments(run_dir)[0].read_bytes())
    (run_dir / "trajectories" / ".hidden").write_text("ignored")
    run = open_run(run_dir)
    assert [item.file for item in run.status().quarantined] == ["trajectories/backup.parquet"]
    assert run.status().steps_complete == STEPS


def test_whole_numbers_of_every_width_come_back_with_their_extremes(tmp_path: Path) -> None:
    """Written as differences, which wrap around."""
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {"trajectory_id": np.arange(500) + (1 << 40)}
    for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"):
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        values = rng.integers(low, high, 500, dtype=kind, endpoint=True)
        values[:4] = [low, high, low, high]
        columns[kind] = values
    masked = [None, 7] * 250
    with Recorder(tmp_path / "run", strict=True) as rec:
        rec.log_step(0, columns | {"some": masked})
    assert not list((tmp_path / "run").rglob("*.arrows"))
    found = open_run(tmp_path / "run").trajectories
    for name, values in columns.items():
        assert found[name].to_list() == values.tolist(), name
    assert found["some"].to_list() == masked


def test_a_footer_names_the_batches_once_and_is_read_as_it_was_written_before(
    tmp_path: Path,
) -> None:
    rows = pa.table({"step": list(range(2000))})
    batches = [(seq, 1) for seq in range(2000)]
    path = write_segment(tmp_path, Writer(0, 0), batches, rows.schema, [rows])
    footer = pq.read_metadata(path)
    assert described_batches(footer).tolist() == [list(batch) for batch in batches]
    text = footer.metadata[b"mmhealth"]
    assert footer.serialized_size < len(text) + 2000
    before = tmp_path / "before.parquet"
    as_before = {b"mmhealth": json.dumps(json.loads(text)).encode()}
    pq.write_table(rows.replace_schema_metadata(as_before), before)
    assert (described_batches(pq.read_metadata(before)) == described_batches(footer)).all()


@pytest.mark.parametrize(
    "described",
    [b"{}", b'{"batches":[[1]]}', b'{"batches":[[1,"x"]]}', b'{"batches":[[1,2],[3]]}', b"[1,2]"],
)
def test_a_segment_whose_footer_makes_no_sense_is_quarantined(
    run_dir: Path, described: bytes
) -> None:
    rows = pa.table({"step": [1]}).replace_schema_metadata({b"mmhealth": described})
    file = run_dir / "updates" / "made"
    pq.write_table(rows, file)
    made = file.rename(sealed_path(file.parent, Writer(0, 0), 90, 90, checksum_of(file)[0]))
    assert [q.file for q in open_run(run_dir).status().quarantined] == [f"updates/{made.name}"]


@pytest.mark.parametrize(("ranks", "groups"), [(1, [20_000]), (64, [10_000, 10_000])])
def test_the_more_ranks_the_fewer_rows_a_reader_has_to_decode_of_each_at_once(
    tmp_path: Path, ranks: int, groups: list[int]
) -> None:
    run = tmp_path / "run"
    others = [Recorder(run, rank=rank, world_size=ranks, attempt=0) for rank in range(1, ranks)]
    with Recorder(run, rank=0, world_size=ranks, attempt=0) as rec:
        for step in range(10):
            rec.log_step(step, {"reward": np.zeros(2_000)})
    for other in others:
        other.close()
    [file] = (run / "trajectories").glob("*.parquet")
    footer = pq.read_metadata(file)
    assert [footer.row_group(n).num_rows for n in range(footer.num_row_groups)] == groups
