"""Cosines that the trainer takes beside its norms."""

import pytest
import torch

from mmhealth.health import build_timeline
from mmhealth.reference import StepLog, train
from mmhealth.runlog import open_run


def logged(environment: str, config, *, alignment: bool) -> list[StepLog]:
    logs: list[StepLog] = []
    train(
        environment,
        config=config,
        record=False,
        steps=2,
        progress=False,
        on_step=logs.append,
        alignment=alignment,
    )
    return logs


@pytest.mark.parametrize("environment", ["F2", "F3", "orchestrator"])
def test_they_change_no_other_number(environment, small):
    """F2 makes two updates a step, the others accumulate over microbatches."""
    config = small(environment)
    plain = logged(environment, config, alignment=False)
    for without, log in zip(plain, logged(environment, config, alignment=True), strict=True):
        assert log.scalars == without.scalars
        for columns, others in zip(log.updates, without.updates, strict=True):
            cosine = columns.pop("grad_cosine")
            assert cosine[columns["grad_norm"] > 0].abs().max() <= 1
            assert float((cosine.nan_to_num() * columns["grad_norm"]).sum()) > 0
            assert columns.keys() == others.keys()
            assert torch.equal(columns["grad_norm"], others["grad_norm"])


def test_a_recorded_run_tells_its_gradient_noise(small, tmp_path):
    config = small("F2")
    train("F2", config=config, run_dir=tmp_path / "run", steps=2, progress=False, alignment=True)
    frame = build_timeline(open_run(tmp_path / "run")).frame
    assert frame["gradient_snr"].null_count() == 0
    assert (frame["gradient_diversity"] > 0).all()
