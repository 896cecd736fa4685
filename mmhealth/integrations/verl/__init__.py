"""Records verl's trainer: set ``MMHEALTH_RUN_DIR`` and train (docs/hooks.md). Experimental.

verl loads `plugin` by itself at ``import verl``, in every process, through the entry point that
mmhealth installs. Without the variable it does nothing and imports nothing.

================ ==================================================================
plugin.py        is it switched on? then waits for verl's trainers to be imported
recording.py     the run, and what is told of its settings
current.py       a step of ``PPOTrainer`` (``verl.trainer.main_ppo``)
older.py         a step of ``RayPPOTrainer`` (``verl.trainer.main_ppo_v0``)
================ ==================================================================
"""
