"""Whatever JSON stands in a field: it becomes a value, a null or a named problem, never a crash."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mmhealth.errors import ImportDataError
from mmhealth.integrations.dumps import import_dump
from mmhealth.integrations.dumps.jsonl import parse_json

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, 10**400, -(10**400), 2**63])
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["\ud800", "\u00e9", "1e999"])
)
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=5,
)
FILES = {
    "nemo": "train_data_step1.jsonl",
    "verl": "1.jsonl",
    "tinker": "iteration_000001/train_rollout_summaries.jsonl",
    "areal": "1/4.jsonl",
    "open_instruct": "run_rollouts_000000.jsonl",
    "swift": "completions.jsonl",
    "prime": "token_exports/step_1/rank_0.jsonl",
    "traces": "rollouts/step_1/train/effective/traces.jsonl",
    "rllm": "train_step_1_epoch_0/episode_hashhash0_idtask0_1.json",
}


def places(value: Any) -> list[tuple[Any, ...]]:
    """Paths to every place within nested JSON, three levels deep."""
    found: list[tuple[Any, ...]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value[:2])
    for key, inner in items:
        found.append((key,))
        if isinstance(inner, dict | list):
            found += [(key, *rest) for rest in places(inner) if len(rest) < 4]
    return found


def put(value: Any, place: tuple[Any, ...], new: Any) -> None:
    """Replace what stands at a place."""
    *way, last = place
    for key in way:
        value = value[key]
    value[last] = new


@pytest.mark.parametrize("kind", sorted(FILES))
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_json_in_any_place(
    tmp_path_factory: pytest.TempPathFactory, writers: Any, kind: str, data: st.DataObject
) -> None:
    place: Path = tmp_path_factory.mktemp("any")
    dump = place / "dump"
    dump.mkdir()
    writer = "prime" if kind == "traces" else kind
    getattr(writers, f"write_{writer}")(dump, [1, 2])
    path = dump / FILES[kind]
    if kind == "rllm":
        lines = [path.read_text()]
    else:
        lines = path.read_text().splitlines()
    record = json.loads(lines[-1])
    put(record, data.draw(st.sampled_from(places(record))), data.draw(ANY))
    lines[-1] = json.dumps(record)
    path.write_text("\n".join(lines) + "\n")
    try:
        done = import_dump(dump, place / "run")
    except ImportDataError as error:
        pytest.fail(str(error))
    assert done.problems.count <= 1
    rows_of_a_record = {"swift": 8, "traces": 0}.get(kind, 1)
    assert done.rows + done.problems.count * rows_of_a_record == 16


TEXTS = ANY.map(json.dumps) | st.text(max_size=9) | st.sampled_from(["1e999", "[1,]", "[" * 9999])


def outcome(parse: Any, text: bytes) -> Any:
    """What comes of it, and of what type: 1 is not 1.0."""
    try:
        return repr(parse(text))
    except (ValueError, RecursionError) as error:
        return ValueError if isinstance(error, ValueError) else RecursionError


@given(TEXTS)
def test_json_is_what_python_makes_of_it_whoever_parses(text: str) -> None:
    encoded = text.encode("utf-8", "surrogatepass")
    ours, theirs = outcome(parse_json, encoded), outcome(json.loads, encoded)
    if any(len(digits) > 18 for digits in re.findall("[0-9]+", text)):
        return  # whole numbers of more than 64 bits may be real
    assert ours == theirs


def test_without_orjson_an_import_is_the_same(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_nemo(tmp_path / "dump", [1, 2])
    records = [writers.nemo_record(i, rewards=[float("nan")]) for i in range(4)]
    writers.write_lines(dump / "train_data_step3.jsonl", records)
    code = (
        "import sys\nsys.modules['orjson'] = None\n"
        "from mmhealth.integrations.dumps import import_dump\n"
        "assert import_dump(*sys.argv[1:]).problems.count == 0"
    )
    subprocess.run([sys.executable, "-c", code, dump, tmp_path / "without"], check=True)
    import_dump(dump, tmp_path / "with")
    rows = [writers.rows_of_run(tmp_path / name) for name in ("without", "with")]
    assert_frame_equal(*rows)
    assert rows[0]["reward"].is_nan().sum() == 4
