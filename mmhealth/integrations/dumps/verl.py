"""verl: ``{step}.jsonl`` in ``trainer.rollout_data_dir``, a line a trajectory."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mmhealth.integrations.dumps.fields import extras, number
from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.jsonl import first_record, rows_of
from mmhealth.integrations.dumps.parts import Found, Part, step_files
from mmhealth.integrations.dumps.places import numbered, where_numbered
from mmhealth.integrations.dumps.problems import Problems
from mmhealth.integrations.dumps.prompts import prompt_id
from mmhealth.integrations.dumps.tokens import Row

_FILE = r"(\d+)\.jsonl"
_OWN = ("input", "output", "gts", "score", "step", "uid", "reward")


def _holds(file: Path) -> bool:
    record = first_record(file)
    return record is not None and {"input", "output", "score"} <= record.keys()


def _parts(found: Found) -> Iterator[Part]:
    files = [(step, (path,)) for step, path in numbered(found.root, _FILE)]
    return step_files(found, files, partial(rows_of, parse))


def parse(record: dict[str, Any], problems: Problems) -> Row:
    """One trajectory; groups by ``uid``, and by the prompt where an older verl wrote none."""
    values: dict[str, Any] = {"reward": number(record, "score"), **extras(record, _OWN)}
    if record.get("uid") is not None:
        values["group_id"] = str(record["uid"])
    elif isinstance(record.get("input"), str):
        values["group_id"] = prompt_id(record["input"])
        problems.note("uid: this verl wrote none; rows of one prompt are taken for a group")
    return Row(values)


VERL = Format(
    name="verl",
    trainer="verl",
    find=where_numbered(_FILE, _holds),
    parts=_parts,
    loss_ratio="token",
    lacks={
        "log_weight": "not in the file",
        "advantage": "not in the file",
        "length": "the file has text, not tokens",
        "entropy, kl_ref": "not in the file",
    },
)
