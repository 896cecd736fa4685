"""Second moments of the gradient by the slices of a column, and by source over steps."""

from pathlib import Path

import pytest

from mmhealth import Recorder, open_run
from mmhealth.health import build_timeline
from mmhealth.health.second_moments import second_moments
from mmhealth.runlog import StepData


def recorded(path: Path, **columns: object) -> StepData:
    with Recorder(path, strict=True) as recorder:
        recorder.log_step(0, columns)
    data = open_run(path).step_data(0)
    assert data is not None
    return data


def test_each_slice_holds_its_part_of_the_squares(tmp_path: Path) -> None:
    data = recorded(
        tmp_path,
        grad_norm=[3.0, 4.0, 0.0, 5.0],
        source=["judge", "verifier", "verifier", None],
        length=[1, 2, 3, 5],
    )
    found = second_moments(data, "source")
    assert found.reason is None
    assert found.frame.to_dict(as_series=False) == {
        "slice": ["(none)", "judge", "verifier"],
        "rows": [1, 1, 2],
        "share_of_rows": [0.25, 0.25, 0.5],
        "second_moment": pytest.approx([25.0, 9.0, 8.0]),
        "second_moment_share": pytest.approx([0.5, 0.18, 0.32]),
    }
    by_length = second_moments(data, "length").frame
    assert by_length["slice"].to_list() == ["1", "2 to 3", "4 to 7"]
    assert by_length["second_moment_share"].to_list() == pytest.approx([0.18, 0.32, 0.5])


@pytest.mark.parametrize(
    ("columns", "by", "why"),
    [
        ({"reward": [1.0, 2.0]}, "source", "no update rows"),
        ({"grad_norm": [1.0, 2.0]}, "source", "source is not logged"),
        ({"grad_norm": [1.0, None], "source": ["a", "b"]}, "source", "missing in 1 of 2"),
        ({"grad_norm": [1.0, float("nan")], "source": ["a", "b"]}, "source", "not finite"),
        ({"grad_norm": [1.0, 2.0], "source": ["a", "a"]}, "source", "one slice: a"),
        ({"grad_norm": [0.0, 0.0], "source": ["a", "b"]}, "source", "zero"),
        ({"grad_norm": [1.0, 2.0], "mine": ["a", "b"]}, "mine", "an id"),
    ],
)
def test_where_there_is_nothing_it_says_why(
    tmp_path: Path, columns: dict[str, object], by: str, why: str
) -> None:
    found = second_moments(recorded(tmp_path, **columns), by)
    assert found.frame.is_empty()
    assert why in str(found.reason)


def test_the_timeline_has_them_by_source(noisy_run: Path) -> None:
    timeline = build_timeline(open_run(noisy_run))
    data = timeline.run.step_data(7)
    assert data is not None
    own = timeline.sources.filter(step=7)
    assert (
        own.rename({"source": "slice"})
        .drop("step", "attempt")
        .equals(second_moments(data, "source").frame)
    )
    judge = timeline.sources.filter(source="judge")
    assert len(judge) == 30
    assert set(judge["share_of_rows"]) == {0.25}
    assert judge["second_moment_share"][-1] > 2 * judge["second_moment_share"][0]


def test_of_one_source_there_are_none(healthy_run: Path) -> None:
    assert build_timeline(open_run(healthy_run)).sources.is_empty()
