"""ms-swift: ``completions.jsonl``, a line a step, every field a list with a value a row."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmhealth.integrations.dumps.fields import listed, maybe_number, shown
from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.jsonl import Line, first_record, stream_parts
from mmhealth.integrations.dumps.parts import Found, Part
from mmhealth.integrations.dumps.places import folders
from mmhealth.integrations.dumps.problems import BadRecordError, Problems
from mmhealth.integrations.dumps.prompts import prompt_id
from mmhealth.integrations.dumps.rewards import NO_REWARD, reward_functions, rewards_of
from mmhealth.integrations.dumps.tokens import Row

NAME = "completions.jsonl"
_FURTHER = (
    "step: further lines of one step; all count, though one may be of an evaluation or of a "
    "trainer that was started again"
)
_OWN = ("step", "prompt", "completion", "advantages", "entropy", "prompt_id", "request_id")


def _find(path: Path) -> list[Path]:
    files = [path] if path.is_file() else [folder / NAME for folder in folders(path)]
    found = []
    for file in files:
        record = first_record(file) if file.name == NAME else None
        if record is not None and all(
            isinstance(record.get(name), list) for name in ("step", "prompt", "completion")
        ):
            found.append(file.parent)
    return found


def _parts(found: Found) -> Iterator[Part]:
    return stream_parts(found, [found.root / NAME], _step_of, _read, _block)


def _step_of(record: dict[str, Any]) -> int:
    steps = listed(record, "step")
    first = steps[0] if steps else None
    if not isinstance(first, str) or not first.isdecimal() or len(first) > 15:
        raise BadRecordError(f"field 'step' holds no step: {shown(steps)}")
    if any(step != first for step in steps):
        raise BadRecordError(f"field 'step' is not one step for all rows: {shown(steps)}")
    return int(first)


def _block(record: dict[str, Any]) -> bytes:
    """Digest of the prompts and completions: again in one step, and the step was logged again."""
    text = json.dumps([record.get("prompt"), record.get("completion")])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _read(lines: Sequence[Line], problems: Problems) -> Iterator[Row]:
    for place, line in enumerate(lines):
        try:
            rows = parse(line.record, problems)
        except BadRecordError as error:
            problems.add(line.path, line.number, str(error))
            continue
        if place > 0:
            problems.note(_FURTHER, len(rows))
        yield from rows


def parse(record: dict[str, Any], problems: Problems) -> list[Row]:
    """The rows of one line; reward functions are all further fields that hold numbers."""
    size = len(listed(record, "step"))
    for name, column in record.items():
        if not isinstance(column, list) or len(column) != size:
            raise BadRecordError(f"field {name!r} does not hold {size} values: {shown(column)}")
    functions = reward_functions(record, _OWN)
    if len(functions) != 1:
        problems.note(NO_REWARD, size)
    rows = []
    for number in range(size):
        own = {name: column[number] for name, column in record.items()}
        values = rewards_of(own, functions)
        values |= {"group_id": prompt_id(own.get("prompt"))}
        values |= {
            "advantage": maybe_number(own, "advantages"),
            "entropy": maybe_number(own, "entropy"),
        }
        rows.append(Row(values))
    return rows


MS_SWIFT = Format(
    name="ms-swift",
    trainer="ms-swift",
    find=_find,
    parts=_parts,
    loss_ratio="token",
    lacks={
        "log_weight": "not in the file",
        "length": "the file has text, not tokens",
        "kl_ref": "not in the file",
        "group_id": "rows of one prompt are taken for a group",
    },
)
