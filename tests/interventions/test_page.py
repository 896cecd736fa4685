"""Every program of docs/interventions.md is run, with a small trainer's functions."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmhealth import open_run
from mmhealth.interventions import NearMissReserve

PAGE = (Path(__file__).parents[2] / "docs" / "interventions.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PROMPTS, GROUP = 8, 8
ROWS = PROMPTS * GROUP


class Trainer:
    """What the page supposes: a loop's own functions over a single decision."""

    def __init__(self) -> None:
        self.logits = torch.zeros(3, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.logits], lr=0.05)
        self.rng = np.random.default_rng(0)
        self.random = torch.Generator().manual_seed(0)
        self.injected = 0

    def log_probs(self, _: object = None) -> torch.Tensor:
        return self.logits.log_softmax(0).expand(ROWS, 3)

    def rollout(self, step: int, _budget: object = None) -> SimpleNamespace:
        probs = self.log_probs().detach().exp()
        action = torch.multinomial(probs, 1, generator=self.random)[:, 0].numpy()
        solved = (action == 1) & (self.rng.random(ROWS) < (0.5 if step < 4 else 0.02))
        prompt = np.repeat(np.arange(PROMPTS), GROUP)
        reward, ids, nothing = solved * 1.0, np.arange(ROWS), np.zeros(ROWS)
        trajectories = {"trajectory_id": ids, "group_id": prompt, "reward": reward}
        weights = {"trajectory_id": ids, "log_weight": nothing, "weight_used": nothing + 1}
        weights["advantage"] = reward - self.group_mean_of(prompt, reward)
        return SimpleNamespace(
            reward=reward,
            log_weight=nothing,
            trajectories=trajectories | {"success": solved, "role": ["used"] * ROWS},
            weights=weights,
            prompt=prompt,
            action=action,
            syntax=(action < 2) * 1.0,
            rating=solved + self.rng.normal(size=ROWS),
            ratings=solved[:, None] + 0.1 * self.rng.normal(size=(ROWS, 2)),
            confidence=np.full(ROWS, 0.9),
            near_misses=np.flatnonzero(solved),
            side=["succeeded"] * ROWS,
            tokens=action[:, None],
            source=["verifier", "human"] * (ROWS // 2),
            length=self.rng.integers(100, 2000, ROWS),
            over_limit=action - 1.5,
            late=self.rng.normal(size=ROWS),
            parallelism=action / 2,
        )

    @staticmethod
    def group_mean_of(prompt: np.ndarray, reward: np.ndarray) -> np.ndarray:
        return (np.bincount(prompt, reward) / GROUP)[prompt]

    def repair(self, batch: SimpleNamespace, reserve: NearMissReserve) -> SimpleNamespace:
        taken = []
        for group in range(PROMPTS):
            if not batch.reward[batch.prompt == group].any():
                for place, _ in enumerate(reserve.take(group, "succeeded", 2)):
                    batch.trajectories["role"][group * GROUP + place] = "replaced"
                    taken.append(group)
        self.injected += len(taken)
        ids = {"trajectory_id": ROWS + np.arange(len(taken))}
        weights = ids | {"log_weight": np.full(len(taken), -3.0), "advantage": np.ones(len(taken))}
        return SimpleNamespace(trajectories=ids | {"group_id": taken}, weights=weights)

    def policy_loss(self, batch: SimpleNamespace, advantage: np.ndarray, _near: object = None):
        assert np.isfinite(advantage).all()
        chosen = self.log_probs()[torch.arange(ROWS), torch.from_numpy(batch.action)]
        return -(torch.from_numpy(advantage) * chosen).mean()

    def kl_to_sampler(self, _: SimpleNamespace) -> torch.Tensor:
        logs = self.log_probs()
        return (logs.exp() * (logs - logs.detach())).sum(1).mean()

    def optimize(self, loss: torch.Tensor, scale: float = 1.0) -> None:
        self.optimizer.zero_grad()
        (scale * loss).backward()
        self.optimizer.step()


def run(program: str, steps: int = 30) -> tuple[Trainer, dict[str, object]]:
    trainer = Trainer()
    known: dict[str, object] = {
        "steps": steps,
        "prompts": PROMPTS,
        "rollout": trainer.rollout,
        "group_mean": lambda batch, reward: trainer.group_mean_of(batch.prompt, reward),
        "log_probs": trainer.log_probs,
        "policy_loss": trainer.policy_loss,
        "optimize": trainer.optimize,
        "kl_to_sampler": trainer.kl_to_sampler,
        "repair": trainer.repair,
        "reserve": NearMissReserve(),
        "subagent": torch.nn.Linear(2, 2),
    }
    exec(program, known)
    return trainer, known


@pytest.mark.parametrize("program", PROGRAMS, ids=range(1, len(PROGRAMS) + 1))
def test_programs_run_and_train(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trainer, _ = run(program)
    assert trainer.logits.detach().abs().sum() > 0


def test_the_program_with_the_monitor_acts_and_logs_roles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    [program] = [text for text in PROGRAMS if "monitor.poll" in text]
    trainer, known = run(program)
    assert trainer.injected > 0
    assert known["control"].active(30)  # type: ignore[attr-defined]
    roles = open_run("runs/today").trajectories["role"].to_list()
    assert roles.count("injected") == roles.count("replaced") == trainer.injected


def test_every_rule_and_column_that_the_page_names_exists() -> None:
    from mmhealth.health.policy import default_policy
    from mmhealth.health.timeline import SCHEMA

    table = [line.split("|")[3:5] for line in PAGE.splitlines() if re.match(r"\| [IV]+ ", line)]
    columns = {name for cells in table for name in re.findall(r"`(\w+)`", cells[0])}
    rules = {name for cells in table for name in re.findall(r"`(\w+)`", cells[1])}
    assert len(table) == 5
    assert columns <= set(SCHEMA)
    assert rules <= {rule.name for rule in default_policy().rules}
