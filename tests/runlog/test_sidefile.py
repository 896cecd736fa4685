"""Notes beside a run: whole after a kill, and written by one process at a time."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.runlog.sidefile import first_note, open_side_file

NOTES = st.lists(
    st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=9)), max_size=4
)


def read(path: Path) -> list[dict[str, Any]]:
    with open_side_file(path) as file:
        assert file is not None
        return file.read()


@given(notes=NOTES, cut=st.floats(0, 1), more=NOTES)
def test_what_is_cut_off_is_dropped_and_writing_goes_on(
    tmp_path_factory: pytest.TempPathFactory,
    notes: list[dict[str, Any]],
    cut: float,
    more: list[dict[str, Any]],
) -> None:
    path = tmp_path_factory.mktemp("notes") / "notes.jsonl"
    with open_side_file(path) as file:
        assert file is not None
        for note in notes:
            file.append(note)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    whole = notes[: path.read_bytes().count(b"\n")]
    with open_side_file(path) as file:
        assert file is not None
        assert file.read() == whole
        for note in more:
            file.append(note)
    assert read(path) == whole + more
    assert first_note(path) == next(iter(whole + more), None)


def test_a_note_that_is_replaced_leaves_nothing_of_the_longer_one(tmp_path: Path) -> None:
    with open_side_file(tmp_path / "note") as file:
        assert file is not None
        file.replace({"long": "x" * 100})
        file.replace({"a": 1})
        assert (tmp_path / "note").read_text() == '{"a": 1}\n'
        assert file.read() == [{"a": 1}]


def test_a_second_process_is_turned_away(tmp_path: Path) -> None:
    with open_side_file(tmp_path / "note") as first, open_side_file(tmp_path / "note") as second:
        assert first is not None
        assert second is None
    assert first_note(tmp_path / "none") is None
