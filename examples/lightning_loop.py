"""mmhealth in a LightningModule.

    python examples/lightning_loop.py runs/lightning

The task is that of bare_loop.py. The step's health goes to the Trainer's logger, whichever that is.
"""

import sys

import torch
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from mmhealth import Recorder
from mmhealth.health import Monitor
from mmhealth.integrations.trackers import latest_health

STEPS, PROMPTS, ANSWERS, GROUP = 30, 16, 8, 8


class Policy(LightningModule):
    """Learns which answer each prompt wants."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.answers = torch.nn.Linear(PROMPTS, ANSWERS, bias=False)
        self.wanted = torch.randint(ANSWERS, (PROMPTS,))
        self.recorder, self.monitor = recorder, Monitor(recorder)

    def training_step(self, prompts: torch.Tensor) -> torch.Tensor:
        """Sample a group of answers a prompt, and record them."""
        prompt = prompts.repeat_interleave(GROUP)
        choice = torch.distributions.Categorical(logits=self.answers(torch.eye(PROMPTS)[prompt]))
        answer = choice.sample()
        reward = (answer == self.wanted[prompt]).float()
        advantage = reward - reward.view(-1, GROUP).mean(1).repeat_interleave(GROUP)
        loss = -(advantage * choice.log_prob(answer)).mean()
        rows = {"group_id": prompt, "reward": reward, "success": reward > 0}
        rows |= {"advantage": advantage, "entropy": choice.entropy().detach()}
        self.recorder.log_step(self.global_step, rows, {"loss": loss.item()})
        self.monitor.poll()
        self.log_dict({"loss": loss.item(), **latest_health(self.monitor)})
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, as in bare_loop.py."""
        return torch.optim.Adam(self.parameters(), lr=0.1)


def train(run_dir: str) -> dict[str, float]:
    """Train; return what was shown of the last step."""
    torch.manual_seed(0)
    prompts = DataLoader(torch.arange(PROMPTS), batch_size=PROMPTS)
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "logger": False}
    with Recorder(run_dir, loss_ratio="none", nominal_batch=PROMPTS * GROUP) as recorder:
        trainer = Trainer(max_steps=STEPS, max_epochs=-1, accelerator="cpu", **quiet)
        trainer.fit(Policy(recorder), prompts)
        return {name: float(value) for name, value in trainer.logged_metrics.items()}


if __name__ == "__main__":
    print(train(sys.argv[1]))
