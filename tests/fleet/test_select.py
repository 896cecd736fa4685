import math
from dataclasses import replace
from typing import Any

import pytest

from mmhealth.errors import SelectionError
from mmhealth.fleet import RunSummary, WorstMetric, select_runs
from mmhealth.fleet.select import varied_settings
from mmhealth.fleet.summary import Lead

WORST = WorstMetric(
    rule="ess_signal",
    metric="ess_signal",
    severity="warning",
    firing=False,
    step=9,
    value=0.4,
    threshold=0.2,
    headroom=2.0,
    trend="steady",
    slope=0.0,
    course=(0.5, 0.4),
)


def run(name: str, verdict: Any, headroom: float | None, **config: Any) -> RunSummary:
    worst = None if headroom is None else replace(WORST, headroom=headroom)
    lead = Lead(10, 10 + config["seed"]) if verdict == "critical" else None
    return RunSummary(
        path=f"runs/{name}",
        name=name,
        label=name,
        verdict=verdict,
        why="",
        worst=worst,
        lead=lead,
        config=config,
    )


SMALL = {"model": "small"}
RUNS = [
    run(
        "a-healthy",
        "healthy",
        1.5,
        **{"optimizer.lr": 1e-5, "seed": 1, "model": "Big-7B", "ratio": math.nan, "flag": True},
    ),
    run(
        "b-critical",
        "critical",
        0.5,
        **{"optimizer.lr": 1e-6, "seed": 2, "note": "lr[1]", "ratio": "auto"} | SMALL,
    ),
    run(
        "c-critical",
        "critical",
        0.3,
        **{"optimizer.lr": 1e-6, "seed": 3, "ratio": math.inf} | SMALL,
    ),
    run("d-warning", "warning", 0.9, **{"optimizer.lr": 1e-5, "seed": 4} | SMALL),
    run("e-unreadable", "unreadable", None),
]


def names(*conditions: str, sort: str = "verdict", reverse: bool = False) -> str:
    chosen = select_runs(RUNS, conditions, sort, reverse=reverse)
    return "".join(found.label[0] for found in chosen)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], "cbeda"),
        (["verdict=critical"], "cb"),
        (["verdict=critical,warning"], "cbd"),
        (["verdict!=critical,unreadable"], "da"),
        (["optimizer.lr=0.000001"], "cb"),
        (["lr=1e-5"], "da"),
        (["config.seed>=3"], "cd"),
        (["seed<3", "lr=1e-6"], "b"),
        (["model=BIG*"], "a"),
        (["model!=small"], "ea"),
        (["critical"], "cb"),
        (["headroom<1"], "cbd"),
        (["lead > 2"], "c"),
        (["name=*-w*"], "d"),
        (["verdict==critical", "seed==2"], "b"),
        (["note=lr[1]"], "b"),
        (["ratio=nan"], "a"),
        (["ratio>0"], "c"),
        (["flag>0"], ""),
        (["flag=true"], "a"),
    ],
)
def test_filters_combine(conditions: list[str], expected: str) -> None:
    assert names(*conditions) == expected


@pytest.mark.parametrize(
    ("sort", "up", "down"),
    [
        ("verdict", "cbeda"[:2] + "eda", "adebc"),
        ("name", "abcde", "edcba"),
        ("headroom", "cbdae", "adbce"),
        ("lead", "bceda", "cbeda"),
        ("seed", "abcde", "dcbae"),
        ("lr", "cbdae", "dacbe"),
        ("ratio", "cbeda", "bceda"),
    ],
)
def test_what_is_not_known_comes_last_either_way(sort: str, up: str, down: str) -> None:
    assert names(sort=sort) == up
    assert names(sort=sort, reverse=True) == down


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("verdict=", "has no value"),
        ("flavour=1", "no run has 'flavour': there are verdict, name.*settings optimizer.lr"),
        ("model<x", "'x' is not a number"),
        ("lr<nan", "'nan' is not a number"),
        ("lr=>1e-5", "no value begins with '>'; signs are =, !=, <"),
    ],
)
def test_a_filter_that_makes_no_sense_says_why(condition: str, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        names(condition)


def test_a_short_name_must_mean_one_setting() -> None:
    both = [replace(RUNS[0], config={"actor.lr": 1, "critic.lr": 2})]
    with pytest.raises(SelectionError, match=r"can mean actor\.lr, critic\.lr"):
        select_runs(both, ["lr=1"], reverse=False)


def test_the_settings_that_vary_are_those_of_the_sweep() -> None:
    same = [replace(item, config=item.config | {"nodes": 8}) for item in RUNS[:4]]
    assert varied_settings([*same, RUNS[4]]) == [
        "optimizer.lr", "seed", "model", "ratio", "flag", "note",
    ]  # fmt: skip
