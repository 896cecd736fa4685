"""The health of a run as OpenMetrics text, which Prometheus scrapes.

The format: OpenMetrics 1.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/).
"""

from collections.abc import Iterable, Mapping
from typing import get_args

from mmhealth.health import Monitor, judge_run
from mmhealth.health.alerts import SEVERITIES
from mmhealth.health.verdict import VerdictName
from mmhealth.integrations.trackers.catalogue import CATALOGUE
from mmhealth.integrations.trackers.steps import PREFIX, health_values

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_ALERTS = {f"alerts_{severity}" for severity in SEVERITIES}


def render_openmetrics(monitor: Monitor | None, run: str, now: float) -> str:
    """The exposition of what a monitor has read, with the label ``run``.

    What is not known has no sample. ``monitor`` is None for a run that cannot be read (yet): only
    ``mmhealth_run_readable`` is left. ``now`` is in seconds since 1970.
    """
    about = {"run": run}
    lines = _family(
        "run_readable", "gauge", "", "1 when the run can be read", [(about, float(bool(monitor)))]
    )
    if monitor is not None:
        verdict = judge_run(monitor).name
        lines += _verdict(verdict, about)
        lines += _rules(monitor, about)
        if visible := monitor.timeline.visible():
            key, metrics = visible[-1]
            lines += _step(key.step, float(metrics.values["time"]), now, about)
            values = health_values(metrics.values, monitor, verdict)
            for name, (unit, meaning) in CATALOGUE.items():
                if name not in _ALERTS and (value := values.get(PREFIX + name)) is not None:
                    lines += _family(name, "gauge", unit, meaning, [(about, value)])
    return "\n".join([*lines, "# EOF", ""])


def metric_name(name: str) -> str:
    """What a number of the catalogue is called here: with its unit at the end."""
    unit = CATALOGUE[name].unit
    return f"mmhealth_{name}_{unit}" if unit else f"mmhealth_{name}"


def _verdict(verdict: VerdictName, about: Mapping[str, str]) -> list[str]:
    states = [
        ({**about, "mmhealth_verdict": name}, float(name == verdict))
        for name in get_args(VerdictName)
    ]
    return _family("verdict", "stateset", "", "Verdict on the run", states)


def _rules(monitor: Monitor, about: Mapping[str, str]) -> list[str]:
    states = monitor.rule_engine.states()
    firing = [
        ({**about, "rule": rule.name, "severity": rule.severity}, states[rule.name] == "firing")
        for rule in monitor.policy.rules
        if states[rule.name] != "no data"
    ]
    fired = [
        (
            {**about, "severity": severity},
            sum(a.severity == severity and a.state != "superseded" for a in monitor.alerts),
        )
        for severity in SEVERITIES
    ]
    meaning = "1 while an alert of the rule is firing; a rule without data has no sample"
    return [
        *_family("rule_firing", "gauge", "", meaning, firing),
        *_family("alerts", "gauge", "", "Alerts that have fired, resolved ones too", fired),
    ]


def _step(step: int, committed: float, now: float, about: Mapping[str, str]) -> list[str]:
    age = max(now - committed, 0.0)
    return [
        *_family("step", "gauge", "", "last step that was judged", [(about, step)]),
        *_family(
            "last_step_timestamp_seconds",
            "gauge",
            "seconds",
            "when the last judged step was committed, since 1970",
            [(about, committed)],
        ),
        *_family(
            "last_step_age_seconds",
            "gauge",
            "seconds",
            "time since the last judged step was committed",
            [(about, age)],
        ),
    ]


def _family(
    name: str,
    kind: str,
    unit: str,
    meaning: str,
    samples: Iterable[tuple[Mapping[str, str], float]],
) -> list[str]:
    name = f"mmhealth_{name}"
    if unit and not name.endswith(f"_{unit}"):
        name += f"_{unit}"
    lines = [f"# TYPE {name} {kind}"]
    lines += [f"# UNIT {name} {unit}"] if unit else []
    lines.append(f"# HELP {name} {_escape(meaning[:1].upper() + meaning[1:])}.")
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{inside}}} {float(value)!r}")
    return lines


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
