"""Cards, alerts and table: what they say."""

import json

import pytest

from mmhealth import Recorder
from mmhealth.dashboards import alertlist, health, table
from mmhealth.dashboards.watcher import RunWatcher
from mmhealth.health import Policy, Rule

POLICY = Policy(
    (
        Rule(
            name="ess_signal",
            metric="ess_signal",
            below=0.2,
            recover=0.25,
            for_steps=3,
            severity="critical",
            meaning="A few make the update.",
            fix="Restore contrast.",
        ),
        Rule(name="ess_contribution", metric="ess_contribution", below=0.15),
        Rule(name="nonfinite", metric="nonfinite", above=0, severity="critical"),
    )
)


def watch(path, number=0):
    watched = RunWatcher(path, path.name, number, POLICY, 1.0)
    watched.poll()
    return watched


@pytest.fixture
def collapsed(tmp_path):
    with Recorder(tmp_path / "collapsed") as recorder:
        for step in range(20):
            live = 64 if step in (8, 9) or step < 4 else 1
            advantage = [1.0] * live + [0.0] * (64 - live)
            norms = [float("inf")] + [1.0] * 63
            columns = {"reward": [0.5] * 64, "advantage": advantage, "grad_norm": norms}
            recorder.log_step(step, columns)
    return watch(tmp_path / "collapsed")


def test_a_card_says_verdict_step_age_and_rows(collapsed):
    snapshot = collapsed.snapshot
    card = health.describe(snapshot, now=snapshot.status.last_commit + 42.4)
    assert card.verdict == card.tone == "critical"
    assert "ess_signal" in card.why
    assert (card.step, card.last_row, card.rows) == ("19", "42 s ago", "1,280 / 1,280")
    assert card.losses == ""


def test_age_never_becomes_a_diagnosis(collapsed):
    snapshot = collapsed.snapshot
    last = snapshot.status.last_commit
    said = [health.describe(snapshot, last + s).last_row for s in (-5, 119, 600, 9e3, 3e5)]
    assert said == ["0 s ago", "119 s ago", "10 min ago", "2 h ago", "3 days ago"]


def test_loss_of_data_is_said_in_words(tmp_path):
    with Recorder(tmp_path / "r") as recorder:
        for step in range(3):
            recorder.log_step(step, {"reward": [1.0] * 4})
    (segment,) = (tmp_path / "r" / "trajectories").iterdir()
    segment.write_bytes(b"no Parquet")
    card = health.describe(watch(tmp_path / "r").snapshot)
    assert card.rows == "0 / 12"
    assert segment.name in card.losses
    assert "12 of 12 committed rows cannot be read" in card.losses


def test_a_waiting_run_has_no_numbers(tmp_path):
    card = health.describe(watch(tmp_path / "r").snapshot)
    assert (card.verdict, card.step, card.rows) == ("waiting", "–", "–")


def test_alerts_are_one_entry_a_rule_firing_and_gravest_first(collapsed):
    entries = alertlist.collect_entries([collapsed.snapshot.view])
    rules = [(entry.latest.rule, entry.firing, len(entry.earlier)) for entry in entries]
    assert rules[0] == ("nonfinite", True, 0)
    assert ("ess_signal", True, 1) in rules
    assert alertlist.summarize(entries).endswith("firing")
    assert "ess_signal since step 12" in alertlist.announce(entries)
    text = json.dumps(
        [item.to_plotly_json() for item in alertlist.render_entries(entries)], default=str
    )
    assert "Fired once before: steps 6 to 8." in text
    assert "Fix: " in text


def test_no_alert_is_said(tmp_path):
    (item,) = alertlist.render_entries([])
    assert item.children == "No alert has fired."
    assert alertlist.summarize([]) == "none fires"


def test_the_table_is_json_and_shows_infinities(collapsed):
    found = collapsed.step(5)
    rows = table.rows(found.frame)
    assert len(rows) == 64
    assert rows[0]["grad_norm"] == "inf"
    json.dumps(rows, allow_nan=False)
    fields = [definition["field"] for definition in table.column_defs(found.frame)]
    assert fields[:3] == ["contribution_share", "contribution", "trajectory_id"]
    assert "attempt" not in fields
    assert "64 trajectories, largest contribution first" in table.describe("r", found)
