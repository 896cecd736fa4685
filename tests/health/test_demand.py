"""Rules that demand the population's interval: readings, and what is undecided."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import PolicyError
from mmhealth.estimators import PopulationInterval
from mmhealth.health import Alert, Rule
from mmhealth.health.calibration import Calibration, calibrated_toml
from mmhealth.health.calibration.scores import score
from mmhealth.health.calibration.thresholds import Choice
from mmhealth.health.metrics import StepMetrics
from mmhealth.health.policy import Policy, parse_policy
from mmhealth.health.step_intervals import INTERVAL_METRICS, Found
from mmhealth.health.track import RuleTrack

FAST = settings(deadline=None, derandomize=True, max_examples=50)
METRIC = "ess_contribution"
UNSOLVED = f"{METRIC}_unsolved"
LEVEL = 0.9
LOW = Rule(name="low", metric=METRIC, below=0.2, recover=0.3, demand_interval=LEVEL)
HIGH = Rule(name="high", metric="gini_grad_norm", above=0.7, recover=0.6, demand_interval=LEVEL)


def interval(low: float, high: float, why: str = "") -> PopulationInterval:
    return PopulationInterval(low, high, LEVEL, 256, 32, not why, why)


def step_of(
    value: float | None,
    found: Found | None = None,
    *,
    number: int = 0,
    metric: str = METRIC,
    **more: Any,
) -> StepMetrics:
    """A step as an engine has it; ``found`` by default an interval of no width."""
    known = interval(value, value) if found is None and value is not None else found
    return StepMetrics(
        {"step": number, "attempt": 0, "n": 256, "complete": True, metric: value, **more},
        intervals={} if known is None else {(metric, LEVEL): known},
    )


def fold(rule: Rule, steps: list[StepMetrics]) -> tuple[RuleTrack, list[Alert]]:
    track, fired, history = RuleTrack(rule), list[Alert](), list[StepMetrics]()
    for number, step in enumerate(steps):
        history.append(replace(step, values=step.values | {"step": number}))
        track.judge(history, fired)
    return track, fired


@pytest.mark.parametrize(
    ("value", "ends", "reading", "decided"),
    [
        (0.15, (0.10, 0.19), "breached", True),
        (0.15, (0.10, 0.20), "between", False),
        (0.15, (0.10, 0.25), "between", False),
        (0.25, (0.15, 0.40), "between", False),
        (0.25, (0.21, 0.40), "between", True),
        (0.35, (0.25, 0.50), "between", True),
        (0.35, (0.15, 0.50), "between", False),
        (0.35, (0.30, 0.50), "recovered", True),
    ],
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_whole_interval_has_to_lie_on_one_side(
    value: float, ends: tuple[float, float], reading: str, decided: bool, mirrored: bool
) -> None:
    if mirrored:
        rule = replace(HIGH, above=0.8, recover=0.7)
        step = step_of(1 - value, interval(1 - ends[1], 1 - ends[0]), metric=rule.metric)
    else:
        rule, step = LOW, step_of(value, interval(*ends))
    found = rule.judge([step])
    assert found.reading == reading
    assert (found.why == "") == decided
    assert found.interval == next(iter(step.intervals.values()))


def test_an_unreliable_interval_decides_nothing_and_is_counted() -> None:
    doubt = interval(0.05, 0.1, "heavy tail")
    track, fired = fold(LOW, [step_of(0.07, doubt)] * 4 + [step_of(0.07, interval(0.01, 0.1))])
    assert [alert.step for alert in fired] == [4]
    record = track.intervals
    assert (record.given, record.unreliable, record.missing, record.undecided) == (5, 4, 0, 4)
    assert "is unreliable: heavy tail" in record.why
    held, _ = fold(LOW, [step_of(0.07), *[step_of(0.9, interval(0.8, 0.95, "heavy tail"))] * 3])
    assert held.current is not None
    assert held.intervals.undecided == 3


def test_without_an_interval_a_step_is_no_data() -> None:
    breached, gap = step_of(0.1), step_of(0.1, "2 groups of rows; an interval needs 3")
    judgement = LOW.judge([gap])
    assert (judgement.reading, judgement.value) == ("no data", None)
    rule = replace(LOW, for_steps=3)
    track, fired = fold(rule, [breached, breached, gap, gap, breached])
    assert [(alert.pending_step, alert.step) for alert in fired] == [(0, 4)]
    track, fired = fold(rule, [breached, breached, *[gap] * 6, breached])
    assert not fired
    assert track.intervals.missing == 6
    never, _ = fold(LOW, [gap] * 3)
    assert (never.state, never.judged) == ("no data", 0)


def test_steps_measured_without_intervals_are_no_data_and_say_so() -> None:
    judgement = LOW.judge([replace(step_of(0.1), intervals={})])
    assert judgement.reading == "no data"
    assert "no interval was asked for" in judgement.why


def test_an_alert_states_the_interval_when_it_fired() -> None:
    steps = [step_of(0.15, interval(0.1, 0.18)), step_of(0.05, interval(0.01, 0.1))]
    _, [alert] = fold(LOW, steps)
    assert alert.interval == interval(0.1, 0.18)
    assert "= 0.15 (90 % interval 0.1 to 0.18, 32 groups) against 0.2" in alert.message
    assert alert.as_dict()["interval"]["high"] == 0.18
    _, [plain] = fold(replace(LOW, demand_interval=None), steps)
    assert plain.as_dict()["interval"] is None
    assert "interval" not in plain.message


def test_a_breach_takes_the_interval_without_solved_groups_too() -> None:
    rule = replace(LOW, excuse_solved=True)

    def judged(unsolved: Found, value: float = 0.15) -> str:
        step = step_of(0.1, interval(0.05, 0.15), **{UNSOLVED: value})
        return rule.judge(
            [replace(step, intervals=step.intervals | {(UNSOLVED, LEVEL): unsolved})]
        ).reading

    assert judged(interval(0.1, 0.19)) == "breached"
    assert judged(interval(0.1, 0.4)) == "between"
    assert judged(interval(0.1, 0.19, "heavy tail")) == "between"
    assert judged("every group is solved") == "between"
    assert judged(interval(0.3, 0.4), value=0.35) == "solved"
    unknown = step_of(0.1, interval(0.05, 0.15), **{UNSOLVED: None})
    assert rule.judge([unknown]).reading == "breached"
    solved = step_of(0.1, interval(0.05, 0.4), success_rate=0.95)
    assert rule.judge([solved]).reading == "solved"
    unclear = rule.judge([step_of(0.25, interval(0.1, 0.4), success_rate=0.95)])
    assert (unclear.reading, unclear.why) == ("between", "")
    assert set(rule.demands) == {(METRIC, LEVEL), (UNSOLVED, LEVEL)}


def test_of_a_mean_the_ends_are_the_means_of_the_ends() -> None:
    rule = replace(LOW, mean_of=2)
    pair = [step_of(0.1, interval(0.0, 0.3)), step_of(0.12, interval(0.02, 0.08))]
    judgement = rule.judge(pair)
    assert judgement.interval is not None
    assert (judgement.interval.low, judgement.interval.high) == pytest.approx((0.01, 0.19))
    assert (judgement.interval.n, judgement.interval.groups) == (512, 64)
    assert judgement.reading == "breached"
    doubtful = [pair[0], step_of(0.12, interval(0.02, 0.08, "heavy tail"))]
    assert rule.judge(doubtful).reading == "between"
    assert rule.judge([step_of(0.1, "no groups"), pair[1]]).reading == "no data"


def test_a_rule_is_undecided_where_doubt_alone_keeps_it_from_firing() -> None:
    rule = replace(LOW, for_steps=3)
    good, bad, unclear = step_of(0.9), step_of(0.1), step_of(0.25, interval(0.1, 0.4))
    assert fold(rule, [unclear, unclear])[0].doubt is None
    track, _ = fold(rule, [good, bad, unclear, bad])
    assert track.doubt is not None
    assert (track.doubt.since, track.doubt.step, track.doubt.value) == (1, 2, 0.25)
    assert track.doubt.message.startswith(
        "low: ess_contribution = 0.25 at step 2, undecided since step 1: the 90 % interval of"
    )
    assert fold(rule, [unclear] * 5 + [good])[0].doubt is None
    missing, _ = fold(rule, [step_of(0.9, "group_id is not logged")] * 3)
    assert missing.doubt is not None
    assert "no interval: group_id is not logged" in missing.doubt.message
    firing, _ = fold(rule, [bad] * 3 + [unclear] * 3)
    assert firing.doubt is None
    hole = step_of(None)
    assert fold(rule, [unclear, unclear, *[hole] * 5, unclear])[0].doubt is not None
    assert fold(rule, [unclear, unclear, *[hole] * 6, unclear])[0].doubt is None


VALUES = st.floats(0.0, 1.0)
FOUND = st.one_of(
    st.tuples(VALUES, VALUES, st.sampled_from(["", "", "", "heavy tail"])).map(
        lambda drawn: interval(*sorted(drawn[:2]), drawn[2])
    ),
    st.just("2 groups of rows; an interval needs 3"),
)
STEPS = st.lists(
    st.tuples(st.none() | VALUES, FOUND, VALUES, FOUND, VALUES).map(
        lambda drawn: StepMetrics(
            {
                "step": 0,
                "attempt": 0,
                "n": 256,
                "complete": True,
                METRIC: drawn[0],
                UNSOLVED: drawn[2],
                "success_rate": drawn[4],
            },
            intervals={(METRIC, LEVEL): drawn[1], (UNSOLVED, LEVEL): drawn[3]},
        )
    ),
    min_size=1,
    max_size=12,
)
RULES = st.builds(
    lambda mean_of, for_steps, excuse, below: replace(
        LOW, mean_of=mean_of, for_steps=for_steps, excuse_solved=excuse, below=below, recover=None
    ),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([0.2, 0.5, 0.8]),
)


@FAST
@given(RULES, STEPS)
def test_a_demand_makes_no_breach_and_no_recovery_only_takes_them_back(
    rule: Rule, steps: list[StepMetrics]
) -> None:
    plain = replace(rule, demand_interval=None)
    for end in range(1, len(steps) + 1):
        judged, would = rule.judge(steps[:end]), plain.judge(steps[:end])
        if judged.reading in ("breached", "recovered", "solved"):
            assert (judged.reading, judged.value) == (would.reading, would.value)
        if judged.why:
            assert judged.reading in ("between", "no data")
        if would.reading == "no data":
            assert judged.reading == "no data"


@FAST
@given(RULES, STEPS)
def test_a_rule_is_in_doubt_exactly_where_it_would_fire_by_the_worst_case(
    rule: Rule, steps: list[StepMetrics]
) -> None:
    """Against a slow oracle that counts back from the last step."""
    track, fired = fold(rule, steps)
    judged = [rule.judge(steps[: end + 1]) for end in range(len(steps))]
    possible, silent = 0, 0
    for judgement in reversed(judged):
        if judgement.reading == "no data" and not judgement.why:
            silent += 1
            if silent > 5:
                break
            continue
        silent = 0
        if judgement.reading != "breached" and not judgement.why:
            break
        possible += 1
    expected = track.current is None and possible >= rule.for_steps
    assert (track.doubt is not None) == expected
    assert all(alert.interval is not None for alert in fired if not rule.excuse_solved)


@FAST
@given(RULES, STEPS)
def test_a_wider_interval_decides_no_more(rule: Rule, steps: list[StepMetrics]) -> None:
    def widened(found: Found) -> Found:
        if isinstance(found, str):
            return found
        return replace(found, low=found.low / 2, high=(1 + found.high) / 2)

    wide = [
        replace(step, intervals={key: widened(found) for key, found in step.intervals.items()})
        for step in steps
    ]
    of_wide, of_narrow = rule.judge(wide), rule.judge(steps)
    if of_wide.reading in ("breached", "recovered"):
        assert of_narrow.reading == of_wide.reading
    if of_narrow.why:
        assert of_wide.why


TEXT = "version = 1\n[rules.mine]\nmetric = 'ess_signal'\n"


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (TEXT + "below = 0.2\ndemand_interval = 90\n", 5, "between 0 and 1, not 90"),
        (TEXT + "below = 0.2\ndemand_interval = 0\n", 5, "between 0 and 1, not 0"),
        (TEXT + "below = 0.2\ndemand_interval = nan\n", 5, "between 0 and 1, not nan"),
        (TEXT + "below = 0.2\ndemand_interval = true\n", 5, "must be a number"),
        (TEXT + "falls_by = 0.2\ndemand_interval = 0.9\n", 5, "not with falls_by"),
        (TEXT + "drifts_below = 0.2\ndemand_interval = 0.9\n", 5, "not with drifts_below"),
        (TEXT + "above = 'ess_weight'\ndemand_interval = 0.9\n", 5, "cannot go with a column"),
        (
            TEXT.replace("ess_signal", "reward") + "below = 0.2\ndemand_interval = 0.9\n",
            5,
            "reward has no interval of the population; known: ess_weight, ess_signal",
        ),
    ],
)
def test_mistakes_name_their_line(text: str, line: int, why: str) -> None:
    with pytest.raises(PolicyError, match=why) as error:
        parse_policy(text, "p.toml")
    assert f"line {line}" in str(error.value)


@pytest.mark.parametrize("metric", INTERVAL_METRICS)
def test_a_policy_names_the_intervals_it_demands(metric: str) -> None:
    text = TEXT.replace("ess_signal", metric) + "below = 0.2\ndemand_interval = 0.9\n"
    assert parse_policy(text, "p.toml").demanded == {(metric, 0.9)}
    assert not parse_policy(TEXT + "below = 0.2\n", "p.toml").demanded


def test_a_calibrated_policy_keeps_the_demand() -> None:
    none = score([LOW], [])
    choices = (Choice(LOW, LOW, none, none, "kept"),)
    written = calibrated_toml(Calibration(Policy((LOW,)), 0.01, choices, None, ()))
    assert parse_policy(written, "calibrated").rules == (LOW,)
