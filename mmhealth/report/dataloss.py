"""What is missing from a run, in words; one wording for every report."""

from mmhealth.runlog import RunStatus


def describe_data(status: RunStatus) -> list[str]:
    """What cannot be read, what is incomplete and what was lost; empty when all is there."""
    sentences = status.describe_losses()
    for step in status.incomplete:
        missing = []
        if step.ranks_missing:
            missing.append(f"{_count(step.ranks_missing, 'rank')} did not commit it")
        if step.rows_missing:
            missing.append(f"{_count(step.rows_missing, 'row')} cannot be read")
        sentences.append(f"step {step.step} is incomplete: {' and '.join(missing)}")
    if status.rows_pending:
        rows = _count(status.rows_pending, "row")
        sentences.append(f"{rows} were written but never committed: no metric counts them")
    return sentences


def is_damaged(status: RunStatus) -> bool:
    """Whether files of the run are damaged or gone, so that nobody knows what they said."""
    return bool(
        status.quarantined
        or status.unfetched
        or status.batches_missing
        or status.rows_read < status.rows_present
    )


def describe_reading(status: RunStatus) -> str:
    """How much of the run was read."""
    read, present = f"{status.rows_read:,}", f"{status.rows_present:,}"
    rows = f"{read} rows" if read == present else f"{read} of {present} rows"
    attempts = _count(len(status.attempts), "attempt")
    hidden = f", {status.rows_hidden:,} rows hidden by restarts" if status.rows_hidden else ""
    reduction = status.describe_reduction()
    reduced = "" if reduction is None else f"; {reduction}"
    steps = _count(status.steps_complete, "step")
    return f"{steps} complete, {rows} read, {attempts}{hidden}{reduced}"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
