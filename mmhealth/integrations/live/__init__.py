"""What the live hooks share: verl, OpenRLHF and SkyRL record through these four files.

================ ==================================================================
hooking.py       wraps one method of a trainer, after a look at its signature
late.py          does so when the trainer's module is imported
rows.py          a batch's token tensors become rows, a trajectory each
session.py       the run that they are written to
================ ==================================================================
"""
