"""Files of tensors and pickles: read where they are plain, refused where they are not."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import open_run
from mmhealth.integrations.dumps import import_dump

torch = pytest.importorskip("torch")


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_skyrl_batches_become_rows(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_skyrl(tmp_path / "exports" / "dumped_data", [4])
    done = import_dump(tmp_path / "exports", tmp_path / "run")
    assert done.problems.count == 0
    run = open_run(tmp_path / "run")
    batch = writers.skyrl_batch(4)
    ratios = (batch["action_log_probs"].astype(float) - batch["rollout_logprobs"])[:, :3]
    assert run.updates["log_weight"].to_numpy() == pytest.approx(ratios.sum(axis=1), abs=1e-12)
    assert run.updates["advantage"].to_list() == [-0.5, 0.5] * 4
    assert run.trajectories["length"].to_list() == [3] * 8
    assert "reward" not in run.trajectories.columns
    assert "reward" in run.config["lacks"]
    assert dump.exists()


def test_a_bfloat16_tensor_of_skyrl_is_read(tmp_path: Path, writers: Any) -> None:
    import io

    dump = writers.write_skyrl(tmp_path / "dump", [1])
    file = io.BytesIO()
    torch.save(torch.full((8, 4), 0.5, dtype=torch.bfloat16), file)
    blobs = {
        name: {"format": "numpy", "data": a.tobytes(), "shape": a.shape, "dtype": str(a.dtype)}
        for name, a in writers.skyrl_batch(1).items()
    }
    blobs["advantages"] = {"format": "torch", "data": file.getvalue()}
    state = {"batch_dict": blobs, "device": torch.device("cpu"), "metadata": {"x": np.float64(1)}}
    path = dump / "global_step_1_training_input.pkl"
    path.write_bytes(writers.reduced("skyrl.backends.skyrl_train.training_batch", state))
    assert import_dump(dump, tmp_path / "run").problems.first == []
    assert open_run(tmp_path / "run").updates["advantage"].to_list() == [0.5] * 8


@pytest.mark.parametrize("kind", ["skyrl", "slime train", "slime rollout", "skyrl metadata"])
def test_a_hostile_file_is_refused_nothing_runs_and_the_others_are_kept(
    tmp_path: Path, writers: Any, kind: str
) -> None:
    touched = tmp_path / "touched"
    if kind.startswith("skyrl"):
        dump = writers.write_skyrl(tmp_path / "dump", [1, 2])
        path = dump / "global_step_2_training_input.pkl"
        state = {"batch_dict": {}, "metadata": Hostile(touched)}
        hostile = pickle.dumps(Hostile(touched))
        if kind == "skyrl metadata":
            hostile = writers.reduced("skyrl.backends.skyrl_train.training_batch", state)
        path.write_bytes(hostile)
    else:
        dump = writers.write_slime(tmp_path / "dump", [1, 2])
        path = dump / f"{kind.removeprefix('slime ')}_data" / "2.pt"
        torch.save({"samples": [Hostile(touched)]}, path)
    done = import_dump(dump, tmp_path / "run")
    assert not touched.exists()
    (problem,) = done.problems.first
    assert problem.path == path
    assert "refused" in problem.why
    steps = [1, 2] if kind == "slime rollout" else [1]
    assert open_run(tmp_path / "run").steps["step"].to_list() == steps
    pickle.loads(pickle.dumps(Hostile(touched)))
    assert touched.exists(), "the file would have been touched"


@pytest.mark.parametrize("kind", ["skyrl", "slime"])
def test_a_file_cut_off_anywhere_is_named_and_the_others_are_kept(
    tmp_path: Path, writers: Any, kind: str
) -> None:
    dump = getattr(writers, f"write_{kind}")(tmp_path / "dump", [1, 2])
    name = "global_step_2_training_input.pkl" if kind == "skyrl" else "train_data/2.pt"
    content = (dump / name).read_bytes()
    for number, end in enumerate(range(0, len(content), len(content) // 20)):
        (dump / name).write_bytes(content[:end])
        done = import_dump(dump, tmp_path / f"run-{number}")
        assert [problem.path for problem in done.problems.first] == [dump / name]
        assert done.steps == 1


def test_slime_joins_groups_by_position_and_names_bad_samples(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_slime(tmp_path / "dump", [1])
    path = dump / "train_data" / "1.pt"
    train = torch.load(path, weights_only=True)
    train["samples"][0] = writers.slime_sample(0, 1, rollout_position=5)
    train["samples"][1] = writers.slime_sample(1, 1, log_probs=torch.zeros(5))
    train["samples"][7] = writers.slime_sample(7, 1, rewards="high")
    torch.save(train, path)
    done = import_dump(dump, tmp_path / "run")
    assert [problem.why.split(" where")[0] for problem in done.problems.first] == [
        "sample 1: field 'log_probs' has shape (5,)",
        "sample 7: field 'rewards' holds no numbers, but str",
    ]
    rows = open_run(tmp_path / "run").trajectories
    assert rows["group_id"].to_list() == ["2", "1", "1", "2", "2", "3"]
    assert rows["length"].to_list() == [4] * 6


def test_another_format_version_of_slime_is_refused(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_slime(tmp_path / "dump", [1], version=3)
    (problem,) = import_dump(dump, tmp_path / "run").problems.first
    assert "field 'format_version' is 3; this mmhealth reads 2" in str(problem)


def test_a_skyrl_batch_of_other_shapes_is_named(tmp_path: Path, writers: Any) -> None:
    dump = writers.write_skyrl(tmp_path / "dump", [1])
    blob = {"format": "numpy", "data": b"12345678", "shape": (3,), "dtype": "int64"}
    state = {"batch_dict": {"loss_mask": blob}, "metadata": {}}
    path = dump / "global_step_1_training_input.pkl"
    path.write_bytes(writers.reduced("skyrl_train.training_batch", state))
    (problem,) = import_dump(dump, tmp_path / "run").problems.first
    assert "field 'loss_mask' is no tensor that can be read" in str(problem)
