"""Foreign table files as a stream of Arrow batches: Parquet, CSV, JSONL."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mmhealth.errors import ImportDataError

_BATCH_ROWS = 1 << 16
_BATCH_BYTES = 4 << 20
_CSV_NULLS = ["", "null", "NULL", "None", "NA", "N/A"]


@dataclass(frozen=True, slots=True)
class SourceBatch:
    """Some rows, in the order of the file."""

    columns: dict[str, pa.Array]
    rows: int
    first: int
    """Number of the first row in the file, from 1."""
    lines: Sequence[int] | None = None
    """Line of each row, where that is not its number."""

    def where(self, row: int) -> str:
        """The place of a row of this batch, for people."""
        return f"line {self.lines[row]}" if self.lines else f"row {self.first + row}"


class Source(Protocol):
    """A file of rows. Reading raises ImportDataError that names file and place."""

    path: Path
    columns: tuple[str, ...]
    typed: bool
    """Whether the file itself says what type a whole column has."""
    parse: bool
    """Whether all values are text, numbers and flags too."""

    def batches(self, columns: Sequence[str]) -> Iterator[SourceBatch]:
        """The rows with these columns; may be called again."""
        ...


def is_table(path: Path) -> bool:
    """Whether the suffix is that of a table."""
    return path.suffix.lower() in _KINDS


def open_source(path: Path) -> Source:
    """Open a file by its suffix: .parquet, .csv, .jsonl or .ndjson. Raises ImportDataError."""
    if not path.is_file():
        raise ImportDataError(f"{path}: there is no such file")
    if (kind := _KINDS.get(path.suffix.lower())) is None:
        raise ImportDataError(
            f"{path}: what kind of file this is cannot be told; known: {', '.join(_KINDS)}"
        )
    source = kind(path)
    if repeated := sorted({name for name in source.columns if source.columns.count(name) > 1}):
        raise ImportDataError(f"{path}: column {repeated[0]!r} is there twice; rename one")
    return source


class ParquetSource:
    """Parquet, row group by row group."""

    typed = True
    parse = False

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with pq.ParquetFile(path) as file:
                self.columns = tuple(file.schema_arrow.names)
        except (pa.ArrowException, OSError) as error:
            raise ImportDataError(f"{path}: not a Parquet file that can be read: {error}") from None

    def batches(self, columns: Sequence[str]) -> Iterator[SourceBatch]:
        """The rows; a batch is a part of a row group."""
        first = 1
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(_BATCH_ROWS, columns=list(dict.fromkeys(columns))):
                    named = dict(zip(batch.schema.names, batch.columns, strict=True))
                    yield SourceBatch(named, batch.num_rows, first)
                    first += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise ImportDataError(f"{self.path}, from row {first} on: {error}") from None


class CsvSource:
    """CSV with a header, comma-separated, UTF-8. All values are text; empty is null."""

    typed = False
    parse = True

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                self.columns = tuple(next(csv.reader(file), ()))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ImportDataError(f"{path}: the header cannot be read: {error}") from None
        if not self.columns:
            raise ImportDataError(f"{path}: the file is empty; a header was expected")

    def batches(self, columns: Sequence[str]) -> Iterator[SourceBatch]:
        """The rows; a batch is a block of the file."""
        first = 1
        wanted = list(dict.fromkeys(columns))
        try:
            with pyarrow.csv.open_csv(
                self.path,
                pyarrow.csv.ReadOptions(block_size=_BATCH_BYTES),
                pyarrow.csv.ParseOptions(newlines_in_values=True),
                pyarrow.csv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(self.columns, pa.string()),
                    null_values=_CSV_NULLS,
                    strings_can_be_null=True,
                ),
            ) as reader:
                for batch in reader:
                    named = dict(zip(batch.schema.names, batch.columns, strict=True))
                    yield SourceBatch(named, batch.num_rows, first)
                    first += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise ImportDataError(f"{self.path}, from row {first} on: {error}") from None


class JsonlSource:
    """One JSON object a line. NaN and Infinity are read; blank lines are passed over."""

    typed = False
    parse = False

    def __init__(self, path: Path) -> None:
        self.path = path
        names: dict[str, None] = {}
        for _, row in self._rows():
            names.update(dict.fromkeys(row))
        self.columns = tuple(names)
        if not names:
            raise ImportDataError(f"{path}: the file holds no rows")

    def batches(self, columns: Sequence[str]) -> Iterator[SourceBatch]:
        """The rows; a key that a row lacks is null."""
        wanted = list(dict.fromkeys(columns))
        first, lines = 1, list[int]()
        values: dict[str, list[Any]] = {name: [] for name in wanted}
        for line, row in self._rows():
            lines.append(line)
            for name in wanted:
                values[name].append(row.get(name))
            if len(lines) == _BATCH_ROWS:
                yield self._batch(values, lines, first)
                first, lines = first + len(lines), []
                values = {name: [] for name in wanted}
        if lines:
            yield self._batch(values, lines, first)

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with self.path.open("rb") as file:
            for line, text in enumerate(file, 1):
                if not text.strip():
                    continue
                try:
                    row = json.loads(text)
                except (ValueError, RecursionError) as error:
                    raise ImportDataError(
                        f"{self.path}, line {line}: not valid JSON: {error}"
                    ) from None
                if not isinstance(row, dict):
                    raise ImportDataError(f"{self.path}, line {line}: not a JSON object")
                yield line, row

    def _batch(self, values: dict[str, list[Any]], lines: list[int], first: int) -> SourceBatch:
        arrays = {name: _json_array(column) for name, column in values.items()}
        return SourceBatch(arrays, len(lines), first, lines)


def _json_array(values: list[Any]) -> pa.Array:
    """One column; where its values are of several types, each as text."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        texts = [
            value if value is None or isinstance(value, str) else json.dumps(value)
            for value in values
        ]
        return pa.array(texts, pa.string())


_KINDS: dict[str, Callable[[Path], Source]] = {
    ".parquet": ParquetSource,
    ".csv": CsvSource,
    ".jsonl": JsonlSource,
    ".ndjson": JsonlSource,
}
