"""slime: ``train_data/{id}.pt`` of ``--dump-details``, groups from ``rollout_data/{id}.pt``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmhealth.errors import ImportDataError
from mmhealth.integrations.dumps.fields import as_numbers, listed, maybe_whole, need, version
from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.parts import Found, Part, step_files
from mmhealth.integrations.dumps.places import folders, numbered
from mmhealth.integrations.dumps.problems import BadRecordError, Problems
from mmhealth.integrations.dumps.tensors import as_array, load_pt
from mmhealth.integrations.dumps.tokens import (
    Row,
    advantage_of,
    follows_tool,
    turns_of,
    weigh,
)

_FILE = r"(\d+)\.pt"
_TRAIN, _ROLLOUT = "train_data", "rollout_data"
_VERSIONS = (2,)


def _find(path: Path) -> list[Path]:
    return [f for f in folders(path) if (f / _TRAIN).is_dir() and numbered(f / _TRAIN, _FILE)]


def _parts(found: Found) -> Iterator[Part]:
    steps = []
    for step, path in numbered(found.root / _TRAIN, _FILE):
        rollout = found.root / _ROLLOUT / path.name
        steps.append((step, (path, rollout) if rollout.is_file() else (path,)))
    return step_files(found, steps, _read)


def _read(files: Sequence[Path], problems: Problems) -> Iterator[Row]:
    train = next(path for path in files if path.parent.name == _TRAIN)
    groups = _groups([path for path in files if path != train], problems)
    try:
        samples = _samples(train)
    except (ImportDataError, BadRecordError) as error:
        problems.add(train, None, str(error))
        return
    for number, sample in enumerate(samples):
        try:
            yield parse(sample, groups, problems)
        except BadRecordError as error:
            problems.add(train, None, f"sample {number}: {error}")


def _samples(train: Path) -> list[Any]:
    dump = load_pt(train)
    if not isinstance(dump, dict):
        raise BadRecordError("it does not hold a dictionary")
    version(dump, "format_version", _VERSIONS)
    return listed(dump, "samples")


def _groups(files: Sequence[Path], problems: Problems) -> list[Any]:
    """The group of each position of the rollout; none where there is no file of it."""
    for path in files:
        try:
            dump = load_pt(path)
            return [sample.get("group_index") for sample in dump["samples"]]
        except (ImportDataError, KeyError, TypeError, AttributeError) as error:
            problems.add(path, None, f"no groups can be read: {error}")
    return []


def parse(sample: dict[str, Any], groups: Sequence[Any], problems: Problems) -> Row:
    """One sample; its log probabilities are of the response's tokens."""
    if not isinstance(sample, dict):
        raise BadRecordError("it is not a dictionary")
    values: dict[str, Any] = {"reward": _number(sample, "rewards")}
    position = maybe_whole(sample, "rollout_position")
    group = groups[position] if position is not None and 0 <= position < len(groups) else None
    if group is None:
        problems.note("group_id: rollout_data does not give it")
    else:
        values["group_id"] = str(group)
    size = int(_number(sample, "response_lengths"))
    mask = np.asarray(_tokens(sample, "loss_masks", size) > 0, np.bool_)
    values |= {"length": int(mask.sum()), "turns": turns_of(mask)}
    if sample.get("advantages") is not None:
        values["advantage"] = advantage_of(_tokens(sample, "advantages", size)[mask], problems)
    if sample.get("entropy") is not None and mask.any():
        values["entropy"] = float(_tokens(sample, "entropy", size)[mask].mean())
    if sample.get("log_probs") is None or sample.get("rollout_log_probs") is None:
        problems.note("log_weight: log_probs or rollout_log_probs are not in the file")
        return Row(values)
    trainer, sampler = (_tokens(sample, n, size) for n in ("log_probs", "rollout_log_probs"))
    ratios = (trainer - sampler)[mask]
    weights = weigh(ratios)
    values |= weights
    if "log_weight" in weights:
        values["log_weight_mismatch"] = weights["log_weight"]
    return Row(values, ratios, follows_tool(mask))


def _number(sample: dict[str, Any], name: str) -> float:
    value = as_array(need(sample, name), name)
    if value.size != 1:
        raise BadRecordError(f"field {name!r} is not a number")
    return float(value.reshape(()))


def _tokens(sample: dict[str, Any], name: str, size: int) -> Any:
    return as_numbers(as_array(need(sample, name), name), name, size)


SLIME = Format(
    name="slime",
    trainer="slime",
    find=_find,
    parts=_parts,
    loss_ratio="token",
    lacks={
        "log_weight (update part)": "log_probs are from before the step's updates: log_weight is "
        "the train-inference part",
        "horizon": "not in the files",
    },
)
