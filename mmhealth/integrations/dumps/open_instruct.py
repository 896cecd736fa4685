"""open-instruct: ``{run}_rollouts_{shard}.jsonl``, a line a trajectory, steps one after another."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmhealth.errors import ImportDataError
from mmhealth.integrations.dumps.fields import listed, maybe_number, number, whole
from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.jsonl import Line, first_record, stream_parts
from mmhealth.integrations.dumps.parts import Found, Part
from mmhealth.integrations.dumps.places import folders
from mmhealth.integrations.dumps.problems import BadRecordError, Problems
from mmhealth.integrations.dumps.tokens import Row

_FILE = re.compile(r"(.+)_rollouts_(\d{6})\.jsonl")


def _shards(folder: Path) -> list[tuple[str, Path]]:
    matches = ((_FILE.fullmatch(path.name), path) for path in sorted(folder.iterdir()))
    return [(match[1], path) for match, path in matches if match]


def _find(path: Path) -> list[Path]:
    found = []
    for folder in folders(path):
        records = (first_record(file) for _, file in _shards(folder)[:3])
        if any(r is not None and {"sample_idx", "response_tokens"} <= r.keys() for r in records):
            found.append(folder)
    return found


def _parts(found: Found) -> Iterator[Part]:
    shards = _shards(found.root)
    if len(runs := sorted({run for run, _ in shards})) > 1:
        raise ImportDataError(
            f"{found.root} holds rollouts of several runs: {', '.join(runs)}; give each a folder"
        )
    files = [path for _, path in shards]
    return stream_parts(found, files, lambda record: whole(record, "step"), _read, _sample)


def _sample(record: dict[str, Any]) -> int | None:
    """Its number in the step, which the trainer writes once: again, and the step was repeated."""
    sample = record.get("sample_idx")
    return sample if isinstance(sample, int) else None


def _read(lines: Sequence[Line], problems: Problems) -> Iterator[Row]:
    for line in lines:
        try:
            yield parse(line.record, problems)
        except BadRecordError as error:
            problems.add(line.path, line.number, str(error))


def parse(record: dict[str, Any], problems: Problems) -> Row:
    """One trajectory; its log probabilities are the sampler's alone."""
    values: dict[str, Any] = {
        "group_id": str(whole(record, "prompt_idx")),
        "reward": number(record, "reward"),
        "advantage": maybe_number(record, "advantage"),
        "length": len(listed(record, "response_tokens")),
    }
    if isinstance(record.get("dataset"), str):
        values["source"] = record["dataset"]
    request = record.get("request_info")
    if isinstance(request, dict) and request.get("num_calls") is not None:
        values["tool_calls"] = whole(request, "num_calls")
    if values["advantage"] is None:
        problems.note("advantage: not in the file")
    return Row(values)


OPEN_INSTRUCT = Format(
    name="open-instruct",
    trainer="open-instruct",
    find=_find,
    parts=_parts,
    loss_ratio="token",
    lacks={
        "log_weight": "the file has the sampler's log probabilities alone",
        "entropy, kl_ref": "not in the file",
    },
)
