"""tinker-cookbook: ``iteration_{N}/train_rollout_summaries.jsonl``, a line a trajectory."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mmhealth.integrations.dumps.fields import (
    listed,
    maybe_whole,
    number,
    shown,
    version,
    whole,
)
from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.jsonl import first_record, rows_of
from mmhealth.integrations.dumps.parts import Found, Part, step_files
from mmhealth.integrations.dumps.places import numbered, where_numbered, with_files
from mmhealth.integrations.dumps.problems import BadRecordError, Problems
from mmhealth.integrations.dumps.tokens import Row

_FOLDER = r"iteration_(\d+)"
_FILE = r"train_rollout_summaries\.jsonl"
_VERSIONS = (1,)


def _holds(folder: Path) -> bool:
    record = first_record(folder / "train_rollout_summaries.jsonl")
    return record is not None and {"group_idx", "traj_idx", "steps"} <= record.keys()


def _parts(found: Found) -> Iterator[Part]:
    files = with_files(numbered(found.root, _FOLDER), _FILE)
    return step_files(found, files, partial(rows_of, parse))


def parse(record: dict[str, Any], problems: Problems) -> Row:
    """One trajectory; its turns are the environment's steps."""
    version(record, "schema_version", _VERSIONS)
    steps = listed(record, "steps")
    if not all(isinstance(step, dict) for step in steps):
        raise BadRecordError(f"field 'steps' holds what is no step: {shown(steps)}")
    values: dict[str, Any] = {
        "group_id": str(whole(record, "group_idx")),
        "reward": number(record, "total_reward"),
        "length": sum(whole(step, "ac_len") for step in steps),
        "turns": len(steps),
    }
    sampled, iteration = maybe_whole(record, "sampling_client_step"), whole(record, "iteration")
    if sampled is None:
        problems.note("behavior_lag: sampling_client_step is not in the file")
    else:
        values["behavior_lag"] = max(0, iteration - sampled)
    tags = record.get("tags")
    if isinstance(tags, list) and tags:
        values["source"] = "+".join(map(str, tags))
    return Row(values)


TINKER = Format(
    name="tinker-cookbook",
    trainer="tinker-cookbook",
    find=where_numbered(_FOLDER, _holds),
    parts=_parts,
    loss_ratio="token",
    lacks={
        "log_weight": "not in the file",
        "advantage": "not in the file",
        "entropy, kl_ref": "not in the file",
        "horizon": "the budget of turns is not in the file",
    },
)
