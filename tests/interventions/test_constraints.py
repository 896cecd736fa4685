import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.interventions import Constraint, ConstraintTable, hard_penalty

TABLE = """
# three of the article's dozen
[constraints.parallel_calls]
scale = 2.0
width = 0.15
margin = 0.2
beta0 = 1.0
decay_steps = 25

[constraints.latency]
scale = 1
width = 0.5

[constraints."spend limit"]
scale = 0.5
width = 3.0
"""


@given(st.floats(-20, 20), st.floats(0.5, 3), st.floats(-1, 1))
def test_penalty_is_softplus(distance, width, margin):
    constraint = Constraint("load", scale=2.0, width=width, margin=margin)
    expected = -2 * math.log1p(math.exp((distance + margin) / width))
    assert constraint.penalty([distance])[0] == pytest.approx(expected, abs=1e-12)


def test_far_outside_it_is_linear_and_does_not_overflow():
    penalty = Constraint("load", scale=2.0, width=1e-3).penalty([1e6, -1e6])
    assert penalty.tolist() == [-2e9, 0]


def test_it_slopes_on_both_sides_where_the_cliff_is_flat():
    around = np.array([-0.3, -0.2, 0.2, 0.3])
    soft = Constraint("load", scale=2.0, width=0.15).penalty(around)
    assert (np.diff(soft) < -0.1).all()
    assert hard_penalty(around, 10).tolist() == [0, 0, -10, -10]


def test_unknown_distances_stay_unknown():
    table = ConstraintTable.from_toml(TABLE)
    got = table.penalty({"latency": [0.0, np.nan], "parallel_calls": [0.0, 0.0]})
    assert np.isfinite(got[0])
    assert np.isnan(got[1])
    assert np.isnan(hard_penalty([np.nan], 1)).all()


def test_a_table_adds_up_what_is_given(tmp_path):
    path = tmp_path / "constraints.toml"
    path.write_text(TABLE)
    table = ConstraintTable.from_toml(path)
    assert [constraint.name for constraint in table] == ["parallel_calls", "latency", "spend limit"]
    assert len(table) == 3
    got = table.penalty({"latency": [0.5], "spend limit": [0.0]})
    assert got[0] == pytest.approx(-math.log1p(math.e) - 0.5 * math.log(2))
    assert table.bonus(25, {"parallel_calls": [0.5]})[0] == pytest.approx(0.5 / math.e)
    assert table.bonus(25, {"latency": [0.5]}).tolist() == [0]


def test_distances_may_be_given_turn_by_turn():
    table = ConstraintTable([Constraint("load", scale=1, width=1)])
    assert table.penalty({"load": np.zeros((2, 3))}).shape == (2, 3)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (TABLE.replace("width = 0.5", "width = -0.5"), "line 12, constraint 'latency': width"),
        (TABLE.replace("width = 3.0", "widht = 3.0"), "line 16, constraint 'spend limit': unknown"),
        (TABLE.replace("width = 0.5", ""), "line 10, constraint 'latency': width is missing"),
        (TABLE.replace("beta0 = 1.0", "beta0 = '1'"), "line 7, constraint 'parallel_calls': beta0"),
        (TABLE + "[gate]\n", "nothing else"),
        ("", "expected"),
        ("constraints.toml", "pathlib.Path"),
    ],
)
def test_a_mistake_in_the_table_names_constraint_and_line(text, why):
    with pytest.raises(ValueError, match=re.escape(why)):
        ConstraintTable.from_toml(text)


def test_mistakes_in_calls_are_named():
    table = ConstraintTable.from_toml(TABLE)
    with pytest.raises(ValueError, match="the table has"):
        table.penalty({"latencies": [0.0]})
    with pytest.raises(ValueError, match="shapes differ"):
        table.penalty({"latency": [0.0], "spend limit": [0.0, 1.0]})
    with pytest.raises(ValueError, match="none given"):
        table.penalty({})
    with pytest.raises(ValueError, match="twice"):
        ConstraintTable([*table, *table])
    with pytest.raises(ValueError, match="latency"):
        table.penalty({"latency": [np.inf]})
