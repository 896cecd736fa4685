"""Ray actors that record their own ranks through a handle of the driver's; one is killed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmhealth import RecorderHandle, open_run
from mmhealth.engines import RayEngine
from mmhealth.health import build_timeline
from tests.conftest import make_batch

ray = pytest.importorskip("ray")
RANKS, STEPS = 2, 12


class Worker:
    """One rank of a trainer."""

    def __init__(self, handle: RecorderHandle) -> None:
        self.recorder = handle.recorder()

    def log(self, step: int) -> int:
        rank = self.recorder.rank
        columns = make_batch(100 * rank + step, mixed=0.5)
        self.recorder.log_step(step, columns | {"group_id": columns["group_id"] + 100 * rank})
        return step

    def close(self) -> None:
        self.recorder.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayEngine]:
    with RayEngine(workers=RANKS) as engine:
        yield engine


def begin(handle: RecorderHandle) -> list[Any]:
    remote = ray.remote(max_restarts=1, max_task_retries=1)(Worker)
    return [remote.options(num_cpus=0.5).remote(mine) for mine in handle.ranks()]


def record_with_actors(path: Path, *, killed_at: int | None = None) -> None:
    handle = RecorderHandle.issue(path, world_size=RANKS, nominal_batch=128)
    actors = begin(handle)
    for step in range(STEPS):
        if step == killed_at:
            ray.kill(actors[1], no_restart=False)
        ray.get([actor.log.remote(step) for actor in actors])
    ray.get([actor.close.remote() for actor in actors])
    for actor in actors:
        ray.kill(actor)


def test_a_killed_actor_goes_on_where_it_was(cluster: RayEngine, tmp_path: Path) -> None:
    record_with_actors(tmp_path / "whole")
    record_with_actors(tmp_path / "killed", killed_at=5)
    whole, killed = open_run(tmp_path / "whole"), open_run(tmp_path / "killed")
    status = killed.status()
    assert status.steps_complete == STEPS
    assert not status.data_lost
    assert not status.incomplete
    assert [attempt.number for attempt in status.attempts] == [0]
    assert killed.trajectories.equals(whole.trajectories)
    assert killed.updates.equals(whole.updates)
    one, other = build_timeline(killed).frame, build_timeline(whole).frame
    assert one.drop("time").equals(other.drop("time"))


def test_a_new_job_is_a_new_attempt(cluster: RayEngine, record: Any, tmp_path: Path) -> None:
    record(tmp_path / "run", [1.0] * 12)
    handle = RecorderHandle.issue(tmp_path / "run", world_size=RANKS, start_step=8)
    actors = begin(handle)
    ray.get([actor.log.remote(8) for actor in actors])
    assert open_run(tmp_path / "run").complete_steps() == list(range(9))
    for actor in actors:
        ray.kill(actor)
