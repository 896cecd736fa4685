"""NeMo-RL: ``train_data_step{N}.jsonl``, a line a trajectory, every field a list of one element."""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmhealth.integrations.dumps.fields import (
    FloatArray,
    as_number,
    as_numbers,
    as_whole,
    need,
    shown,
)
from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.jsonl import first_record, rows_of
from mmhealth.integrations.dumps.parts import Found, Part, step_files
from mmhealth.integrations.dumps.places import numbered, where_numbered
from mmhealth.integrations.dumps.problems import BadRecordError, Problems
from mmhealth.integrations.dumps.tokens import (
    BoolArray,
    Row,
    advantage_of,
    follows_tool,
    turns_of,
    weigh,
)

_FILE = r"train_data_step(\d+)\.jsonl"
_NO_WEIGHTS = (
    "log_weight: prev_logprobs are all 0, which NeMo-RL writes when it has not computed them"
)
_NO_SAMPLER = "log_weight: generation_logprobs are all 0 where prev_logprobs are not: not computed"


def _holds(file: Path) -> bool:
    record = first_record(file)
    return record is not None and {"rewards", "input_lengths"} <= record.keys()


def _parts(found: Found) -> Iterator[Part]:
    files = [(step, (path,)) for step, path in numbered(found.root, _FILE)]
    return step_files(found, files, partial(rows_of, parse))


def parse(record: dict[str, Any], problems: Problems) -> Row:
    """One trajectory. Token arrays are padded to the longest of the batch; the mask tells."""
    reward = _number(record, "rewards")
    values: dict[str, Any] = {"reward": reward}
    if "token_ids" not in record and "token_loss_mask" not in record:
        problems.note("length, group_id, advantage, log_weight: this file has no tokens")
        return Row(values)
    length = as_whole(_one(record, "input_lengths"), "input_lengths")
    size = min(length, len(_inner(record, "token_loss_mask")))
    mask = np.asarray(_array(record, "token_loss_mask")[:size] > 0, np.bool_)
    first = int(mask.argmax()) if mask.any() else 0
    if first:
        values["group_id"] = _digest(_inner(record, "token_ids")[:first])
    values |= {"length": int(mask.sum()), "turns": turns_of(mask)}
    if "sample_loss_mask" in record and _number(record, "sample_loss_mask") == 0:
        values["role"] = "filtered"
    values["advantage"] = advantage_of(_masked(record, "advantages", mask), problems)
    agent = _one(record, "agent_ref") if record.get("agent_ref") is not None else None
    if isinstance(agent, str):
        values["source"] = agent
    return _with_weights(values, record, mask, problems)


def _with_weights(
    values: dict[str, Any], record: dict[str, Any], mask: BoolArray, problems: Problems
) -> Row:
    if record.get("prev_logprobs") is None or record.get("generation_logprobs") is None:
        problems.note("log_weight: prev_logprobs or generation_logprobs are not in the file")
        return Row(values)
    prev = _masked(record, "prev_logprobs", mask)
    if prev.size and not prev.any():
        problems.note(_NO_WEIGHTS)
        return Row(values)
    generation = _masked(record, "generation_logprobs", mask)
    if generation.size and not generation.any():
        problems.note(_NO_SAMPLER)
        return Row(values)
    ratios = prev - generation
    weights = weigh(ratios)
    values |= weights
    if "log_weight" in weights:
        values["log_weight_mismatch"] = weights["log_weight"]
    return Row(values, ratios, follows_tool(mask))


def _one(record: dict[str, Any], name: str) -> Any:
    value = need(record, name)
    if not isinstance(value, list) or len(value) != 1:
        raise BadRecordError(f"field {name!r} is not a list of one element: {shown(value)}")
    return value[0]


def _inner(record: dict[str, Any], name: str) -> list[Any]:
    inner = _one(record, name)
    if not isinstance(inner, list):
        raise BadRecordError(f"field {name!r} does not hold a list of tokens: {shown(inner)}")
    return inner


def _number(record: dict[str, Any], name: str) -> float:
    return as_number(_one(record, name), name)


def _array(record: dict[str, Any], name: str) -> FloatArray:
    return as_numbers(_inner(record, name), name)


def _masked(record: dict[str, Any], name: str, mask: BoolArray) -> FloatArray:
    """The tokens in the loss, of an array that may be padded further."""
    array = _array(record, name)
    if array.size < mask.size:
        raise BadRecordError(f"field {name!r} has {array.size} tokens, the mask has {mask.size}")
    return array[: mask.size][mask]


def _digest(tokens: list[Any]) -> str:
    """Names a prompt by its tokens."""
    try:
        packed = np.asarray(tokens, np.int64).tobytes()
    except (TypeError, ValueError, OverflowError):
        raise BadRecordError(f"field 'token_ids' holds what is no token: {shown(tokens)}") from None
    return hashlib.blake2b(packed, digest_size=8).hexdigest()


NEMO_RL = Format(
    name="nemo-rl",
    trainer="NeMo-RL",
    find=where_numbered(_FILE, _holds),
    parts=_parts,
    loss_ratio="token",
    lacks={
        "log_weight (update part)": "the file has no log probabilities after the step's updates: "
        "log_weight is the train-inference part, prev - generation",
        "entropy, kl_ref": "not in the file",
        "success": "not in the file; a reward of only 0 and 1 serves",
        "horizon": "not in the file",
    },
)
