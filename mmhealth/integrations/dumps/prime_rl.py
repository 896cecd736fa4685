"""prime-rl: token exports of the trainer, joined on their tokens to the orchestrator's traces."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmhealth.integrations.dumps.fields import (
    Record,
    as_number,
    listed,
    need,
    number,
    numbers,
    shown,
    version,
)
from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.jsonl import read_lines
from mmhealth.integrations.dumps.parts import Found, Part, step_files
from mmhealth.integrations.dumps.places import folders, numbered, with_files
from mmhealth.integrations.dumps.problems import BadRecordError, Problems
from mmhealth.integrations.dumps.tokens import (
    Row,
    advantage_of,
    follows_tool,
    turns_of,
    weigh,
)

_STEP = r"step_(\d+)"
_EXPORT = r"rank_\d+\.jsonl"
_TRACES = Path("train", "effective", "traces.jsonl")
_VERSIONS = (1,)


def _find(path: Path) -> list[Path]:
    return [f for f in folders(path) if _exports(f) or _traces(f)]


def _exports(root: Path) -> list[tuple[int, tuple[Path, ...]]]:
    folder = root / "token_exports"
    return with_files(numbered(folder, _STEP), _EXPORT) if folder.is_dir() else []


def _traces(root: Path) -> dict[int, Path]:
    folder = root / "rollouts"
    steps = numbered(folder, _STEP) if folder.is_dir() else []
    return {step: place / _TRACES for step, place in steps if (place / _TRACES).is_file()}


def _parts(found: Found) -> Iterator[Part]:
    traces = _traces(found.root)
    exports = _exports(found.root)
    steps: dict[int, tuple[Path, ...]] = {}
    for step, files in exports:
        if (files[0].parent / "STABLE").exists():
            steps[step] = (*files, *([traces[step]] if step in traces else []))
        elif not found.growing:
            found.problems.note(
                f"step {step}: no STABLE beside its exports: not complete, left out"
            )
    if not exports:
        steps = {step: (path,) for step, path in traces.items()}
    return step_files(found, steps.items(), _read)


def _read(files: Sequence[Path], problems: Problems) -> Iterator[Row]:
    episodes: dict[bytes, dict[str, Any]] = {}
    exports = [path for path in files if path.name != _TRACES.name]
    for path in files:
        if path not in exports:
            for key, values in _episodes(path, problems):
                episodes[key] = values
    if not exports:
        problems.note("log_weight, advantage: trainer.enable_token_export is off", len(episodes))
        yield from (Row(values) for values in episodes.values())
        return
    for path in exports:
        for line in read_lines(path, problems):
            try:
                row, key = parse(line.record, problems)
            except BadRecordError as error:
                problems.add(path, line.number, str(error))
                continue
            if key in episodes:
                row.values |= episodes[key]
            elif "reward" not in row.values:
                problems.note("reward, group_id: no trace has the tokens of this sequence")
            yield row


def parse(record: Record, problems: Problems) -> tuple[Row, bytes]:
    """One exported sequence, and the digest of its tokens."""
    version(record, "schema_version", _VERSIONS)
    tokens = listed(record, "token_ids")
    mask = np.asarray(numbers(record, "loss_mask", len(tokens)) > 0, np.bool_)
    trainer = numbers(record, "trainer_logprobs", mask.size)[mask]
    ratios = trainer - numbers(record, "inference_logprobs", mask.size)[mask]
    weights = weigh(ratios)
    values: dict[str, Any] = {
        "length": int(mask.sum()),
        "turns": turns_of(mask),
        "advantage": advantage_of(numbers(record, "advantages", mask.size)[mask], problems),
        **weights,
    }
    if record.get("entropy") is not None and mask.any():
        values["entropy"] = float(numbers(record, "entropy", mask.size)[mask].mean())
        values["token_count"] = int(mask.sum())
    if isinstance(record.get("env_name"), str):
        values["source"] = record["env_name"]
    if isinstance(record.get("rewards"), list) and mask.any():
        values["reward"] = float(numbers(record, "rewards", mask.size)[mask][0])
    return Row(values, ratios, follows_tool(mask)), _digest(tokens)


def _episodes(path: Path, problems: Problems) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for line in read_lines(path, problems):
        try:
            yield from _of_episode(line.record)
        except BadRecordError as error:
            problems.add(path, line.number, str(error))


def _of_episode(episode: Record) -> Iterator[tuple[bytes, dict[str, Any]]]:
    group = need(episode, "group")
    if not isinstance(group, dict):
        raise BadRecordError(f"field 'group' is no JSON object: {shown(group)}")
    for trace in listed(episode, "traces"):
        if not isinstance(trace, dict):
            raise BadRecordError(f"a trace is no JSON object: {shown(trace)}")
        tokens = [token for node in listed(trace, "nodes") for token in _tokens_of(node)]
        total, parts = _reward(need(trace, "rewards"))
        yield _digest(tokens), {"group_id": str(need(group, "id")), "reward": total, **parts}


def _tokens_of(node: Any) -> list[Any]:
    if not isinstance(node, dict):
        raise BadRecordError(f"a node is no JSON object: {shown(node)}")
    return listed(node, "token_ids")


def _reward(rewards: Any) -> tuple[float, dict[str, float]]:
    """The weighted sum, and each score."""
    if not isinstance(rewards, dict) or not all(isinstance(r, dict) for r in rewards.values()):
        raise BadRecordError(f"field 'rewards' is not one of names and scores: {shown(rewards)}")
    scores = {name: number(reward, "score") for name, reward in rewards.items()}
    weights = {name: as_number(r.get("weight", 1.0), "weight") for name, r in rewards.items()}
    total = sum(scores[name] * weights[name] for name in scores)
    return total, {f"reward_{name}": score for name, score in scores.items()}


def _digest(tokens: list[Any]) -> bytes:
    try:
        packed = np.asarray(tokens, np.int64).tobytes()
    except (TypeError, ValueError, OverflowError):
        raise BadRecordError(f"field 'token_ids' holds what is no token: {shown(tokens)}") from None
    return hashlib.blake2b(packed, digest_size=16).digest()


PRIME_RL = Format(
    name="prime-rl",
    trainer="prime-rl",
    find=_find,
    parts=_parts,
    loss_ratio="token",
    lacks={
        "kl_ref": "not in the files",
        "success": "not in the files; a reward of only 0 and 1 serves",
        "horizon": "not in the files",
    },
)
