"""rllm: ``train_step_{N}_epoch_{E}/episode_*.json``, a file an episode."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmhealth.integrations.dumps.fields import listed, maybe_number, need, shown
from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.jsonl import parse_json
from mmhealth.integrations.dumps.parts import Found, Part, step_files
from mmhealth.integrations.dumps.places import numbered, where_numbered
from mmhealth.integrations.dumps.problems import BadRecordError, Problems
from mmhealth.integrations.dumps.tokens import Row

_FOLDER = r"train_step_(\d+)_epoch_\d+"
_EPISODE = re.compile(r"episode_.+\.json")


def _episodes(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _EPISODE.fullmatch(path.name))


def _holds(folder: Path) -> bool:
    return bool(_episodes(folder))


def _parts(found: Found) -> Iterator[Part]:
    steps: dict[int, list[Path]] = {}
    for step, folder in numbered(found.root, _FOLDER):
        steps.setdefault(step, []).extend(_episodes(folder))
    files = [(step, tuple(paths)) for step, paths in steps.items() if paths]
    return step_files(found, files, _read)


def _read(files: Sequence[Path], problems: Problems) -> Iterator[Row]:
    for file in files:
        try:
            episode = parse_json(file.read_bytes())
            if not isinstance(episode, dict):
                raise BadRecordError("not a JSON object")
            yield from parse(episode, problems)
        except BadRecordError as error:
            problems.add(file, None, str(error))
        except (ValueError, RecursionError) as error:
            problems.add(file, getattr(error, "lineno", None), f"not valid JSON: {error}")


def parse(episode: dict[str, Any], problems: Problems) -> list[Row]:
    """The trajectories of an episode: one, or one for each agent."""
    correct = episode.get("is_correct")
    task = str(episode.get("task_hash") or need(episode, "episode_id"))
    trajectories = listed(episode, "trajectories")
    if not trajectories:
        raise BadRecordError("field 'trajectories' is empty")
    rows = []
    for trajectory in trajectories:
        if not isinstance(trajectory, dict):
            raise BadRecordError(f"a trajectory is no JSON object: {shown(trajectory)}")
        name = trajectory.get("name")
        values: dict[str, Any] = {
            "group_id": task if name is None else f"{task}:{name}",
            "reward": maybe_number(trajectory, "reward"),
            "turns": len(listed(trajectory, "steps")),
            "success": correct if isinstance(correct, bool) else None,
            "source": name if isinstance(name, str) else None,
        }
        if values["reward"] is None:
            problems.note("reward: null in the file")
        rows.append(Row(values))
    return rows


RLLM = Format(
    name="rllm",
    trainer="rLLM",
    find=where_numbered(_FOLDER, _holds),
    parts=_parts,
    loss_ratio="token",
    lacks={
        "log_weight": "not in the file",
        "advantage": "not in the file",
        "length": "the file has text, not tokens",
        "entropy, kl_ref": "not in the file",
    },
)
