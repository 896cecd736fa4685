"""What others would have raised: their published lines, re-stated as rules on our timeline."""

from mmhealth.health.rules import Rule

NAIVE = (Rule(name="naive", metric="ess_signal", below=0.2, severity="critical"),)
"""The article's line alone, without persistence, excuse or a least number of rows."""

VERL = (Rule(name="verl_ess", metric="ess_weight", below=0.3, severity="critical"),)
"""Of the warnings in verl's documentation on rollout correction the one that a step's timeline can
tell: effective sample size below 0.3. Here of raw weights; verl takes them truncated, where it can
hardly fall. (The others: mean weight outside 0.5 to 2, its standard deviation above 1, |KL| above
0.1, chi-square above 1.)"""

PEER = (
    Rule(name="peer_entropy_floor", metric="entropy", below=1.0, mean_of=30, severity="critical"),
    Rule(
        name="peer_entropy_drop",
        metric="entropy",
        below_baseline=0.5,
        baseline_steps=30,
        mean_of=30,
        severity="critical",
    ),
    Rule(
        name="peer_group_collapse",
        metric="dead_group_share",
        above=0.99,
        mean_of=20,
        severity="critical",
    ),
    Rule(name="peer_kl_cap", metric="kl_ref", above=0.3, mean_of=20, severity="critical"),
)
"""Heuristics of severity "high" in microsoft/post-training-toolkit (commits bc1e15f and 604ca4d)
for GRPO that our columns can tell: mean entropy of 30 steps below 1 nat; that mean below half of
that of the first 30; reward deviation within groups below 0.01 over 20 steps, re-stated as all
groups dead; KL to the reference above 0.3 over 20 steps. They also wait for the 30th to 60th step,
which a rule cannot say. Those on reward variance, output length, refusal rate and embedding drift
have no counterpart here."""
