"""AReaL: ``{version}/{task}.jsonl`` in the rollout dump, a line a trajectory."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mmhealth.integrations.dumps.fields import maybe_whole, need, number, whole
from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.jsonl import first_record, rows_of
from mmhealth.integrations.dumps.parts import Found, Part, step_files
from mmhealth.integrations.dumps.places import numbered, where_numbered, with_files
from mmhealth.integrations.dumps.problems import Problems
from mmhealth.integrations.dumps.tokens import Row

_FOLDER, _FILE = r"(\d+)", r".+\.jsonl"


def _holds(folder: Path) -> bool:
    files = sorted(folder.glob("*.jsonl"))[:1] if folder.is_dir() else []
    records = [first_record(file) for file in files]
    return any(r is not None and {"task_id", "head_version"} <= r.keys() for r in records)


def _parts(found: Found) -> Iterator[Part]:
    files = with_files(numbered(found.root, _FOLDER), _FILE)
    return step_files(found, files, partial(rows_of, parse), appended=True)


def parse(record: dict[str, Any], problems: Problems) -> Row:
    """One trajectory: its step is the newest policy in it, its lag reaches to the oldest."""
    head, tail = whole(record, "head_version"), whole(record, "tail_version")
    values: dict[str, Any] = {
        "group_id": str(need(record, "task_id")),
        "reward": number(record, "reward"),
        "behavior_lag": tail - head,
    }
    length, prompt = maybe_whole(record, "seqlen"), maybe_whole(record, "prompt_len")
    if length is not None and prompt is not None:
        values["length"] = length - prompt
    if isinstance(record.get("segments"), list):
        values["turns"] = len(record["segments"])
    else:
        problems.note("turns: segments are not in the file")
    return Row(values)


AREAL = Format(
    name="areal",
    trainer="AReaL",
    find=where_numbered(_FOLDER, _holds),
    parts=_parts,
    loss_ratio="token",
    lacks={
        "step": "the file has no training step: it is the version of the policy that finished the "
        "trajectory, and rejected trajectories are there too",
        "log_weight": "not in the file",
        "advantage": "not in the file",
        "entropy, kl_ref": "not in the file",
    },
)
