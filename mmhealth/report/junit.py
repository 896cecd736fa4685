"""The gate as JUnit XML: one test suite a run, one test case a rule."""

import re
import xml.etree.ElementTree as ET

from mmhealth.health import Alert, Rule
from mmhealth.report.baseline import Check
from mmhealth.report.gate import Gate, RunDecision

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(gate: Gate) -> str:
    """XML text.

    A rule that breaches is a failure, one without data or not decided by its intervals is skipped;
    alerts that do not breach are in the case's output. What can be said only of the run as a whole
    is the case ``data``; each comparison with a baseline is a case of its own. It fits the XSD of
    Jenkins' xunit plugin.
    """
    suites = ET.Element("testsuites", name="mmhealth gate")
    for run in gate.runs:
        suites.append(_suite(run))
    for name in ("tests", "failures", "errors"):
        suites.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _suite(run: RunDecision) -> ET.Element:
    suite = ET.Element("testsuite", name=_clean(run.label))
    case = _case(suite, run, "data")
    if run.outcome in ("insufficient", "unreadable"):
        error = ET.SubElement(case, "error", type=run.outcome, message=_clean(run.why))
        error.text = _clean(f"{run.path}: {run.why}")
    if run.audit is not None:
        breaching = {id(alert) for alert in run.breaching}
        for rule in run.audit.monitor.policy.rules:
            alerts = [alert for alert in run.audit.standing if alert.rule == rule.name]
            failing = [alert for alert in alerts if id(alert) in breaching]
            silent = run.audit.rules[rule.name] == "no data" and not alerts
            why = f"no data for {rule.metric}" if silent else ""
            for doubt in run.doubts:
                why = f"not decided: {doubt.message}" if doubt.rule == rule.name else why
            _judge(_case(suite, run, rule.name), rule, alerts, failing, skipped=why)
    for check in run.checks:
        _hold(_case(suite, run, f"baseline: {check.name}"), check)
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    return suite


def _case(suite: ET.Element, run: RunDecision, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=_clean(run.label), name=_clean(name))


def _judge(
    case: ET.Element, rule: Rule, alerts: list[Alert], failing: list[Alert], *, skipped: str
) -> None:
    if failing:
        failure = ET.SubElement(
            case, "failure", type=rule.severity, message=_clean(failing[0].message)
        )
        failure.text = _clean("\n".join(filter(None, (rule.meaning, rule.fix))))
    elif skipped:
        ET.SubElement(case, "skipped", message=_clean(skipped))
    others = [alert for alert in alerts if alert not in failing]
    if others:
        output = ET.SubElement(case, "system-out")
        output.text = _clean("\n".join(f"{a.severity}, {a.state}: {a.message}" for a in others))


def _hold(case: ET.Element, check: Check) -> None:
    why = _clean(check.why)
    if check.reading == "worse":
        ET.SubElement(case, "failure", type="worse than the baseline", message=why)
    elif check.reading == "insufficient":
        ET.SubElement(case, "skipped", message=why)
    else:
        ET.SubElement(case, "system-out").text = why


def _clean(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
