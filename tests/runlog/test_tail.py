import random
from pathlib import Path

import pyarrow as pa
import pytest

from mmhealth.runlog.tail import TailPosition, TailWriter, read_tail

BATCH = pa.record_batch(
    {
        "text": pa.array(["a", None, "bcd"]),
        "real": pa.array([1.0, None, float("nan")]),
        "flag": pa.array([True, None, False]),
        "integers": pa.array([[1], None, [2, 3]], type=pa.list_(pa.int64())),
        "integer": pa.array([1, 2, 3]),
    }
)


@pytest.fixture
def tail(tmp_path: Path) -> Path:
    path = tmp_path / "0-0-000000000.open.arrows"
    writer = TailWriter(path, BATCH.schema)
    for seq in range(3):
        writer.append(BATCH, seq)
    writer.close()
    return path


def test_reads_what_was_written_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "tail"
    writer, position = TailWriter(path, BATCH.schema), TailPosition()
    assert read_tail(path, position).batches == []
    for seq in range(5):
        writer.append(BATCH, seq)
        [(number, batch)] = read_tail(path, position).batches
        assert number == seq
        assert str(batch.to_pylist()) == str(BATCH.to_pylist())
    assert read_tail(path, position).batches == []
    writer.close()


def test_is_a_plain_arrow_stream_to_everybody_else(tail: Path) -> None:
    with pa.ipc.open_stream(tail.read_bytes()) as stream:
        assert len(list(stream)) == 3


def test_cut_at_every_byte_yields_exactly_the_whole_batches(tail: Path, tmp_path: Path) -> None:
    content = tail.read_bytes()
    ends = []
    for seq in range(3):
        path = tmp_path / f"{seq}"
        writer = TailWriter(path, BATCH.schema)
        for number in range(seq + 1):
            writer.append(BATCH, number)
        writer.close()
        ends.append(path.stat().st_size)
    cut = tmp_path / "cut"
    for size in range(len(content)):
        cut.write_bytes(content[:size])
        read = read_tail(cut, TailPosition())
        assert [seq for seq, _ in read.batches] == [s for s in range(3) if ends[s] <= size]
        assert not read.damaged


def test_growing_byte_by_byte_reads_the_same(tail: Path, tmp_path: Path) -> None:
    content, growing, position = tail.read_bytes(), tmp_path / "growing", TailPosition()
    seen = []
    with growing.open("wb", buffering=0) as file:
        for byte in content:
            file.write(bytes([byte]))
            seen += [seq for seq, _ in read_tail(growing, position).batches]
    assert seen == [0, 1, 2]


def test_every_flipped_bit_is_noticed_and_nothing_wrong_is_read(tail: Path, tmp_path: Path) -> None:
    content, flipped = tail.read_bytes(), tmp_path / "flipped"
    bits = random.Random(0).sample(range(8 * len(content)), 3000)
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        flipped.write_bytes(damaged)
        read = read_tail(flipped, TailPosition())
        assert len(read.batches) < 3
        assert read.damaged or (read.unfinished and len(read.batches) == 2)
        for _, batch in read.batches:
            assert str(batch.to_pylist()) == str(BATCH.to_pylist())


def test_a_damaged_batch_is_stepped_over(tail: Path) -> None:
    content = bytearray(tail.read_bytes())
    body = content.rindex(b"abcd", 0, 2 * len(content) // 3)
    content[body] ^= 1
    tail.write_bytes(content)
    read = read_tail(tail, TailPosition())
    assert len(read.batches) == 2
    assert "stepped over" in read.damaged[0]


def test_garbage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(random.Random(0).randbytes(5000))
    read = read_tail(path, TailPosition())
    assert not read.batches
    assert "cannot be read" in read.damaged[0]
