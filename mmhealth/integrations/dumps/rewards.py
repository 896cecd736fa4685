"""Rewards of dumps that have a column for each reward function and none for the total."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mmhealth.integrations.dumps.fields import as_number, is_number

NO_REWARD = (
    "reward: there is not one reward function, and the file does not say how they are summed"
)


def reward_functions(columns: Mapping[str, Sequence[Any]], own: Collection[str]) -> list[str]:
    """Names of the columns that hold numbers (and nulls), beyond those of the format's own."""
    return [
        name
        for name, column in columns.items()
        if name not in own
        and any(is_number(value) for value in column)
        and all(value is None or is_number(value) for value in column)
    ]


def rewards_of(row: Mapping[str, Any], functions: Sequence[str]) -> dict[str, Any]:
    """Columns of one row: each component, and the reward where there is just one function."""
    values = {
        f"reward_{name}": None if row[name] is None else as_number(row[name], name)
        for name in functions
    }
    if len(functions) == 1:
        values["reward"] = values[f"reward_{functions[0]}"]
    return values
