"""The program of docs/gradnorm.md runs, and its page names what there is."""

import re
from pathlib import Path

import torch
from torch import nn

import mmhealth.gradnorm

PAGE = (Path(__file__).parents[2] / "docs" / "gradnorm.md").read_text(encoding="utf-8")


def test_the_program_runs():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    model = nn.Sequential(nn.Embedding(7, 4), nn.LayerNorm(4), nn.Linear(4, 7))
    names = {
        "model": model,
        "batches": [torch.randint(0, 7, (5, 3))],
        "policy_loss": lambda model, batch: model(batch).log_softmax(-1)[..., 0].mean(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }
    exec(program, names)
    assert names["norms"].per_trajectory().shape == (5,)
    assert names["norms"].by_module().keys() == {"0", "1", "2"}


def test_every_public_name_but_types_is_on_the_page():
    types = {"Layout", "StepNorms"}
    missing = [n for n in mmhealth.gradnorm.__all__ if n not in types and f"`{n}" not in PAGE]
    assert missing == []
