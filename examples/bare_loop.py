"""mmhealth in a bare torch loop: record each step, and show its health where the loss is shown.

    python examples/bare_loop.py runs/bare

The policy learns which of 8 answers each of 16 prompts wants; 8 trajectories a prompt, advantages
against their mean. `mmhealth watch runs/bare` beside it shows the run live.
"""

import sys

import torch

from mmhealth import Recorder
from mmhealth.health import Monitor
from mmhealth.integrations.trackers import latest_health

STEPS, PROMPTS, ANSWERS, GROUP = 30, 16, 8, 8


def train(run_dir: str) -> dict[str, float]:
    """Train; return what was shown of the last step."""
    torch.manual_seed(0)
    policy = torch.nn.Linear(PROMPTS, ANSWERS, bias=False)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.1)
    wanted = torch.randint(ANSWERS, (PROMPTS,))
    prompt = torch.arange(PROMPTS).repeat_interleave(GROUP)
    with Recorder(run_dir, loss_ratio="none", nominal_batch=len(prompt)) as recorder:
        monitor = Monitor(recorder)
        for step in range(STEPS):
            choice = torch.distributions.Categorical(logits=policy(torch.eye(PROMPTS)[prompt]))
            answer = choice.sample()
            reward = (answer == wanted[prompt]).float()
            advantage = reward - reward.view(PROMPTS, GROUP).mean(1)[prompt]
            loss = -(advantage * choice.log_prob(answer)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rows = {"group_id": prompt, "reward": reward, "success": reward > 0}
            rows |= {"advantage": advantage, "entropy": choice.entropy().detach()}
            recorder.log_step(step, rows, {"loss": loss.item()})
            monitor.poll()
            shown = {"loss": loss.item(), **latest_health(monitor)}  # to any tracker's log(shown)
            print({name: round(value, 3) for name, value in shown.items()})
    return shown


if __name__ == "__main__":
    train(sys.argv[1])
