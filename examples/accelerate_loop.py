"""mmhealth in a loop of Hugging Face accelerate, on one process or many.

    accelerate launch examples/accelerate_loop.py runs/accelerate

The task is that of bare_loop.py, with 16 prompts a process. Every process records its own rows; the
main one judges them and hands the step's health to the trackers of the Accelerator (``log_with=``).
"""

import sys

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed

from mmhealth import Recorder, new_attempt
from mmhealth.health import Monitor
from mmhealth.integrations.trackers import latest_health

STEPS, PROMPTS, ANSWERS, GROUP = 30, 16, 8, 8


def train(run_dir: str) -> dict[str, float]:
    """Train; return what was shown of the last step."""
    accelerator = Accelerator(cpu=True)
    rank, ranks = accelerator.process_index, accelerator.num_processes
    set_seed(0)
    policy = torch.nn.Linear(PROMPTS, ANSWERS, bias=False)
    wanted = torch.randint(ANSWERS, (PROMPTS,))
    policy, optimizer = accelerator.prepare(policy, torch.optim.Adam(policy.parameters(), lr=0.1))
    set_seed(0, device_specific=True)
    prompt = torch.arange(PROMPTS).repeat_interleave(GROUP)
    shown: dict[str, float] = {}
    attempt = broadcast_object_list([new_attempt(run_dir) if rank == 0 else None])[0]
    own = {"rank": rank, "world_size": ranks, "attempt": attempt}
    with Recorder(run_dir, loss_ratio="none", **own) as rec:
        monitor = Monitor(rec) if rank == 0 else None
        for step in range(STEPS):
            choice = torch.distributions.Categorical(logits=policy(torch.eye(PROMPTS)[prompt]))
            answer = choice.sample()
            reward = (answer == wanted[prompt]).float()
            advantage = reward - reward.view(PROMPTS, GROUP).mean(1)[prompt]
            loss = -(advantage * choice.log_prob(answer)).mean()
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            rows = {"group_id": prompt + rank * PROMPTS, "reward": reward, "success": reward > 0}
            rows |= {"advantage": advantage, "entropy": choice.entropy().detach()}
            rec.log_step(step, rows, {"loss": loss.item()})
            if monitor is not None:
                monitor.poll()
                shown = {"loss": loss.item(), **latest_health(monitor)}  # of the last whole step
                accelerator.log(shown, step=step)
    accelerator.end_training()
    return shown


if __name__ == "__main__":
    print(train(sys.argv[1]))
