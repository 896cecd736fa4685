"""The fused head is measured while it runs: norms cost no second pass through the vocabulary."""

import pytest
import trl.kernels.chunked_logprob as kernels

from mmhealth.integrations.trl import attach
from mmhealth.runlog import open_run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.mark.parametrize("tied", [True, False])
def test_no_tile_of_logits_is_made_twice(tied, trainer, tmp_path, monkeypatch):
    made = {"tiles": 0}
    tile = kernels._backward_tile

    def counted(*args, **kwargs):
        made["tiles"] += 1
        return tile(*args, **kwargs)

    monkeypatch.setattr(kernels, "_backward_tile", counted)
    trainer("GRPO", tied=tied).train()
    plain, made["tiles"] = made["tiles"], 0
    attached = trainer("GRPO", tied=tied)
    attach(attached, tmp_path / "run", strict=True)
    made["tiles"] = 0
    attached.train()
    assert made["tiles"] == plain > 0
    assert open_run(tmp_path / "run").updates["grad_norm"].max() > 0


def test_tiles_of_some_tokens_alone_make_a_second_pass_and_the_same_norms(
    trainer, tmp_path, monkeypatch
):
    def norms(name):
        made = trainer("GRPO", tied=True)
        attach(made, tmp_path / name, strict=True)
        made.train()
        return open_run(tmp_path / name).updates["grad_norm"].to_list()

    wanted = norms("whole")
    monkeypatch.setattr(kernels, "TOKEN_CHUNK_SIZE", 5)
    assert norms("split") == pytest.approx(wanted, rel=1e-4)
