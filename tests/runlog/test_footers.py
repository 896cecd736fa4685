"""How many footers are kept."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmhealth.runlog.footers import Footers
from mmhealth.runlog.layout import Writer
from mmhealth.runlog.segment import write_segment


def test_footers_are_kept_up_to_so_many_bytes_those_read_last(tmp_path: Path) -> None:
    rows = pa.table({"step": list(range(10))})
    file = write_segment(tmp_path, Writer(0, 0), [(0, 10)], rows.schema, [rows])
    kept, footer = Footers(most_bytes=100_000), pq.read_metadata(file)
    for number in range(20):
        kept.keep(number, footer)
        assert kept.get(0) is footer
    there = [number for number in range(20) if kept.get(number) is not None]
    assert there == [0, *range(20 - len(there) + 1, 20)]
    assert 2 < len(there) < 10
