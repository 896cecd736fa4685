from hypothesis import given
from hypothesis import strategies as st

from mmhealth.dashboards.urlstate import SHOWN, THEMES, UrlState, format_query, parse_query

NAMES = ("base line", "fix&more", "ä")
STATES = st.builds(
    UrlState,
    runs=st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(
        lambda chosen: tuple(name for name in NAMES if name in chosen)
    ),
    step=st.none() | st.integers(0, 10**9),
    basis=st.sampled_from(SHOWN),
    theme=st.sampled_from(THEMES),
    table=st.sampled_from(NAMES),
)


@given(STATES)
def test_an_address_brings_back_what_it_was_made_of(state):
    found = parse_query(format_query(state, NAMES), NAMES)
    assert (found.runs, found.step, found.basis, found.theme) == (
        state.runs,
        state.step,
        state.basis,
        state.theme,
    )
    assert found.table == (None if state.table == NAMES[0] else state.table)


def test_the_defaults_need_no_query():
    assert format_query(parse_query(None, NAMES), NAMES) == ""


@given(st.text())
def test_nonsense_gives_the_defaults(text):
    found = parse_query(f"?runs={text}&step={text}x&basis=x{text}&theme=x{text}", NAMES)
    assert set(found.runs) <= set(NAMES)
    assert found.runs
    assert (found.basis, found.theme) == ("signal", "auto")
