"""Records TRL's GRPOTrainer and RLOOTrainer: ``attach(trainer, run_dir)``, one line.

Needs ``trl``, which nothing else of mmhealth imports. How it works, from the ground up:

================ ==================================================================
signatures.py    is this a trainer whose methods we know?
modes.py         what its settings let us record, and what they do not
head.py          TRL's fused head of logits and log probabilities, with its gradient owned
norms.py         gradient norms of a micro-batch
tokens.py        log weights, entropy and KL from token log probabilities
samples.py       what was sampled, joined to what the loss gets of it
rollout.py       one rollout batch and everything done with it: a step
beneath.py       hooks around TRL's own methods, beneath a subclass
session.py       what is taken from each method of the trainer
callback.py      ends steps, asks the monitor, stops training
attach.py        puts all of it in place
================ ==================================================================
"""

from mmhealth.integrations.trl.attach import Attachment, attach
from mmhealth.integrations.trl.mixin import HealthMixin

__all__ = ["Attachment", "HealthMixin", "attach"]
