"""W&B's log, written chunk by chunk: what lies beside the scalars."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

from mmhealth import open_run
from mmhealth.integrations.dumps import import_dump

BLOCK, HEAD = 1 << 15, 7


def varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def history(step: int, value: float) -> bytes:
    """A ``Record`` with one ``HistoryItem`` and its step."""
    item = message(1, b"train/reward") + message(16, str(value).encode())
    return message(2, message(1, item) + message(2, b"\x08" + varint(step)))


def write_log(path: Path, records: Iterable[bytes]) -> Path:
    """LevelDB's log format, with CRC-32 and W&B's head of 7 bytes."""
    out = bytearray(b":W&B" + struct.pack("<HB", 0xBEE1, 0))
    for record in records:
        at, kinds = 0, []
        while at < len(record):
            left = BLOCK - len(out) % BLOCK
            if left < HEAD:
                out += bytes(left)
                continue
            data = record[at : at + left - HEAD]
            at += len(data)
            ends = at == len(record)
            kind = (4 if ends else 3) if kinds else (1 if ends else 2)
            kinds.append(kind)
            crc = zlib.crc32(data, zlib.crc32(bytes([kind])))
            out += struct.pack("<IHB", crc, len(data), kind) + data
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out)
    return path


def test_a_record_too_large_for_scalars_is_passed_over(tmp_path: Path) -> None:
    table = message(4, bytes(17 << 20))
    records = [history(0, 0.5), history(1, 0.25), table, history(2, 0.75)]
    write_log(tmp_path / "run-1" / "run-x.wandb", records)
    done = import_dump(tmp_path, tmp_path / "run")
    assert done.problems.count == 0
    assert open_run(tmp_path / "run").steps["reward"].to_list() == [0.5, 0.25, 0.75]
