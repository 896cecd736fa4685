"""TRL: ``completions/completions_{step}.parquet``, a row a completion."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmhealth.errors import ImportDataError
from mmhealth.integrations.dumps.fields import maybe_number
from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.parts import Found, Part, step_files
from mmhealth.integrations.dumps.places import numbered, where_numbered
from mmhealth.integrations.dumps.problems import BadRecordError, Problems
from mmhealth.integrations.dumps.prompts import prompt_id
from mmhealth.integrations.dumps.rewards import NO_REWARD, reward_functions, rewards_of
from mmhealth.integrations.dumps.tokens import Row

_STATE = "trainer_state.json"
_FILE = r"completions_(\d+)\.parquet"
_NEEDED = ("prompt", "completion")
_OWN = ("step", "prompt", "completion", "advantage")
_AGAIN = (
    "step: rows that were logged again under the next step (num_iterations or "
    "steps_per_generation above 1); they are counted once"
)
_MAYBE_AGAIN = (
    "step: rows as in the step before, with one completion a prompt: sampled again by a policy "
    "without spread, or logged again; they are counted"
)


def _holds(file: Path) -> bool:
    try:
        with pq.ParquetFile(file) as parquet:
            return set(_NEEDED) <= set(parquet.schema_arrow.names)
    except (pa.ArrowException, OSError):
        return False


def _size(file: Path) -> int:
    try:
        return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowException, OSError):
        return 0


def _parts(found: Found) -> Iterator[Part]:
    files = numbered(found.root, _FILE)
    before = dict(
        zip([step for step, _ in files], [None, *(path for _, path in files)], strict=False)
    )
    evaluated, sampled = _told(found.root)
    one = [(step, (path,)) for step, path in files if step not in evaluated]
    if left := [path for step, path in files if step in evaluated]:
        found.problems.notices[
            "rows: TRL writes an evaluation's completions over those of the step; the steps that "
            "trainer_state.json says were evaluated are left out"
        ] = sum(map(_size, left))

    def read(paths: Sequence[Path], problems: Problems) -> Iterator[Row]:
        step = next(step for step, path in files if path == paths[0])
        return _read(paths[0], before[step], problems, fresh=sampled.get(step))

    return step_files(found, one, read, portable=False)


def _told(folder: Path) -> tuple[set[int], dict[int, bool]]:
    """What the trainer's state says, where it lies beside the dump.

    Steps that were evaluated, and whether a step that was logged had sampled: TRL logs
    ``num_tokens`` where completions were generated since the last log, and there alone.
    """
    home = folder.parent
    states = [home / _STATE, *sorted(home.glob(f"checkpoint-*/{_STATE}"))]
    evaluated, sampled = set[int](), dict[int, bool]()
    for state in states:
        try:
            history = json.loads(state.read_text(encoding="utf-8"))["log_history"]
            logs = [(entry["step"], set(entry)) for entry in history]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        evaluated |= {step for step, names in logs if any(n.startswith("eval_") for n in names)}
        sampled |= {step: "num_tokens" in names for step, names in logs if "loss" in names}
    return evaluated, sampled


def _read(file: Path, before: Path | None, problems: Problems, fresh: bool | None) -> Iterator[Row]:
    table = _table(file)
    if not fresh and before is not None and before.exists() and _same_rows(table, before):
        if fresh is not None or _varied(table):
            problems.note(_AGAIN, len(table))
            return
        problems.note(_MAYBE_AGAIN, len(table))
    if "advantage" not in table.column_names:
        problems.note("advantage: this TRL wrote none", len(table))
    others = {n: table[n].to_pylist() for n in table.column_names if n not in _OWN}
    functions = reward_functions(others, _OWN)
    if len(functions) != 1:
        problems.note(NO_REWARD, len(table))
    for number, record in enumerate(_records(table), 1):
        try:
            yield parse(record, functions)
        except BadRecordError as error:
            problems.add(file, number, str(error))


def _table(file: Path) -> pa.Table:
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise ImportDataError(f"not a Parquet file that can be read: {error}") from None
    for name in _NEEDED:
        if name not in table.column_names:
            raise ImportDataError(f"column {name!r} is missing")
    return table


def _records(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _same_rows(table: pa.Table, before: Path) -> bool:
    """Whether all columns but the step's are as in the file before."""
    try:
        old = pq.read_table(before)
    except (pa.ArrowException, OSError):
        return False
    names = [name for name in table.column_names if name != "step"]
    if len(table) == 0 or not set(names) <= set(old.column_names):
        return False
    return bool(table.select(names).equals(old.select(names)))


def _varied(table: pa.Table) -> bool:
    """Whether some prompt has two different completions: sampling does not repeat those."""
    completions: dict[str, Any] = {}
    return any(
        completions.setdefault(json.dumps(row["prompt"], default=str), row["completion"])
        != row["completion"]
        for row in _records(table.select(_NEEDED))
    )


def parse(record: dict[str, Any], functions: Sequence[str]) -> Row:
    """One completion; reward functions are all further columns that hold numbers."""
    values = rewards_of(record, functions)
    values |= {
        "group_id": prompt_id(record["prompt"]),
        "advantage": maybe_number(record, "advantage"),
    }
    return Row(values)


TRL = Format(
    name="trl",
    trainer="TRL",
    find=where_numbered(_FILE, _holds),
    parts=_parts,
    loss_ratio="token",
    lacks={
        "log_weight": "not in the file",
        "length": "the file has text, not tokens",
        "entropy, kl_ref": "not in the file",
        "group_id": "rows of one prompt are taken for a group",
        "evaluations": "written over the step's own rows; told apart only where trainer_state.json "
        "lies in the folder above or in a checkpoint there",
    },
)
