"""What signs add up to, and the table of modes."""

import json

import pytest

from mmhealth.cli import main
from mmhealth.health import Monitor
from mmhealth.health.diagnosis import MODES, Sign, diagnose, rank
from mmhealth.health.diagnosis.rank import PRESENT, SIGNS, THIN, confidence
from mmhealth.runlog import open_run

STALE, COLLAPSE, STUCK = "staleness", "estimator collapse", "premature specialisation"


def signs(**strengths):
    names = {"stale": STALE, "collapse": COLLAPSE, "stuck": STUCK}
    quiet = dict.fromkeys(MODES, Sign(0.0))
    since = {"stale": 3, "collapse": 3, "stuck": 7}
    return quiet | {
        names[key]: Sign(value, since[key], ("it shows",)) for key, value in strengths.items()
    }


def test_every_mode_has_a_sign_and_explains_known_modes():
    assert set(SIGNS) == set(MODES)
    for mode in MODES.values():
        assert set(mode.explains) <= set(MODES) - {mode.name}


def test_nothing_explains_itself_in_a_circle():
    def below(name):
        return set(MODES[name].explains).union(*(below(next_) for next_ in MODES[name].explains))

    for name in MODES:
        assert name not in below(name)


@pytest.mark.parametrize("mode", MODES.values(), ids=lambda mode: mode.name)
def test_the_import_line_imports(mode):
    assert mode.import_line.startswith("from mmhealth")
    exec(mode.import_line, {})
    assert mode.todo
    assert mode.about


def test_a_consequence_comes_after_its_cause():
    found = rank(signs(stale=1.2, stuck=2.0), {})
    assert [item.mode for item in found.findings] == [STALE, STUCK]
    assert found.findings[1].follows_from == STALE
    assert found.findings[1].confidence < confidence(2.0)


def test_what_shows_first_follows_from_nothing():
    found = rank(signs(stuck=1.2) | {STALE: Sign(1.5, 20, ("it shows",))}, {})
    assert [item.follows_from for item in found.findings] == [None, None]
    assert found.first.mode == STALE


def test_the_stronger_of_two_causes_is_first():
    found = rank(signs(stale=1.2, collapse=1.9), {})
    assert [item.mode for item in found.findings] == [COLLAPSE, STALE]
    assert all(item.follows_from is None for item in found.findings)


def test_rivals_that_are_not_told_apart_are_undetermined():
    tied = signs(stale=1.5, collapse=1.5)
    tied[STALE] = Sign(1.5, 7, ("it shows",), {COLLAPSE: "not ruled out: it is not logged"})
    found = rank(tied, {})
    assert (found.outcome, found.first) == ("undetermined", None)
    assert STALE in found.why
    assert COLLAPSE in found.why
    tied[STALE] = Sign(1.5, 7, ("it shows",), {COLLAPSE: "ruled out: by its part"})
    assert rank(tied, {}).outcome == "diagnosed"


def test_thin_evidence_is_undetermined():
    found = rank(signs(stale=(THIN + PRESENT) / 2), {})
    assert (found.outcome, found.findings) == ("undetermined", ())
    assert found.borderline[0].mode == STALE


def test_quiet_signs_are_healthy_and_missing_ones_are_named():
    quiet = signs()
    del quiet[STALE]
    found = rank(quiet, {STALE: "behavior_lag is not logged"})
    assert found.outcome == "healthy"
    assert "1 of" in found.why
    assert STALE not in found.ruled_out


def test_nothing_to_judge_is_insufficient():
    why = dict.fromkeys(MODES, "log_weight is not logged")
    found = rank({}, why)
    assert (found.outcome, found.why) == ("insufficient data", "log_weight is not logged")


def test_confidence_rises_with_strength_and_is_never_certain():
    values = [confidence(strength) for strength in (0.0, 0.5, 1.0, 2.0, 10.0, 1e9)]
    assert values == sorted(values)
    assert 0.0 == values[0] < values[2] < 0.7 < values[-1] < 1.0


def test_a_monitor_says_what_its_run_says(healthy_course):
    monitor = Monitor(healthy_course.path)
    monitor.poll()
    assert diagnose(monitor) == diagnose(healthy_course) == diagnose(healthy_course)


def test_names_and_configuration_do_not_matter(course, tmp_path):
    run = course()
    renamed = run.path.rename(tmp_path / "staleness")
    about = json.loads((renamed / "run.json").read_text())
    about |= {"name": "staleness", "config": {"lag": 100, "world": "staleness"}}
    (renamed / "run.json").write_text(json.dumps(about))
    assert diagnose(open_run(renamed)).outcome == "healthy"


def test_the_command_prints_text_and_json(course, capsys, monkeypatch):
    def old(batch):
        batch.columns["behavior_lag"] = [12] * len(batch.grad_norm)
        batch.parts["age"] = 2 * batch.rng.normal(size=len(batch.grad_norm))

    path = str(course(old).path)
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        main(["diagnose", path])
    text = capsys.readouterr().out
    assert end.value.code in (0, None)
    assert "1. staleness" in text
    assert "What to do" in text
    assert MODES[STALE].import_line in text
    with pytest.raises(SystemExit):
        main(["diagnose", path, "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["outcome"] == "diagnosed"
    assert printed["findings"][0]["mode"] == STALE
    assert printed["findings"][0]["import"] == MODES[STALE].import_line


def test_the_command_ends_with_3_without_data(course, capsys):
    with pytest.raises(SystemExit) as end:
        main(["diagnose", str(course(steps=3).path)])
    assert end.value.code == 3
    assert "Insufficient data" in capsys.readouterr().out
